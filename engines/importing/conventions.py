"""Properties that other implementations fix in their code and not in their weights files.

They are taken from the published code of the authors (TensorFlow), of omni-us (Keras) and of J. Qiu
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
    """The meaning of an implementation's weights.

    Attributes
    ----------
    source : str
        The implementation.
    width, height : int
        Size in pixels of the input that the anchors are made for.
    channels : str
        Order of the colours, "BGR" or "RGB", also in `mean` and `std`.
    mean, std : tuple of float
        Pixels 0 to 255 become (pixel - mean) / std.
    padding : str
        See `engines.model.network.pads`.
    shift : float
        Pixels by which the boxes of these weights lie too far left and too high with this padding,
        because the implementation pads differently; 0 if it pads in the same way.
    anchors : tuple of pairs
        Width and height in pixels of the input.
    centres, head : str
        Anchor centres and output layout; see `Profile`.
    exponential : float or None
        Value from which the exponential of the sizes is linear.
    classes : tuple of str
        Class names in the order of the logits.
    notes : tuple of str
        Properties that cannot be converted, for the user.
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

# That code normalises each picture by its own mean and deviation over all three colours. The
# numbers here are averages over KITTI pictures; 90 % of the deviations lie between 68 and 90.
_KERAS = replace(
    _AUTHORS,
    source="the Keras code of omni-us",
    mean=(94.4, 94.4, 94.4),
    std=(78.7, 78.7, 78.7),
    classes=("cyclist", "pedestrian", "car"),
    notes=(
        "its code normalises every picture by that picture's own mean and deviation; a profile has"
        " the same values for all pictures: scores differ on dark, bright or flat pictures",
    ),
)

# The code's conv1 pads one pixel on every side; its pools pad nothing before and, by ceil_mode, the
# missing pixels after. "same_upper" pads the pools in the same way, but its conv1 reads one pixel
# further right and down. So each cell reads the intended pixels of a picture that lies one pixel
# further left and up.
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
        "its code includes the last pixel in a box: boxes are half a pixel larger on each side",
    ),
)

CONVENTIONS: dict[tuple[str, str], Convention] = {
    ("authors", SQUEEZEDET.name): _AUTHORS,
    ("authors", SQUEEZEDET_PLUS.name): _AUTHORS_PLUS,
    ("keras", SQUEEZEDET.name): _KERAS,
    ("pytorch", SQUEEZEDET.name): _PYTORCH,
}
"""The conventions by layout of the file and name of the network."""
