"""What belongs to a set of weights and cannot be seen in them.

Padding, anchor centres, output layout and normalisation are properties of the weights: with the
wrong ones a network still runs and finds boxes, in the wrong places. So a weights file is refused
without its profile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kernels.head import Centres, Layout

Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputProfile(_Strict):
    """Pixels as the network was trained on them: (pixel - mean) x scale, per channel."""

    width: Annotated[int, Field(gt=0, multiple_of=16)]
    height: Annotated[int, Field(gt=0, multiple_of=16)]
    channels: Literal["BGR", "RGB"]
    mean: tuple[float, float, float]
    scale: Positive


class AnchorProfile(_Strict):
    """Anchor shapes (width, height) in network pixels, and where they are centred.

    Centres are "half_stride", (i + 0.5) x 16, or "even", (i + 1) x W / (grid width + 1).
    """

    shapes: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)]
    centres: Centres


class OutputProfile(_Strict):
    """Meaning of the output channels.

    The layout is "per_anchor" (for each anchor: class logits, confidence logit, deltas) or
    "by_kind" (all class logits, all confidence logits, all deltas). `exponential_threshold` is
    where the safe exponential of width and height turns linear; None for a plain exponential.
    """

    layout: Layout
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    exponential_threshold: Positive | None

    @model_validator(mode="after")
    def _distinct(self) -> OutputProfile:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ, got {', '.join(self.classes)}")
        return self


class Profile(_Strict):
    """Everything that has to be known to run a set of weights, and where they come from."""

    name: str
    network: str
    parameters: int
    input: InputProfile
    padding: Literal["symmetric", "same_upper"]
    anchors: AnchorProfile
    output: OutputProfile
    training: dict[str, Any]
    evaluation: dict[str, Any]
    licence: str

    @property
    def head_channels(self) -> int:
        """Channels of the last convolution."""
        return len(self.anchors.shapes) * (len(self.output.classes) + 1 + 4)
