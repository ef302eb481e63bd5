"""Weights on disk: `NAME.npz` with arrays in OIHW order, and `NAME.json`, their profile."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engines.errors import WeightsError, describe_validation
from engines.network import NETWORKS, Network, Operation, operations
from engines.profile import Profile

FOLDER = Path(__file__).parent / "weights"
DEFAULT = FOLDER / "squeezedrive-v0.npz"


@dataclass(frozen=True)
class Weights:
    """A network's parameters, checked against its description and profile.

    Attributes
    ----------
    profile : Profile
        What belongs to these weights.
    arrays : dict of str to float32 array
        `<operation>_w` (out, in, k, k) and `<operation>_b` (out,) of every convolution.
    """

    profile: Profile
    arrays: dict[str, NDArray[np.float32]]

    @property
    def network(self) -> Network:
        """The description of the network these weights belong to."""
        return NETWORKS[self.profile.network]

    def operations(self, width: int, height: int) -> list[Operation]:
        """List the network's operations for an input of this size in pixels."""
        return operations(self.network, self.profile.head_channels, width, height)


def load_profile(path: Path) -> Profile:
    """Read and validate a profile.

    Raises
    ------
    WeightsError
        If there is none, or if a key or value in it is wrong.
    """
    try:
        profile = Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such profile; weights are only usable with the profile they were trained"
            " with, put it beside them"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise WeightsError(f"{path}: {describe_validation(error)}") from None
    if profile.network not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise WeightsError(f"{path}: network: expected one of {known}, got {profile.network!r}")
    return profile


def load_weights(path: Path) -> Weights:
    """Read weights and the profile beside them, and check both against the network.

    Raises
    ------
    WeightsError
        If a file is missing or unreadable, an array is missing, superfluous or of a wrong shape,
        a value is not finite, or the parameter count is not the profile's.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    profile = load_profile(path.with_suffix(".json"))
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name].astype(np.float32) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: expected a NumPy .npz archive: {error}") from None
    weights = Weights(profile, arrays)
    _check(path, weights)
    return weights


def _check(path: Path, weights: Weights) -> None:
    profile, arrays = weights.profile, weights.arrays
    expected = {
        f"{operation.name}_{suffix}": shape
        for operation in weights.operations(profile.input.width, profile.input.height)
        if operation.kind == "conv"
        for suffix, shape in (
            ("w", (operation.out_channels, operation.in_channels) + (operation.kernel,) * 2),
            ("b", (operation.out_channels,)),
        )
    }
    count = sum(array.size for array in arrays.values())
    if count != profile.parameters:
        raise WeightsError(f"{path}: expected {profile.parameters:,} parameters, got {count:,}")
    for name in expected.keys() | arrays.keys():
        if name not in arrays:
            raise WeightsError(f"{path}: array {name} of {profile.network} is missing")
        if name not in expected:
            raise WeightsError(f"{path}: array {name} is not part of {profile.network}")
        if arrays[name].shape != expected[name]:
            raise WeightsError(
                f"{path}: {name}: expected shape {expected[name]}, got {arrays[name].shape}"
            )
        if not np.isfinite(arrays[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
