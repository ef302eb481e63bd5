"""TensorRT executes the network: engines are built, kept and run here.

This file only says what that needs and whether this machine has it, and imports nothing.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

_PACKAGES = {
    "tensorrt": "pip install tensorrt-cu13",
    "pycuda": "pip install pycuda, with the CUDA toolkit installed",
    "numba_cuda": "pip install 'numba-cuda[cu13]'",
}


def obstacles() -> list[str]:
    """List what keeps TensorRT from running here, most basic first, each with its remedy.

    The driver is asked before any package is imported: TensorRT and PyCUDA fail in ways that
    cannot be caught on a machine without one.
    """
    found = []
    if (problem := _driver_problem()) is not None:
        found.append(problem)
    found += [
        f"Python package {package} is not installed ({remedy})"
        for package, remedy in _PACKAGES.items()
        if find_spec(package) is None
    ]
    return found


def _driver_problem() -> str | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (install the driver of your GPU)"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver reports error {status} (check nvidia-smi)"
    count = ctypes.c_int()
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return "no NVIDIA GPU (check nvidia-smi)"
    return None
