"""The computer without its GPU: Python, processor, libraries, cache folder."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from squeezedrive.engines.doctor.finding import Observation, ask
from squeezedrive.kernels.cache_folder import cache_folder

REINSTALL = "pip install -c constraints.txt -e . in a checkout, or pip install --force-reinstall"
# Of each library, its package, and code that prints its version in a process of its own.
_LIBRARIES = {
    "OpenVINO": (
        "openvino",
        # Without its telemetry, see engines.backends.cpu.openvino.
        "import sys; sys.modules['openvino_telemetry'] = None;"
        " import openvino; print(openvino.__version__)",
    ),
    "PyAV": ("av", "import av; print(f'{av.__version__}, FFmpeg {av.ffmpeg_version_info}')"),
    "OpenCV": ("opencv-python-headless", "import cv2; print(cv2.__version__)"),
    "Numba": ("numba", "import numba; print(numba.__version__)"),
}
# Of /proc/cpuinfo: the first flag that is there names the instructions.
_INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx_vnni", "avx512_vnni"),
    "AMX": ("amx_int8",),
    "dot product": ("asimddp",),  # of ARM processors
}


def examine_computer() -> list[Observation]:
    """Check everything that a run on the processor needs."""
    return [_python(), _processor(), *map(_library, _LIBRARIES), _cache()]


def _python() -> Observation:
    found = platform.python_version()
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Observation("Python", "problem", found, "use Python 3.10 to 3.13")
    return Observation("Python", "ok", found)


def _processor() -> Observation:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    return describe_processor(text)


def describe_processor(cpuinfo: str) -> Observation:
    """Return the processor's name and which of its instruction sets make int8 faster.

    Parameters
    ----------
    cpuinfo : str
        What Linux writes into /proc/cpuinfo.
    """
    fields = dict[str, str]()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(f"{fields.get('flags', '')} {fields.get('Features', '')}".split())
    has = [name for name, words in _INSTRUCTIONS.items() if flags.intersection(words)]
    name = fields.get("model name") or platform.machine()
    text = ", ".join([name, f"{os.cpu_count()} cores", *has])
    if not {"VNNI", "AMX", "dot product"}.intersection(has):
        text += "; no VNNI or AMX: int8 takes about twice as long as with them"
    return Observation("processor", "ok", text)


def _library(name: str) -> Observation:
    package, code = _LIBRARIES[name]
    answer = ask("-c", code)
    if not answer.failed:
        return Observation(name, "ok", answer.text)
    if answer.text.startswith("ModuleNotFoundError"):
        return Observation(
            name, "missing", answer.text.partition(": ")[2], f"pip install {package}"
        )
    return Observation(name, "problem", answer.text, f"{REINSTALL} {package}")


def _cache() -> Observation:
    folder = cache_folder("engines")
    if folder is None:
        return Observation(
            "cache folder", "problem", "there is no home directory: kernels are compiled and"
            " engines built at every start", "set XDG_CACHE_HOME to a folder",
        )  # fmt: skip
    folder = folder.parent
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        return Observation(
            "cache folder", "problem", f"{folder} cannot be written: kernels are compiled and"
            " engines built at every start", "set XDG_CACHE_HOME to a folder that can be written",
        )  # fmt: skip
    return Observation("cache folder", "ok", str(folder))
