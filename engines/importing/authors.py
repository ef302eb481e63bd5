"""Read weights of the authors' TensorFlow code, or of any code, from a NumPy archive."""

from __future__ import annotations

import re
from pathlib import Path

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.importing.tensors import Tensors, collect_tensors, own_name
from squeezedrive.engines.model.weights import read_archive

# Variables that are not part of the network; the optimizer keeps one for each variable.
_TRAINING = re.compile(r"(global_step|iou|.*/Momentum)(:0)?")


def read_authors(path: Path) -> Tensors:
    """Read an .npz whose arrays are named `conv1/kernels`, `fire2_squeeze1x1_w` or similar.

    Nothing is unpickled, because a pickle can run any code.

    Raises
    ------
    WeightsError
        If the file is not such an archive, or a name in it is unknown.
    """
    try:
        content = read_archive(path)
    except WeightsError as error:
        hint = "" if not path.is_file() else (
            "; pickles and TensorFlow checkpoints are not read: `python -m engines import --help`"
            " shows how to convert one"
        )  # fmt: skip
        raise WeightsError(f"{error}{hint}") from None
    left_out = [name for name in content if _TRAINING.fullmatch(name)]
    named = [
        (name, own_name(name), array) for name, array in content.items() if name not in left_out
    ]
    return collect_tensors(
        path, named, left_out, "names like conv1/kernels and fire2/squeeze1x1/biases"
    )
