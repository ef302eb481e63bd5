"""The entry of PyTorch in the table of back ends; it is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.cuda.machine import machine_obstacles

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import Backend, BackendOptions, EngineSettings


def torch_obstacles() -> list[str]:
    """List what keeps PyTorch from running on a GPU here, most basic first, with remedies."""
    found = machine_obstacles({"torch": "pip install torch"})
    if not found:  # importing PyTorch takes a second or two
        import torch

        if not torch.cuda.is_available():
            found.append("PyTorch finds no GPU (install a build of PyTorch for CUDA)")
    return found


def open_torch(settings: EngineSettings, options: Sequence[BackendOptions], reason: str) -> Backend:
    """Put the network's weights on the GPU and run it once.

    Raises
    ------
    BackendUnavailable, GpuMemoryError, GpuLost
        See `engines.backends.cuda.backend.open_cuda`.
    ConfigError
        If 8-bit integers are asked for.
    """
    from squeezedrive.engines.backends.base import find_options
    from squeezedrive.engines.backends.cuda.backend import MAX_BATCH, open_cuda
    from squeezedrive.engines.backends.cuda.options import CudaOptions
    from squeezedrive.engines.backends.torch.executor import TorchExecutor

    precision = find_options(CudaOptions, options).precision
    return open_cuda(
        "torch",
        settings,
        lambda gpu: TorchExecutor(settings, precision, MAX_BATCH, f"cuda:{gpu.ordinal}"),
        reason,
    )
