"""The entry of TensorRT in the table of back ends; it is imported when it is opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.cuda.machine import cuda_of_packages, machine_obstacles

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import Backend, BackendOptions, EngineSettings

log = logging.getLogger("squeezedrive")


def tensorrt_obstacles() -> list[str]:
    """List what keeps TensorRT from running here, most basic first, each with its remedy."""
    return machine_obstacles({"tensorrt": f"pip install tensorrt-cu{cuda_of_packages() or 13}"})


def open_tensorrt(
    settings: EngineSettings, options: Sequence[BackendOptions], reason: str
) -> Backend:
    """Load the engine of the network, or build it, and run it once.

    Raises
    ------
    BackendUnavailable, GpuMemoryError, GpuLost
        See `engines.backends.cuda.backend.open_cuda`.
    ConfigError
        If 8-bit integers are asked for and there is no quantised model.
    """
    from squeezedrive.engines.backends.base import find_options
    from squeezedrive.engines.backends.cuda.backend import MAX_BATCH, open_cuda
    from squeezedrive.engines.backends.cuda.options import CudaOptions
    from squeezedrive.engines.backends.tensorrt.executor import open_engine

    precision = find_options(CudaOptions, options).precision
    return open_cuda(
        "tensorrt",
        settings,
        lambda gpu: open_engine(settings, precision, MAX_BATCH, gpu, log.info),
        reason,
    )
