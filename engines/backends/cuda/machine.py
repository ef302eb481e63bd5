"""What a machine has of the things that running on an NVIDIA GPU takes."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

PACKAGES = {
    "pycuda": "pip install pycuda, with the CUDA toolkit installed",
    "numba_cuda": "pip install 'numba-cuda[cu13]'",
}


def driver_problem() -> str | None:
    """Say what is wrong with the NVIDIA driver or its GPU, with the remedy; None if nothing is.

    The driver is asked before any package is imported: TensorRT and PyCUDA fail in ways that
    cannot be caught on a machine without one.
    """
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


def torch_obstacles() -> list[str]:
    """List what keeps PyTorch from running the network on a GPU here, each with its remedy."""
    problem = driver_problem()
    found = [] if problem is None else [problem]
    remedies = {"torch": "pip install torch", **PACKAGES}
    found += [
        f"Python package {package} is not installed ({remedy})"
        for package, remedy in remedies.items()
        if find_spec(package) is None
    ]
    if not found:  # importing PyTorch takes a second or two
        import torch

        if not torch.cuda.is_available():
            found.append("PyTorch finds no GPU (install a build of PyTorch for CUDA)")
    return found
