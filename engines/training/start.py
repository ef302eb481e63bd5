"""What a training starts from: random weights, a backbone, or a whole network."""

from __future__ import annotations

from pathlib import Path

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.weights import load_arrays, load_weights
from squeezedrive.engines.training.model import TrainableNetwork


def start_from(model: TrainableNetwork, path: Path) -> list[str]:
    """Load weights in our layout (.npz) into a new model as far as they fit.

    Weights without a profile are a backbone: what the channels of a head mean is not known, so
    the head stays random, as do layers that are missing. With a profile the head is taken over if
    anchors, classes and layout are the same.

    Returns
    -------
    list of str
        The convolutions that stay random.

    Raises
    ------
    WeightsError
        If the file is unusable, or its weights were trained with other padding or other pixels.
    """
    head = model.head
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
                    f" says {wanted}; --set {what}={got} takes over theirs"
                )
        arrays = dict(weights.arrays)
        keep_head = (theirs.anchors, theirs.output) == (ours.anchors, ours.output)
    else:
        arrays = load_arrays(path)
        keep_head = False
    if not keep_head:
        arrays.pop(f"{head}_w", None)
        arrays.pop(f"{head}_b", None)
    try:
        fresh = model.load_arrays(arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    if len(fresh) == len(model.units):
        raise WeightsError(f"{path}: holds no layer of {model.profile.network}")
    return fresh
