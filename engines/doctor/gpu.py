"""The NVIDIA GPU: driver and packages, by their versions; none of them is loaded."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from squeezedrive.engines.backends.cuda.machine import (
    COMPILERS,
    cuda_of_driver,
    cuda_of_packages,
    driver_problem,
    linker_problem,
)
from squeezedrive.engines.backends.tensorrt.driver import first_gpu
from squeezedrive.engines.doctor.finding import Observation, installed, numbers
from squeezedrive.engines.errors import BackendUnavailable

MAKE = "make cuda, or make cuda CUDA=12 for drivers before 580"
OLDEST_GPU = (7, 5)  # that CUDA 13 compiles for
TENSORRT = (10, 11)  # versions whose names and signatures are tested
_NVDEC = "PyNvVideoCodec"
_TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")


def examine_gpu() -> list[Observation]:
    """Check everything that the back ends on an NVIDIA GPU need, most basic first."""
    return [
        _driver(),
        _gpu(),
        _package("PyCUDA", "pycuda", ("pycuda",), MAKE),
        _package("Numba-CUDA", "numba_cuda", ("numba-cuda",), MAKE),
        _kernel_compiler(),
        _tensorrt(),
        _torch(),
        _package("PyNvVideoCodec", _NVDEC, (_NVDEC,), f"pip install {_NVDEC}; --decode nvdec"),
        _cpp_compiler(),
    ]


def _driver() -> Observation:
    known = cuda_of_driver()
    if known is None:
        return Observation(
            "NVIDIA driver", "missing", "no libcuda.so.1", "install the driver of your GPU"
        )
    problem = driver_problem()
    if problem is not None and "knows CUDA" in problem:
        text, remedy = _split(problem)
        return Observation("NVIDIA driver", "problem", text, f"{remedy}, or make cuda CUDA=12")
    try:
        version = Path("/sys/module/nvidia/version").read_text().strip() + ", "
    except OSError:
        version = ""
    needed = cuda_of_packages()
    needs = f", the installed packages need CUDA {needed}" if needed else ""
    return Observation("NVIDIA driver", "ok", f"{version}knows CUDA {known[0]}.{known[1]}{needs}")


def _gpu() -> Observation:
    problem = driver_problem()
    if problem is not None:
        if cuda_of_driver() is None or "knows CUDA" in problem:
            return Observation("GPU", "missing", "not checked: needs the driver first")
        return Observation("GPU", "problem", *_split(problem))
    try:
        gpu = first_gpu()
    except BackendUnavailable as error:
        return Observation("GPU", "problem", *_split(str(error)))
    major, minor = gpu.compute_capability
    text = f"{gpu.name}, compute capability {major}.{minor}"
    if cuda_of_packages() >= 13 and gpu.compute_capability < OLDEST_GPU:
        return Observation("GPU", "problem", f"{text}: too old for CUDA 13", "make cuda CUDA=12")
    return Observation("GPU", "ok", text)


def _split(problem: str) -> tuple[str, str]:
    """Split a problem from its remedy, which follows in parentheses."""
    text, _, remedy = problem.partition(" (")
    return text, remedy.removesuffix(")")


def _package(name: str, module: str, packages: tuple[str, ...], remedy: str) -> Observation:
    if find_spec(module) is None:
        return Observation(name, "missing", "not installed", remedy)
    return Observation(name, "ok", installed(packages) or "installed, of unknown version")


def _kernel_compiler() -> Observation:
    name = "NVVM, nvJitLink"
    nvvm, nvjitlink = COMPILERS.get(cuda_of_packages(), COMPILERS[13])
    compiler, linker = installed((nvvm,)), installed((nvjitlink,))
    if compiler is None and linker is None:
        return Observation(name, "missing", "not installed", MAKE)
    text = f"{compiler or 'no NVVM'}, {linker or 'no nvJitLink'}"
    if compiler is None or linker is None:
        return Observation(name, "problem", text, MAKE)
    problem = linker_problem()
    if problem is not None:
        return Observation(name, "problem", *_split(problem))
    return Observation(name, "ok", text)


def _tensorrt() -> Observation:
    cuda = cuda_of_packages() or 13
    install = f"pip install tensorrt-cu{cuda}"
    found = _package("TensorRT", "tensorrt", _TENSORRT, f"{install}; or PyTorch in its place")
    known = numbers(found.text)
    if found.state == "ok" and known and known[0] not in TENSORRT:
        return Observation("TensorRT", "problem", f"{found.text}, expected 10 or 11", install)
    return found


def _torch() -> Observation:
    found = _package("PyTorch", "torch", ("torch",), "pip install torch; optional beside TensorRT")
    if found.text.endswith("+cpu"):
        return Observation(
            "PyTorch", "problem", f"{found.text}, a build without CUDA",
            "pip install torch from the index that pytorch.org names for your CUDA;"
            " optional beside TensorRT",
        )  # fmt: skip
    return found


def _cpp_compiler() -> Observation:
    compiler = shutil.which("g++")
    if compiler is None:
        return Observation(
            "C++ compiler", "missing", "no g++; needed once, to build PyCUDA",
            "apt install g++ python3-dev",
        )  # fmt: skip
    return Observation("C++ compiler", "ok", f"{compiler}; needed once, to build PyCUDA")
