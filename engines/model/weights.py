"""Weights on disk: `NAME.npz` with arrays in OIHW order, and `NAME.json`, their profile."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from squeezedrive.engines.errors import (
    UserError,
    WeightsError,
    describe_validation,
    shortened,
)
from squeezedrive.engines.files import replacing
from squeezedrive.engines.model.profile import Profile

FOLDER = Path(__file__).resolve().parent.parent / "shipped"
DEFAULT = FOLDER / "squeezedrive-v3.npz"
MAX_BYTES = 1 << 28  # of an archive when it is unpacked; the larger network's takes 28 million


@dataclass(frozen=True)
class Weights:
    """A network's parameters, checked against its description and profile.

    Attributes
    ----------
    profile : Profile
        The properties that belong to these weights.
    arrays : dict of str to float32 array
        `<operation>_w` (out, in, k, k) and `<operation>_b` (out,) of every convolution.
    """

    profile: Profile
    arrays: dict[str, NDArray[np.float32]]

    def digest(self) -> str:
        """Return the SHA-256 of the arrays in hexadecimal; their order does not matter."""
        total = hashlib.sha256()
        for name in sorted(self.arrays):
            array = self.arrays[name]
            total.update(f"{name} {array.shape}".encode())
            total.update(np.ascontiguousarray(array, "<f4").tobytes())
        return total.hexdigest()


def int8_model(path: Path) -> Path | None:
    """Return the quantised model beside a weights file, NAME.int8.onnx, or None if missing."""
    model = path.with_suffix(".int8.onnx")
    return model if model.is_file() else None


def profile_path(path: Path) -> Path:
    """Return where the profile of a weights file is.

    Raises
    ------
    WeightsError
        If the path names no file, as "" and "." do not.
    """
    if not path.name:
        raise WeightsError(f"{path}: no such weights file")
    return path.with_suffix(".json")


def load_profile(path: Path) -> Profile:
    """Read and validate a profile.

    Raises
    ------
    WeightsError
        If the file is missing, or a key or value in it is wrong.
    """
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such profile; weights need the profile that they were trained with: put it"
            " beside them"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise WeightsError(f"{path}: {describe_validation(error)}") from None


def load_weights(path: Path) -> Weights:
    """Read weights and the profile beside them, and check both against the network.

    Raises
    ------
    WeightsError
        If a file is missing or unreadable, an array is missing, superfluous or of a wrong shape, a
        value is not finite, or the parameter count differs from the profile's.
    """
    return _load(path, profile_path(path))


def _load(path: Path, profile_path: Path) -> Weights:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    weights = Weights(load_profile(profile_path), load_arrays(path))
    _check(path, weights)
    return weights


def load_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of a weights file as float32, without checking their names.

    Raises
    ------
    WeightsError
        If the file is missing or is not a NumPy archive of numbers.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    arrays = {}
    for name, array in read_archive(path).items():
        if array.dtype.kind not in "fiu":
            raise WeightsError(f"{path}: {name}: expected real numbers, got {array.dtype}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            arrays[name] = array.astype(np.float32)
    return arrays


def read_archive(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of a NumPy archive, of whatever kind; nothing is unpickled.

    Raises
    ------
    WeightsError
        If it is not such an archive, or unpacks to more than `MAX_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, expected at most {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as archive:
            # A member that is no array comes as bytes.
            return {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    # Each way to pack has errors of its own, and a damaged header can ask for anything.
    except Exception as error:
        reason = shortened(" ".join(str(error).split())) or type(error).__name__
        raise WeightsError(
            f"{path}: expected a NumPy .npz archive of plain arrays: {reason}"
        ) from None


def save_weights(weights: Weights, path: Path) -> None:
    """Write weights and their profile, after checking that both can be loaded again.

    Each file is replaced in one step. The profile comes last, because weights without a profile are
    rejected.

    Raises
    ------
    UserError
        If a file cannot be written.
    WeightsError
        If the files could not be loaded again.
    """
    try:
        with replacing(path.with_suffix(".json")) as profile, replacing(path) as archive:
            profile.write_text(weights.profile.model_dump_json(indent=2) + "\n", encoding="utf-8")
            with archive.open("wb") as file:
                np.savez(file, **weights.arrays)  # type: ignore[arg-type]
            _load(archive, profile)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _check(path: Path, weights: Weights) -> None:
    profile, arrays = weights.profile, weights.arrays
    expected = {
        f"{operation.name}_{suffix}": shape
        for operation in profile.operations(*profile.input.size)
        if operation.kind == "conv"
        for suffix, shape in (
            ("w", (operation.out_channels, operation.in_channels) + (operation.kernel,) * 2),
            ("b", (operation.out_channels,)),
        )
    }
    count = sum(array.size for array in arrays.values())
    if count != profile.parameters:
        raise WeightsError(f"{path}: expected {profile.parameters:,} parameters, got {count:,}")
    for name in dict.fromkeys([*expected, *arrays]):
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
