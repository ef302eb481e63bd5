"""The project on the substitute for a GPU, which is not part of the project.

    python -m tests.support.substitute        # builds PyCUDA for it, once, and runs all checks

The substitute translates the kernels' real PTX for the processor, with checks of races, bounds and
barriers. It gives the real PyCUDA and Numba-CUDA a fake driver, whose memory is the host's. Its own
checks import names of this project from a module `seams`: `tests.support.substitute_seams`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SQUEEZEDRIVE_SHARED", ROOT.parent / "shared")) / "tools" / "gpu"
BUILD_SECONDS = 1200
# Groups of checks, each with the environment variables that make the fake driver old or broken.
GROUPS: dict[str, dict[str, str]] = {
    "run": {},
    "nvdec": {},
    "old-driver": {"FAKE_VERSION": "12040"},
    "load-failure": {"FAKE_FAILLOAD": "222"},
}


def cache_folder() -> Path:
    """Return the folder in which the substitute keeps its build results."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gpu-substitute"


def pycuda_folder() -> Path | None:
    """Return the folder to import PyCUDA from; None if PyCUDA is not built yet."""
    installed = find_spec("pycuda")
    if installed is not None and installed.origin is not None:
        return Path(installed.origin).parents[1]
    tag = f"pycuda-{_pin()}-{sys.implementation.cache_tag}-{os.uname().machine}"
    folder = cache_folder() / tag
    return folder / "site" if (folder / "done").exists() else None


def build_pycuda() -> None:
    """Build PyCUDA for the substitute, which takes 3 to 8 minutes; progress goes to stderr."""
    environment = _environment()
    driver = environment["LD_LIBRARY_PATH"].split(":")[0]
    subprocess.run(
        ["bash", FOLDER / "pycuda.sh", sys.executable, _pin(), driver],
        env=environment, stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS, check=True,
    )  # fmt: skip


def run_kernels(timeout: float) -> subprocess.CompletedProcess[str]:
    """Run the tests of the kernels on their real PTX."""
    tests = sorted((ROOT / "tests" / "kernels").glob("test_cuda_*.py"))
    options = ["-p", "gpu_substitute.pytest_plugin", "-p", "no:cacheprovider", "-m", "gpu"]
    return _run(["-m", "pytest", *options, "-o", f"timeout={timeout}", *tests], {}, timeout)


def run_checks(group: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run one of the `GROUPS` of checks with the real PyCUDA and Numba-CUDA."""
    return _run(["-m", "gpu_substitute.run", __file__, group], GROUPS[group], timeout)


def _run(
    arguments: Sequence[str | Path], variables: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=_environment() | variables, cwd=ROOT, timeout=timeout,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Return the environment for the fake driver; build the driver if necessary."""
    environment = os.environ | {
        "GPU_SUBSTITUTE_CACHE": str(cache_folder()),
        "GPU_SUBSTITUTE_SITE": str(pycuda_folder() or ""),
        "NUMBA_CACHE_DIR": str(cache_folder() / "numba"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{FOLDER}:{ROOT}",
        "FAKE_CC": "9.0",
    }
    for unwanted in ("NUMBA_ENABLE_CUDASIM", "CUDA_VISIBLE_DEVICES"):
        environment.pop(unwanted, None)
    built = subprocess.run(
        [sys.executable, FOLDER / "gpu_substitute" / "build.py"],
        env=environment, stdout=subprocess.PIPE, text=True, timeout=100, check=True,
    )  # fmt: skip
    before = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = built.stdout.strip() + (f":{before}" if before else "")
    return environment


def _pin() -> str:
    (version,) = re.findall(r"^pycuda==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    return str(version)


def _check(group: str) -> int:
    """Run a group of checks in this process; return how many fail."""
    sys.path.append(str(FOLDER / "checks"))
    sys.modules["seams"] = import_module("tests.support.substitute_seams")
    checks: Any = import_module("checks")
    import_module("tests.support.substitute_checks").add_checks(checks)
    failed: int = checks.run_group(group)
    return failed


def main() -> int:
    """Build what is missing and run everything; return 0 if nothing fails."""
    if not FOLDER.is_dir():
        print(f"error: no substitute at {FOLDER} (SQUEEZEDRIVE_SHARED)", file=sys.stderr)
        return 2
    if pycuda_folder() is None:
        build_pycuda()
    failed = 0
    for group in GROUPS:
        done = run_checks(group, 600)
        print(done.stdout, end="")
        if done.returncode:
            print(done.stderr, end="")
        failed += done.returncode != 0
    kernels = run_kernels(1800)
    print(kernels.stdout)
    return int(failed > 0 or kernels.returncode != 0)


if __name__ == "__main__":
    sys.exit(_check(sys.argv[1]) if sys.argv[1:] else main())
