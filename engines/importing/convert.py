"""Combine foreign tensors and the convention of their code into weights with a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from squeezedrive.engines.errors import ConfigError, describe_validation
from squeezedrive.engines.importing.conventions import Convention, Shapes, Triple
from squeezedrive.engines.importing.tensors import Tensors, arrange
from squeezedrive.engines.model.network import Network, Padding
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.weights import Weights
from squeezedrive.kernels.head import Centres, HeadLayout


@dataclass(frozen=True)
class Overrides:
    """Values from the user that replace those of the convention; None for no replacement.

    The names are those of `Convention`, except `size`, which is the width and height. An
    `exponential` of infinity stands for a plain one.
    """

    size: tuple[int, int] | None = None
    channels: Literal["BGR", "RGB"] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    padding: Padding | None = None
    anchors: Shapes | None = None
    centres: Centres | None = None
    head: HeadLayout | None = None
    exponential: float | None = None
    classes: tuple[str, ...] | None = None

    @property
    def given(self) -> frozenset[str]:
        """Names of the values that are given."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not None)

    def apply(self, convention: Convention) -> Convention:
        """Return the convention with its values replaced by the given ones.

        Anchors that are not given are scaled with the width, like the objects in the pictures.
        """
        changes = {name: getattr(self, name) for name in self.given - {"size"}}
        if self.exponential is not None:
            changes["exponential"] = self.exponential if np.isfinite(self.exponential) else None
        if self.padding is not None:
            changes["shift"] = 0.0
        if self.size is not None:
            changes["width"], changes["height"] = self.size
            scale = self.size[0] / convention.width
            scaled = tuple(
                (round(w * scale, 2), round(h * scale, 2)) for w, h in convention.anchors
            )
            changes.setdefault("anchors", scaled)
        return replace(convention, **changes)


def convert(
    tensors: Tensors,
    network: Network,
    meant: Convention,
    name: str,
    licence: str,
    training: Mapping[str, object],
) -> tuple[Weights, list[str]]:
    """Return weights that this program runs, and a description of each change made to them.

    `name`, `licence` and `training` are for the profile.

    Raises
    ------
    WeightsError
        If a tensor is missing or of a wrong shape.
    ConfigError
        If classes and anchors do not fit the head, or a value is not allowed in a profile.
    """
    arrays, widened = arrange(tensors, network)
    head_bias = arrays[f"{network.layers[-1].name}_b"]
    changes = ["conv12 was 1x1: it is now the centre of a 3x3 kernel of zeros"] if widened else []
    _check_head(head_bias.size, meant)
    scale = 1 / float(np.mean(meant.std))
    try:
        profile = Profile.model_validate(
            {
                "name": name,
                "network": network.name,
                "parameters": sum(array.size for array in arrays.values()),
                "input": {
                    "width": meant.width,
                    "height": meant.height,
                    "channels": meant.channels,
                    "mean": meant.mean,
                    "scale": scale,
                },
                "padding": meant.padding,
                "anchors": {"shapes": meant.anchors, "centres": meant.centres},
                "output": {
                    "layout": meant.head,
                    "classes": meant.classes,
                    "exponential_threshold": meant.exponential,
                },
                "training": training,
                "evaluation": {},
                "licence": licence,
            }
        )
    except ValidationError as error:
        raise ConfigError(describe_validation(error)) from None
    if len(set(meant.std)) > 1:
        _fold_deviation(arrays, meant.std, scale)
        changes.append(
            "conv1 divides each colour by its own deviation, the profile all by their mean"
        )
    if meant.shift:
        _shift_boxes(head_bias, profile, meant.shift)
        changes.append(
            f"the bias of conv12 moves boxes {meant.shift:g} px right and down, because its"
            " code pads differently"
        )
    return Weights(profile, arrays), changes


def _check_head(channels: int, meant: Convention) -> None:
    anchors, classes = len(meant.anchors), len(meant.classes)
    if channels != anchors * (classes + 5):
        raise ConfigError(
            f"conv12 has {channels} channels, but {anchors} anchors x ({classes} classes + 5) are"
            f" {anchors * (classes + 5)}; give the right ones with --classes and --anchors"
        )


def _fold_deviation(arrays: dict[str, NDArray[np.float32]], std: Triple, scale: float) -> None:
    """Scale conv1, because the profile has one scale but each colour has its own deviation.

    The result is exact, also at the borders: the padding consists of zeros, which scaling does not
    change. The profile's scale uses the mean of the deviations, so that the weights keep their
    size; half precision needs this.
    """
    factor = 1 / (np.array(std) * scale)
    arrays["conv1_w"] = (arrays["conv1_w"] * factor[:, None, None]).astype(np.float32)


def _shift_boxes(head_bias: NDArray[np.float32], profile: Profile, pixels: float) -> None:
    """Move all boxes right and down; dx and dy are in units of the anchor's width and height."""
    channels = profile.head(*profile.input.size).channels
    dx = len(profile.output.classes) + 1
    head_bias[channels[:, dx : dx + 2]] += pixels / np.array(profile.anchors.shapes, np.float32)
