"""SqueezeDet and SqueezeDet+, described once, as data.

The ONNX graph, the parameter check, the training module and the table that `describe` prints all
use the same list of operations. Source: arXiv 1612.01051, section 3, and the authors' networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from squeezedrive.engines.errors import NetworkError
from squeezedrive.kernels.head import Grid

Padding = Literal["symmetric", "same_upper", "valid"]
"""The kind of padding around an operation's input; see `pads`."""

MAX_SIDE = 8192  # pixels of an input: a larger one would take gigabytes before the first picture


@dataclass(frozen=True)
class Conv:
    """A square convolution with bias, followed by ReLU unless `relu` is False.

    `out_channels` None stands for the head: anchors per cell x (classes + 1 + 4).
    """

    name: str
    out_channels: int | None
    kernel: int
    stride: int = 1
    relu: bool = True


@dataclass(frozen=True)
class MaxPool:
    """A maximum over 3x3 windows with stride 2."""

    name: str
    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True)
class Fire:
    """A 1x1 squeeze, then a 1x1 and a 3x3 expansion side by side, concatenated in that order."""

    name: str
    squeeze: int
    expand1x1: int
    expand3x3: int


@dataclass(frozen=True)
class Network:
    """A named stack of layers, input first."""

    name: str
    layers: tuple[Conv | MaxPool | Fire, ...]

    def check_size(self, width: int, height: int, padding: Padding) -> None:
        """Check that the network can read an input of this size in pixels.

        With "valid" padding, any size that leaves an output is accepted. With the others, the size
        must halve without remainder, so that both give the same grid, and each cell stands for the
        same number of pixels.

        Raises
        ------
        NetworkError
            If the network cannot read this size.
        """
        if max(width, height) > MAX_SIDE:
            raise NetworkError(
                f"expected an input of at most {MAX_SIDE}x{MAX_SIDE} pixels, got {width}x{height}"
            )
        step = smallest = 1
        for layer in reversed(self.layers):
            if not isinstance(layer, Fire) and layer.stride > 1:
                step *= layer.stride
                smallest = (smallest - 1) * layer.stride + layer.kernel
        if padding == "valid":
            if min(width, height) < smallest:
                raise NetworkError(
                    f"expected an input of at least {smallest}x{smallest} pixels for {self.name}"
                    f" with padding valid, got {width}x{height}"
                )
        elif min(width, height) < 1 or width % step or height % step:
            raise NetworkError(
                f"expected an input of multiples of {step} pixels for {self.name} with padding"
                f" {padding}, got {width}x{height}"
            )


SQUEEZEDET = Network(
    "squeezedet",
    (
        Conv("conv1", 64, kernel=3, stride=2),
        MaxPool("pool1"),
        Fire("fire2", 16, 64, 64),
        Fire("fire3", 16, 64, 64),
        MaxPool("pool3"),
        Fire("fire4", 32, 128, 128),
        Fire("fire5", 32, 128, 128),
        MaxPool("pool5"),
        Fire("fire6", 48, 192, 192),
        Fire("fire7", 48, 192, 192),
        Fire("fire8", 64, 256, 256),
        Fire("fire9", 64, 256, 256),
        Fire("fire10", 96, 384, 384),
        Fire("fire11", 96, 384, 384),
        Conv("conv12", None, kernel=3, relu=False),
    ),
)

SQUEEZEDET_PLUS = Network(
    "squeezedet-plus",
    (
        Conv("conv1", 96, kernel=7, stride=2),
        MaxPool("pool1"),
        Fire("fire2", 96, 64, 64),
        Fire("fire3", 96, 64, 64),
        Fire("fire4", 192, 128, 128),
        MaxPool("pool4"),
        Fire("fire5", 192, 128, 128),
        Fire("fire6", 288, 192, 192),
        Fire("fire7", 288, 192, 192),
        Fire("fire8", 384, 256, 256),
        MaxPool("pool8"),
        Fire("fire9", 384, 256, 256),
        Fire("fire10", 384, 256, 256),
        Fire("fire11", 384, 256, 256),
        Conv("conv12", None, kernel=3, relu=False),
    ),
)

NETWORKS = {network.name: network for network in (SQUEEZEDET, SQUEEZEDET_PLUS)}


