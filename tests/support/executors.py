"""The network on a GPU, without the rest of a back end."""

from __future__ import annotations

from collections.abc import Callable

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.executor import Executor
from squeezedrive.engines.backends.tensorrt.executor import open_engine
from squeezedrive.engines.backends.torch.executor import TorchExecutor


def open_executor(
    name: str, settings: EngineSettings, max_batch: int, gpu: GpuContext, say: Callable[[str], None]
) -> Executor:
    """Load the network in half precision; the GPU's context has to be current."""
    if name == "tensorrt":
        return open_engine(settings, "fp16", max_batch, gpu, say)
    return TorchExecutor(settings, "fp16", max_batch, f"cuda:{gpu.ordinal}")
