"""Load the weights that a training starts from: a backbone or a whole network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.weights import load_arrays, load_weights
from squeezedrive.engines.training.config import HeadStart
from squeezedrive.engines.training.model import TrainableNetwork


def start_from(model: TrainableNetwork, path: Path, head_start: HeadStart = "auto") -> list[str]:
    """Load weights in our layout (.npz) into a new model, as far as they fit.

    Weights without a profile are used as a backbone: the meaning of the head's channels is unknown,
    so the head stays random. Missing layers stay random as well.

    Parameters
    ----------
    head_start : str
        "auto" uses the head if anchors, classes and layout are the same. "keep" uses it if the
        numbers of anchors and classes are the same; see `fit_head`. "new" never uses it.

    Returns
    -------
    list of str
        The convolutions that stay random.

    Raises
    ------
    WeightsError
        If the file is unusable, its weights were trained with other padding or other pixels, or the
        head cannot be kept although it should.
    """
    names = f"{model.head}_w", f"{model.head}_b"
    keep_head = head_start == "keep"
    if path.with_suffix(".json").is_file():
        weights = load_weights(path)
        theirs, ours = weights.profile, model.profile
        for what, got, wanted in (
            ("network.padding", theirs.padding, ours.padding),
            ("network.input.channels", theirs.input.channels, ours.input.channels),
            ("network.input.scale", theirs.input.scale, ours.input.scale),
        ):
            if got != wanted:
                raise WeightsError(
                    f"{path}: these weights were trained with {what}={got}, the configuration"
                    f" says {wanted}; --set {what}={got} uses theirs"
                )
        arrays = dict(weights.arrays)
        if head_start == "auto":
            keep_head = (theirs.anchors, theirs.output) == (ours.anchors, ours.output)
        elif keep_head:
            problem = _head_differs(theirs, ours)
            if problem:
                raise WeightsError(
                    f"{path}: network.init_head=keep: {problem}; --set network.init_head=new"
                    " starts with a random head"
                )
            weight, bias = names
            arrays[weight], arrays[bias] = fit_head(arrays[weight], arrays[bias], theirs, ours)
    else:
        arrays = load_arrays(path)
        if keep_head:
            raise WeightsError(
                f"{path}: network.init_head=keep: {path.with_suffix('.json').name} beside it is"
                " missing, which describes the channels of the head; --set network.init_head=auto"
            )
    if not keep_head:
        for name in names:
            arrays.pop(name, None)
    try:
        fresh = model.load_arrays(arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    if len(fresh) == len(model.units):
        raise WeightsError(f"{path}: holds no layer of {model.profile.network}")
    return fresh


def _head_differs(theirs: Profile, ours: Profile) -> str:
    """Return the reason why a head cannot be used, or "" if only shapes and names differ."""
    for what, got, wanted in (
        ("network.output.layout", theirs.output.layout, ours.output.layout),
        (
            "network.output.exponential_threshold",
            theirs.output.exponential_threshold,
            ours.output.exponential_threshold,
        ),
        ("network.anchors.centres", theirs.anchors.centres, ours.anchors.centres),
        ("number of anchor shapes", len(theirs.anchors.shapes), len(ours.anchors.shapes)),
        ("number of classes", len(theirs.output.classes), len(ours.output.classes)),
    ):
        if got != wanted:
            return f"expected {what} {wanted} as in the configuration, these weights have {got}"
    return ""


def fit_head(
    weight: NDArray[np.float32], bias: NDArray[np.float32], theirs: Profile, ours: Profile
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a head for other anchor shapes that finds the same boxes as before.

    Each new shape replaces the old shape of the same index. A centre lies at x_anchor + dx w, and a
    width is w exp(dw). So for a new width w', dx becomes dx w / w' and dw becomes dw + log(w / w');
    heights likewise. This is approximate where the exponential is linear, that is, for boxes larger
    than e times their anchor. Classes keep their indices and may have other names.

    Parameters
    ----------
    weight, bias : float32 arrays (channels, in, k, k), (channels,)
    theirs, ours : Profile
        Profiles of the weights and of the network that uses them.
    """
    weight, bias = weight.copy(), bias.copy()
    before = np.array(theirs.anchors.shapes, np.float64)
    ratio = (before / np.array(ours.anchors.shapes, np.float64)).astype(np.float32)
    head = ours.head(*ours.input.size)
    centres, sizes = head.channels[:, -4:-2], head.channels[:, -2:]
    weight[centres] *= ratio[:, :, None, None, None]
    bias[centres] *= ratio
    bias[sizes] += np.log(ratio)
    return weight, bias
