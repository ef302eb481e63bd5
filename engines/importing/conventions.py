"""What other implementations fix in their code, and their weights files therefore do not tell.

Facts from the published code of the authors (TensorFlow), of omni-us (Keras) and of J. Qiu
(PyTorch).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from squeezedrive.engines.model.network import SQUEEZEDET, SQUEEZEDET_PLUS, Padding
from squeezedrive.kernels.head import Centres, HeadLayout

Shapes = tuple[tuple[float, float], ...]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Convention:
    """How an implementation's weights are meant.

    Attributes
    ----------
    source : str
        Whose code.
    width, height : int
        Input in pixels that the anchors are made for.
    channels : str
        Order of the colours, "BGR" or "RGB", also in `mean` and `std`.
    mean, std : tuple of float
        Pixels 0 to 255 become (pixel - mean) / std.
    padding : str
        See `engines.model.network.pads`.
    shift : float
        Pixels by which the boxes of these weights lie too far left and too high with this padding,
        because theirs is none of ours; 0 where it is.
    anchors : tuple of pairs
        Width and height in pixels of the input.
    centres, head : str
        Anchor centres and output layout, as in a profile.
    exponential : float or None
        Where the exponential of the sizes turns linear.
    classes : tuple of str
        In the order of the logits.
    notes : tuple of str
        What cannot be carried over.
    """

    source: str
    width: int
    height: int
    channels: Literal["BGR", "RGB"]
    mean: Triple
    std: Triple
    padding: Padding
    shift: float
    anchors: Shapes
    centres: Centres
    head: HeadLayout
    exponential: float | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


# fmt: off
_AUTHORS_SHAPES = (
    (36, 37), (366, 174), (115, 59), (162, 87), (38, 90),
    (258, 173), (224, 108), (78, 170), (72, 43),
)
_QIU_SHAPES = (
    (34, 30), (75, 45), (38, 90), (127, 68), (80, 174),
    (196, 97), (194, 178), (283, 156), (381, 185),
)
# fmt: on

_AUTHORS = Convention(
    source="the authors' TensorFlow code",
    width=1248,
    height=384,
    channels="BGR",
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    padding="same_upper",
    shift=0.0,
    anchors=_AUTHORS_SHAPES,
    centres="even",
    head="by_kind",
    exponential=1.0,
    classes=("car", "pedestrian", "cyclist"),
)

_AUTHORS_PLUS = replace(_AUTHORS, width=1242, height=375, padding="valid")

# Each picture is normalised by its own mean and deviation there, of all three colours together.
# The numbers are their averages over KITTI pictures; of the deviation 90 % lie in 68 to 90.
_KERAS = replace(
    _AUTHORS,
    source="the Keras code of omni-us",
    mean=(94.4, 94.4, 94.4),
    std=(78.7, 78.7, 78.7),
    classes=("cyclist", "pedestrian", "car"),
    notes=(
        "its code normalises every picture by that picture's own mean and deviation, in place of"
        " which a profile has the same for all: scores differ on dark, bright or flat pictures",
    ),
)

# Its conv1 pads a pixel on every side, its pools none before and, by ceil_mode, what is missing
# after. "same_upper" pads the pools so and looks with conv1 one pixel further right and down:
# cells look where they are meant to look for a picture that lies one pixel further left and up.
_PYTORCH = replace(
    _AUTHORS,
    source="the PyTorch code of J. Qiu",
    channels="RGB",
    mean=(93.877, 98.801, 95.923),
    std=(78.782, 80.130, 81.200),
    shift=1.0,
    anchors=_QIU_SHAPES,
    centres="half_stride",
    head="per_anchor",
    exponential=None,
    notes=(
        "its code counts the last pixel into a box: boxes are half a pixel larger on each side",
    ),
)

CONVENTIONS: dict[tuple[str, str], Convention] = {
    ("authors", SQUEEZEDET.name): _AUTHORS,
    ("authors", SQUEEZEDET_PLUS.name): _AUTHORS_PLUS,
    ("keras", SQUEEZEDET.name): _KERAS,
    ("pytorch", SQUEEZEDET.name): _PYTORCH,
}
"""By the layout of the file and the name of the network."""
