"""Check the output of an import, and read its file of anchor shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from squeezedrive.engines.errors import ConfigError, UserError
from squeezedrive.engines.files import check_output
from squeezedrive.engines.importing.conventions import Shapes
from squeezedrive.engines.yaml_text import load_yaml

_PAIRS = re.compile(r"[\d.]+x[\d.]+(,[\d.]+x[\d.]+)*")


def check_weights_output(source: Path, out: Path, overwrite: bool) -> None:
    """Check the output of an import before anything is read.

    Raises
    ------
    UserError
        If the weights could not be written, or would replace an existing file.
    """
    if out.suffix != ".npz":
        raise UserError(f"{out}: expected a name that ends in .npz")
    for path in (out, out.with_suffix(".json")):
        if path.exists() and source.exists() and path.samefile(source):
            raise UserError(f"{path}: is the source itself; choose another --out")
        check_output(path, overwrite)


def read_shapes(text: str) -> Shapes:
    """Read anchor shapes from "36x37,72x43" or from a YAML file.

    The file holds a list of pairs, either as its whole content or under `shapes`, `anchors.shapes`
    (a profile) or `network.anchors.shapes` (a training's configuration).

    Raises
    ------
    ConfigError
        If the text or the file holds no anchor shapes.
    """
    if _PAIRS.fullmatch(text):
        return _shapes(text, [pair.split("x") for pair in text.split(",")])
    path = Path(text)
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"--anchors: {text} is neither a file nor a list like 36x37,72x43"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {reason}") from None
    for key in ("network", "anchors", "shapes"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping | list):
            content = content[key]  # in a profile, `network` is a name and not a mapping
    return _shapes(text, content)


def _shapes(where: str, content: Any) -> Shapes:
    try:
        pairs = tuple((float(width), float(height)) for width, height in content)
    except (TypeError, ValueError):
        pairs = ()
    if not pairs or not all(0 < side < np.inf for pair in pairs for side in pair):
        raise ConfigError(f"{where}: expected anchor shapes as a list of [width, height] in pixels")
    return pairs
