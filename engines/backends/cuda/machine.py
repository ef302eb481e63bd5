"""Check whether this machine can run on an NVIDIA GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

_PACKAGES = {
    "pycuda": "make cuda in a checkout, or pip install pycuda with the CUDA toolkit installed",
    "numba_cuda": "pip install 'numba-cuda[cu13]'",
}
# By CUDA: NVVM, which writes the code of a kernel, and nvJitLink, which links it.
COMPILERS = {
    13: ("nvidia-nvvm", "nvidia-nvjitlink"),
    12: ("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"),
}
_DRIVERS = {12: "525", 13: "580"}  # the first driver of a major version of CUDA


def driver_problem() -> str | None:
    """Return what is wrong with the NVIDIA driver or its GPU, with the remedy; None if nothing is.

    The driver is asked before any package is imported: TensorRT and PyCUDA fail in ways that
    cannot be caught on a machine without one.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (install the driver of your GPU)"
    major, minor = _cuda_of(driver)
    needed = cuda_of_packages()
    if major < needed:
        return (
            f"the NVIDIA driver knows CUDA {major}.{minor}, the installed packages need CUDA"
            f" {needed} (install driver {_DRIVERS.get(needed, 'of that version')} or newer)"
        )
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver reports error {status} (check nvidia-smi)"
    count = ctypes.c_int()
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return "no NVIDIA GPU (check nvidia-smi)"
    return None


def cuda_of_driver() -> tuple[int, int] | None:
    """Return the newest CUDA, major and minor, that the NVIDIA driver knows; None without one."""
    try:
        return _cuda_of(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        return None


def _cuda_of(driver: ctypes.CDLL) -> tuple[int, int]:
    found = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(found))  # the one call that needs no cuInit
    return found.value // 1000, found.value % 1000 // 10


def cuda_of_packages() -> int:
    """Return the major version of CUDA that Numba compiles for; 0 if that is not installed.

    A driver runs what was compiled for its own major version of CUDA, and for those before.
    """
    try:
        return int(version("cuda-bindings").split(".")[0])
    except PackageNotFoundError:
        return 0


def linker_problem() -> str | None:
    """Return why kernels cannot be linked, with the remedy; None if they can.

    nvJitLink refuses what an NVVM of a later release writes. Both come from one release with this
    package's extras, but other packages, such as PyTorch, ask for an nvJitLink of their own.
    """
    packages = COMPILERS.get(cuda_of_packages())
    if packages is None:
        return None
    compiler, linker = map(_release, packages)
    if compiler is None or linker is None or linker >= compiler:  # missing: of a whole toolkit
        return None
    wanted, found = (".".join(map(str, release)) for release in (compiler, linker))
    return (
        f"nvJitLink {found} is older than NVVM {wanted} and refuses what it writes"
        f" (pip install '{packages[1]}=={wanted}.*')"
    )


def _release(package: str) -> tuple[int, int] | None:
    """Return the first two numbers of a package's version; None if it is not installed."""
    try:
        major, minor = version(package).split(".")[:2]
        return int(major), int(minor)
    except (PackageNotFoundError, ValueError):
        return None


def machine_obstacles(packages: Mapping[str, str]) -> list[str]:
    """List what keeps a back end on an NVIDIA GPU from running here, most basic first.

    `packages` are those that it needs beside PyCUDA and Numba-CUDA, with their remedies.
    """
    found = [problem for problem in (driver_problem(), linker_problem()) if problem is not None]
    found += [
        f"Python package {package} is not installed ({remedy})"
        for package, remedy in {**packages, **_PACKAGES}.items()
        if find_spec(package) is None
    ]
    return found
