"""SqueezeDet described once, as data.

The ONNX graph, the parameter check, the training module and the table that `describe` prints all
walk the same list of operations. Facts from the paper (arXiv 1612.01051), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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

NETWORKS = {network.name: network for network in (SQUEEZEDET,)}


@dataclass(frozen=True)
class Operation:
    """One step of the network with every size filled in.

    Attributes
    ----------
    kind : str
        "conv", "pool" or "concat".
    name : str
        Also the name of the output; a convolution's weights are `<name>_w` (out, in, k, k) and
        `<name>_b` (out,).
    layer : str
        The layer it belongs to, as in the paper.
    inputs : tuple of str
        Names of the operations it reads; "image" for the network's input.
    in_channels, out_channels : int
        Channels read and written.
    kernel, stride : int
        Of convolutions and pools; 1 for a concatenation.
    relu : bool
        Whether negative outputs become zero.
    in_size, out_size : tuple of int
        (width, height) read and written.
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
    out_size: tuple[int, int]

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


def operations(network: Network, head_channels: int, width: int, height: int) -> list[Operation]:
    """List the operations of a network in the order in which they run.

    Parameters
    ----------
    network : Network
        What to unroll.
    head_channels : int
        Channels of the last convolution.
    width, height : int
        Size of the input image in pixels, which has 3 channels. Padding keeps a size of
        ceil(n / stride) in every operation, whichever padding the weights were trained with.
    """
    return list(_unroll(network, head_channels, (width, height)))


def _unroll(network: Network, head: int, size: tuple[int, int]) -> Iterator[Operation]:
    source, channels = "image", 3
    for layer in network.layers:
        name = layer.name
        if isinstance(layer, Fire):
            squeeze = Operation(
                "conv", f"{name}_squeeze1x1", name, (source,),
                channels, layer.squeeze, 1, 1, True, size, size,
            )  # fmt: skip
            yield squeeze
            branches = []
            for suffix, out, kernel in (
                ("expand1x1", layer.expand1x1, 1),
                ("expand3x3", layer.expand3x3, 3),
            ):
                branch = Operation(
                    "conv", f"{name}_{suffix}", name, (squeeze.name,),
                    layer.squeeze, out, kernel, 1, True, size, size,
                )  # fmt: skip
                yield branch
                branches.append(branch.name)
            out = layer.expand1x1 + layer.expand3x3
            yield Operation(
                "concat", name, name, tuple(branches), out, out, 1, 1, False, size, size
            )
        else:
            out_size = (-(-size[0] // layer.stride), -(-size[1] // layer.stride))
            if isinstance(layer, Conv):
                out = head if layer.out_channels is None else layer.out_channels
                kind, relu = "conv", layer.relu
            else:
                out, kind, relu = channels, "pool", False
            yield Operation(
                kind, name, name, (source,),
                channels, out, layer.kernel, layer.stride, relu, size, out_size,
            )  # fmt: skip
            size = out_size
        source, channels = name, out