@dataclass(frozen=True)
class Operation:
    """One step of the network with every size filled in.

    Attributes
    ----------
    kind : str
        "conv", "pool" or "concat".
    name : str
        This is also the name of the output; a convolution's weights are `<name>_w` (out, in, k, k)
        and `<name>_b` (out,).
    layer : str
        The layer that the operation belongs to, named as in the paper.
    inputs : tuple of str
        Names of the operations that are read; "image" for the network's input.
    in_channels, out_channels : int
        Channels read and written.
    kernel, stride : int
        Kernel size and stride of a convolution or pool; 1 for a concatenation.
    relu : bool
        Whether negative outputs become zero.
    in_size : tuple of int
        (width, height) read.
    padding : str
        Kind of padding; see `pads`.
    """

    kind: str
    name: str
    layer: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    relu: bool
    in_size: tuple[int, int]
    padding: Padding

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels added (left, right) and (above, below)."""
        x, y = (pads(size, self.kernel, self.stride, self.padding) for size in self.in_size)
        return x, y

    @property
    def out_size(self) -> tuple[int, int]:
        """Size of the output, (width, height)."""
        width, height = (
            (size + sum(added) - self.kernel) // self.stride + 1
            for size, added in zip(self.in_size, self.pads, strict=True)
        )
        return width, height

    @property
    def parameters(self) -> int:
        """Count the weights and biases."""
        if self.kind != "conv":
            return 0
        return self.out_channels * (self.in_channels * self.kernel**2 + 1)

    @property
    def macs(self) -> int:
        """Count the multiply-accumulate operations for one image."""
        if self.kind != "conv":
            return 0
        width, height = self.out_size
        return width * height * self.out_channels * self.in_channels * self.kernel**2


def pads(size: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Return how many pixels are added before and after an axis of `size` pixels.

    The added pixels are zero for convolutions and minus infinity for pools. The output has (size +
    before + after - kernel) // stride + 1 pixels.

    - "symmetric": half the kernel on both sides, which gives ceil(size / stride) pixels.
    - "same_upper": the least that gives ceil(size / stride), with an odd pixel added after, as in
      TensorFlow's SAME: for kernel 3, stride 2 and an even size, none before and one after.
    - "valid": nothing if the stride is above 1. With stride 1, convolutions keep the size as with
      the others, because the two expansions of a fire are concatenated.

    The first two give the same size, but their outputs are shifted against each other.
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    if padding == "valid" and stride > 1:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def operations(
    network: Network, head_channels: int, width: int, height: int, padding: Padding
) -> list[Operation]:
    """List the operations of a network in the order in which they run.

    Parameters
    ----------
    network : Network
    head_channels : int
        Channels of the last convolution.
    width, height : int
        Size of the input image in pixels, which has 3 channels.
    padding : str
        "symmetric", "same_upper" or "valid"; see `pads`. The weights determine it.

    Raises
    ------
    NetworkError
        If the network cannot read an input of this size.
    """
    network.check_size(width, height, padding)
    steps: list[Operation] = []
    source, channels, size = "image", 3, (width, height)
    for layer in network.layers:
        name = layer.name
        if isinstance(layer, Fire):
            squeeze = Operation(
                "conv", f"{name}_squeeze1x1", name, (source,),
                channels, layer.squeeze, 1, 1, True, size, padding,
            )  # fmt: skip
            branches = [
                Operation(
                    "conv", f"{name}_expand{kernel}x{kernel}", name, (squeeze.name,),
                    layer.squeeze, out, kernel, 1, True, size, padding,
                )
                for kernel, out in ((1, layer.expand1x1), (3, layer.expand3x3))
            ]  # fmt: skip
            read, out = tuple(b.name for b in branches), layer.expand1x1 + layer.expand3x3
            join = Operation("concat", name, name, read, out, out, 1, 1, False, size, padding)
            steps += [squeeze, *branches, join]
        else:
            if isinstance(layer, Conv):
                out = head_channels if layer.out_channels is None else layer.out_channels
                kind, relu = "conv", layer.relu
            else:
                out, kind, relu = channels, "pool", False
            step = Operation(
                kind, name, name, (source,),
                channels, out, layer.kernel, layer.stride, relu, size, padding,
            )  # fmt: skip
            steps.append(step)
            size = step.out_size
        source, channels = name, out
    return steps


def output_grid(steps: Sequence[Operation]) -> Grid:
    """Return the grid of a network's output: its cells and where they lie on the input.

    Where padding keeps the size, cell i stands for the pixels from i times the stride on. Valid
    padding leaves a margin, so each cell lies in the middle of the pixels that reach it through the
    strided operations; for SqueezeDet+ this is 16 i + 17.
    """
    stride, centre = 1, 0.0
    for step in steps:
        if step.stride > 1:
            centre += (step.kernel - 1) / 2 * stride
            stride *= step.stride
    first = centre if steps[0].padding == "valid" else stride / 2
    return Grid(*steps[0].in_size, *steps[-1].out_size, stride, first)
