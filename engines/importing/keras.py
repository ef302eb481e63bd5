"""Read weights of the Keras code of omni-us from HDF5 files written by Keras."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from squeezedrive.engines.errors import UserError, WeightsError
from squeezedrive.engines.importing.tensors import Tensors, collect_tensors, own_name

_UNNAMED = re.compile(r"conv2d(_\d+)?")  # the default name of the first convolution
_OPTIMIZER = "optimizer_weights"


def read_keras(path: Path) -> Tensors:
    """Read a file of `save_weights` or `save`: a group for each layer, with `kernel:0`, `bias:0`.

    Raises
    ------
    UserError
        If h5py is not installed.
    WeightsError
        If the file is not HDF5, or a tensor in it is unknown.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError("reading Keras weights needs h5py: pip install -e '.[import]'")
    h5py: Any = importlib.import_module("h5py")
    content: dict[str, Any] = {}

    def keep(name: str | bytes, member: Any) -> None:  # bytes: the name is not in UTF-8
        if isinstance(member, h5py.Dataset):
            content[name if isinstance(name, str) else name.decode(errors="replace")] = member[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except Exception:  # h5py raises whatever HDF5 stumbles over in a damaged file
        raise WeightsError(f"{path}: expected an HDF5 file as Keras writes it") from None
    left_out = [name for name in content if name.split("/")[0] == _OPTIMIZER]
    named = [
        (name, _own_name(name), array) for name, array in content.items() if name not in left_out
    ]
    return collect_tensors(
        path, named, left_out, "layers named conv2d_1, fire2/squeeze1x1 to conv12"
    )


def _own_name(path: str) -> str | None:
    """Return our name for an HDF5 data set, whose path repeats the layer's name."""
    parts = ["conv1" if _UNNAMED.fullmatch(part) else part for part in path.split("/")]
    tails = ("/".join(parts[start:]) for start in range(len(parts) - 1))
    return next((name for name in map(own_name, tails) if name is not None), None)
