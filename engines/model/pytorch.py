"""Run the network's list of operations in PyTorch, for training and as a back end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from squeezedrive.engines.model.network import Operation, pads

if TYPE_CHECKING:
    import torch


def run_network(
    steps: Sequence[Operation],
    run_convolution: Callable[[Operation, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
) -> torch.Tensor:
    """Return the network's output (B, channels, rows, columns).

    Parameters
    ----------
    steps : sequence of Operation
        See `Profile.operations`; pictures may have another size than the operations were made for.
    run_convolution : callable
        Takes an operation of kind "conv" and its input, and returns its output; see
        `plain_convolutions`.
    x : tensor (B, 3, height, width)
        Normalised pixels.
    """
    import torch
    from torch.nn import functional as F

    values = {"image": x}
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        if step.kind == "concat":
            x = torch.cat(inputs, dim=1)
        elif step.kind == "pool":
            x, pad = _pad(inputs[0], step, -math.inf)
            x = F.max_pool2d(x, step.kernel, step.stride, pad)
        else:
            x = run_convolution(step, inputs[0])
        values[step.name] = x
    return x


def plain_convolutions(
    parameters: Mapping[str, torch.Tensor],
) -> Callable[[Operation, torch.Tensor], torch.Tensor]:
    """Return the `run_convolution` of `run_network` for weights that do not change.

    The parameters are named as in `engines.model.weights.Weights.arrays`.
    """
    from torch.nn import functional as F

    def run(step: Operation, x: torch.Tensor) -> torch.Tensor:
        x = convolve(step, x, parameters[f"{step.name}_w"], parameters[f"{step.name}_b"])
        return F.relu_(x) if step.relu else x

    return run


def convolve(
    step: Operation, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return the output (B, out_channels, h, w) of an operation's convolution, without ReLU."""
    from torch.nn import functional as F

    x, pad = _pad(x, step, 0.0)
    return F.conv2d(x, weight, bias, step.stride, pad)


def _pad(x: torch.Tensor, step: Operation, value: float) -> tuple[torch.Tensor, tuple[int, int]]:
    """Add the padding of a picture of any size that the operation itself cannot add.

    Returns the padded input and the symmetric padding (rows, columns) that the operation adds.
    """
    from torch.nn import functional as F

    (top, bottom), (left, right) = (
        pads(size, step.kernel, step.stride, step.padding) for size in x.shape[2:]
    )
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)
