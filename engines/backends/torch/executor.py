"""The network in PyTorch on the GPU: for machines with an NVIDIA GPU but without TensorRT."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.model.pytorch import plain_convolutions, run_network

if TYPE_CHECKING:
    import torch


class TorchExecutor:
    """SqueezeDet as PyTorch functions; see `engines.backends.cuda.executor.Executor`."""

    # PyTorch may give the memory that a graph goes on using to other work.
    recordable = False
    workspace_bytes = 0  # PyTorch keeps the memory in between for each stream by itself

    def __init__(
        self, settings: EngineSettings, precision: str, max_batch: int, device: str
    ) -> None:
        if precision not in ("fp16", "fp32"):
            raise ConfigError(
                f"cuda.precision: expected fp16 or fp32 for the back end torch, got {precision};"
                " int8 needs TensorRT"
            )
        import torch

        dtype = torch.float16 if precision == "fp16" else torch.float32
        self.runtime = f"PyTorch {torch.__version__}"
        self.precision = precision
        self.input_type = self.output_type = np.dtype(
            np.float16 if precision == "fp16" else np.float32
        )
        self.max_batch = max_batch
        self.device = torch.device(device)
        # Sizes never change: it pays to try all algorithms for each convolution.
        torch.backends.cudnn.benchmark = True
        if precision == "fp32":  # or convolutions would compute in TF32, with 10 bits
            torch.backends.cudnn.allow_tf32 = False
        self.steps = settings.weights.profile.operations(settings.width, settings.height)
        self.parameters = {
            name: torch.from_numpy(array).to(self.device, dtype)
            for name, array in settings.weights.arrays.items()
        }
        for name, array in self.parameters.items():
            if array.ndim == 4:  # half-precision matrix units read channels last
                self.parameters[name] = array.contiguous(memory_format=torch.channels_last)
        last = self.steps[-1]
        self.input_shape = (3, settings.height, settings.width)
        self.output_shape = (last.out_channels, last.out_size[1], last.out_size[0])

    def new_context(self, workspace: int) -> TorchContext:
        """Return a context; PyTorch needs no workspace."""
        return TorchContext(self)

    def close(self) -> None:
        """Release the network."""
        self.parameters.clear()


class TorchContext:
    """One execution at a time; see `engines.backends.cuda.executor.ExecutionContext`."""

    def __init__(self, executor: TorchExecutor) -> None:
        self._executor = executor
        self._bound: tuple[torch.Tensor, torch.Tensor] | None = None

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        """Set where input and output lie; see `engines.backends.cuda.executor.ExecutionContext`."""
        executor = self._executor
        if not 1 <= batch <= executor.max_batch:
            raise ValueError(f"expected a batch of 1 to {executor.max_batch}, got {batch}")
        places = (
            (input_address, executor.input_shape, executor.input_type),
            (output_address, executor.output_shape, executor.output_type),
        )
        pixels, output = (
            tensor_at(address, (batch, *shape), dtype, executor.device)
            for address, shape, dtype in places
        )
        self._bound = pixels, output

    def enqueue(self, stream: int) -> None:
        """Enqueue the network on a CUDA stream, given by its handle, and return at once."""
        import torch

        if self._bound is None:
            raise RuntimeError("enqueue() before bind()")
        executor, (pixels, output) = self._executor, self._bound
        with torch.inference_mode(), on_stream(stream, executor.device):
            x = pixels.contiguous(memory_format=torch.channels_last)
            convolutions = plain_convolutions(executor.parameters)
            output.copy_(run_network(executor.steps, convolutions, x))

    def close(self) -> None:
        """Release the memory, also that which PyTorch keeps for a stream that ends now."""
        import torch

        self._bound = None
        if self._executor.device.type == "cuda":
            torch.cuda.empty_cache()


def tensor_at(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device
) -> torch.Tensor:
    """Return device memory at an address as a tensor, without a copy."""
    import torch

    description = {"shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=description), device=device)


def on_stream(stream: int, device: torch.device) -> Any:
    """Return the context in which PyTorch enqueues on a CUDA stream, given by its handle."""
    import torch

    return torch.cuda.stream(torch.cuda.ExternalStream(stream, device))
