"""The GPU as the NVIDIA driver describes it, asked without any package and without a context."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from squeezedrive.engines.errors import BackendUnavailable

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_LONGEST_NAME = 256


class FirstGpu(NamedTuple):
    """The first GPU that CUDA shows to this process: its name, and (major, minor)."""

    name: str
    compute_capability: tuple[int, int]


def first_gpu() -> FirstGpu:
    """Return the first GPU; `tensorrt_obstacles` must have found no obstacle.

    Raises
    ------
    BackendUnavailable
        If the driver refuses.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_LONGEST_NAME)
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, _LONGEST_NAME, device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    ):
        if status != 0:
            raise BackendUnavailable(f"the NVIDIA driver reports error {status} (check nvidia-smi)")
    return FirstGpu(name.value.decode(errors="replace"), (major.value, minor.value))
