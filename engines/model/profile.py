"""The profile: properties of a set of weights that the weights themselves do not show.

Padding, anchor centres, output layout and normalisation depend on the weights. With wrong ones, a
network still runs, but finds boxes in the wrong places. So a weights file is rejected without its
profile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from squeezedrive.engines.model.network import NETWORKS, Operation, Padding, operations, output_grid
from squeezedrive.kernels.fit import FitMode
from squeezedrive.kernels.head import Centres, Head, HeadLayout, anchor_grid

Positive = Annotated[float, Field(gt=0)]


def _known(network: str) -> str:
    if network not in NETWORKS:
        raise ValueError(f"expected one of {', '.join(NETWORKS)}")
    return network


NetworkName = Annotated[str, AfterValidator(_known)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputProfile(_Strict):
    """The pixels that the network was trained on: (pixel - mean) x scale, per channel."""

    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    channels: Literal["BGR", "RGB"]
    mean: tuple[float, float, float]
    scale: Positive

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def fill(self) -> tuple[int, int, int]:
        """Blue, green and red of the borders: the mean, which is zero for the network."""
        blue, green, red = self.mean if self.channels == "BGR" else self.mean[::-1]
        return round(blue), round(green), round(red)


class AnchorProfile(_Strict):
    """Anchor shapes (width, height) in network pixels, and the rule for their centres.

    Centres are "half_stride", in the middle of the pixels a cell stands for, or "even",
    (i + 1) x W / (grid width + 1); see `kernels.head.anchor_grid`.
    """

    shapes: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)]
    centres: Centres


class OutputProfile(_Strict):
    """Meaning of the output channels.

    The layout is "per_anchor" (for each anchor: class logits, confidence logit, deltas) or
    "by_kind" (all class logits, all confidence logits, all deltas). `exponential_threshold` is
    where the safe exponential of width and height turns linear; None for a plain exponential.
    `reach` is by how many pixels boxes may go beyond the input, see `kernels.head.Head`; absent
    from files where it is 0.
    """

    layout: HeadLayout
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    exponential_threshold: Positive | None
    reach: Annotated[float, Field(ge=0)] = 0.0

    @model_serializer(mode="wrap")
    def _without_the_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Quantised models made before there was this key hold a profile without it.
        return {key: value for key, value in dump(self).items() if key != "reach" or value}

    @model_validator(mode="after")
    def _distinct(self) -> OutputProfile:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ, got {', '.join(self.classes)}")
        return self


class Profile(_Strict):
    """All properties needed to run a set of weights, and the origin of the weights.

    `fit` and `band_centre` say how pictures were put into the input in training; they are None, and
    absent from files, if this is not known.
    """

    name: str
    network: NetworkName
    parameters: int
    input: InputProfile
    padding: Padding
    anchors: AnchorProfile
    output: OutputProfile
    training: dict[str, Any]
    evaluation: dict[str, Any]
    licence: str
    fit: FitMode | None = None
    band_centre: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_serializer(mode="wrap")
    def _without_the_unknown(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Older quantised models hold a profile without these keys.
        optional = ("fit", "band_centre")
        values = dump(self).items()
        return {key: value for key, value in values if value is not None or key not in optional}

    @model_validator(mode="after")
    def _possible(self) -> Profile:
        NETWORKS[self.network].check_size(*self.input.size, self.padding)
        return self

    @property
    def head_channels(self) -> int:
        """Channels of the last convolution."""
        return len(self.anchors.shapes) * (len(self.output.classes) + 1 + 4)

    def operations(self, width: int, height: int) -> list[Operation]:
        """List the network's operations for an input of this size in pixels.

        Raises
        ------
        NetworkError
            If the network cannot read an input of this size.
        """
        network = NETWORKS[self.network]
        return operations(network, self.head_channels, width, height, self.padding)

    def head(self, width: int, height: int) -> Head:
        """Return how to read the network's output for an input of this size in pixels.

        Raises
        ------
        NetworkError
            If the network cannot read an input of this size.
        """
        grid = output_grid(self.operations(width, height))
        threshold = self.output.exponential_threshold
        return Head(
            classes=len(self.output.classes),
            anchors=anchor_grid(grid, self.anchors.shapes, self.anchors.centres),
            anchors_per_cell=len(self.anchors.shapes),
            layout=self.output.layout,
            exp_threshold=np.inf if threshold is None else threshold,
            grid=grid,
            reach=self.output.reach,
        )
