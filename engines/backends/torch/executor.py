"""The network in PyTorch on the GPU: for machines with an NVIDIA GPU but without TensorRT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.model.network import Operation

if TYPE_CHECKING:
    import torch


def open_executor(
    settings: EngineSettings, precision: str, max_batch: int, gpu: GpuContext
) -> TorchExecutor:
    """Put the network's weights on the GPU; its context has to be current.

    Raises
    ------
    ConfigError
        If PyTorch does not compute in this precision.
    """
    return TorchExecutor(settings, precision, max_batch, f"cuda:{gpu.ordinal}")


class TorchExecutor:
    """SqueezeDet as PyTorch functions; see `engines.backends.cuda.executor.Executor`.

    Parameters
    ----------
    settings : EngineSettings
        Weights and input size.
    precision : str
        "fp16" or "fp32".
    max_batch : int
        Most pictures of one execution.
    device : str
        As PyTorch names it.
    """

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
        # Sizes never change: the fastest algorithm for each convolution is worth looking for.
        torch.backends.cudnn.benchmark = True
        if precision == "fp32":  # or convolutions would compute in TF32, with 10 bits
            torch.backends.cudnn.allow_tf32 = False
        self.steps = settings.weights.operations(settings.width, settings.height)
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

    def new_context(self) -> TorchContext:
        """Return a context with everything that one execution needs."""
        return TorchContext(self)

    def close(self) -> None:
        """Release the network."""
        self.parameters.clear()


class TorchContext:
    """One execution at a time; PyTorch keeps the memory in between for each stream by itself."""

    def __init__(self, executor: TorchExecutor) -> None:
        self._executor = executor
        self._input: Any = None
        self._output: Any = None

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        """Say where input and output lie; see `engines.backends.cuda.executor.ExecutionContext`."""
        executor = self._executor
        if not 1 <= batch <= executor.max_batch:
            raise ValueError(f"expected a batch of 1 to {executor.max_batch}, got {batch}")
        self._input, self._output = (
            tensor_at(address, (batch, *shape), executor.input_type, executor.device)
            for address, shape in (
                (input_address, executor.input_shape),
                (output_address, executor.output_shape),
            )
        )

    def enqueue(self, stream: int) -> None:
        """Enqueue the network on a CUDA stream, given by its handle, and return at once."""
        import torch

        executor = self._executor
        with torch.inference_mode(), on_stream(stream, executor.device):
            x = self._input.contiguous(memory_format=torch.channels_last)
            self._output.copy_(run_network(executor.steps, executor.parameters, x))

    def close(self) -> None:
        """Let go of the memory, also of what PyTorch has kept for a stream that ends now."""
        import torch

        self._input = self._output = None
        if self._executor.device.type == "cuda":
            torch.cuda.empty_cache()


def run_network(
    steps: Sequence[Operation], parameters: Mapping[str, torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Return the network's output (B, channels, rows, columns).

    Parameters
    ----------
    steps : sequence of Operation
        See `Profile.operations`.
    parameters : mapping of str to tensor
        As in `engines.model.weights.Weights.arrays`.
    x : tensor (B, 3, height, width)
        Pixels, normalised.
    """
    import torch
    from torch.nn import functional as F

    values = {"image": x}
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        if step.kind == "concat":
            values[step.name] = x = torch.cat(inputs, dim=1)
            continue
        (left, right), (top, bottom) = step.pads
        x, pad = inputs[0], (top, left)
        if (top, left) != (bottom, right):
            value = -math.inf if step.kind == "pool" else 0.0
            x, pad = F.pad(x, (left, right, top, bottom), value=value), (0, 0)
        if step.kind == "pool":
            x = F.max_pool2d(x, step.kernel, step.stride, pad)
        else:
            weight, bias = parameters[f"{step.name}_w"], parameters[f"{step.name}_b"]
            x = F.conv2d(x, weight, bias, step.stride, pad)
            if step.relu:
                x = F.relu_(x)
        values[step.name] = x
    return x


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
