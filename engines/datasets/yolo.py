"""The YOLO layout: a YAML file with `names` and a path for each split, one text file a picture.

The label file has the picture's name with `.txt`. It lies in the folder `labels` if the picture
lies in `images`, else beside the picture. Each line holds class, centre x, centre y, width and
height, the last four as fractions of the picture's size; or class and the corners x, y of an
outline, whose bounding box is used. A picture without such a file shows no objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from squeezedrive.engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    LabelledImage,
    LabelledImageBuilder,
    class_key,
    label_indices,
    noted,
)
from squeezedrive.engines.datasets.images import image_size, is_image
from squeezedrive.engines.datasets.text import read_text
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.files import without_hidden
from squeezedrive.engines.yaml_text import load_yaml

Corners = tuple[float, float, float, float]

TOLERANCE = 0.01  # labels are often rounded to a little outside the picture


def load_yolo(
    description: Path,
    split: str,
    classes: Sequence[str] | None,
    aliases: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    content = _read_yaml(description, split)
    names = _class_names(description, content)
    if classes is None:
        classes = list(names.values())
    indices = label_indices(description, classes, aliases, names.values())
    pictures = _pictures(description, content, split)
    paths = _label_paths(pictures, description.parent)
    # An empty folder for labels may mean that none of the pictures shows an object.
    if not any(path.exists() for path in paths) and not any(
        path.parent != picture.parent and path.parent.is_dir()
        for path, picture in zip(paths, pictures, strict=True)
    ):
        raise DatasetError(
            f"{description}: none of the {len(pictures)} pictures in {split} has a label file; the"
            f" first was expected at {paths[0]}, empty if there is no object"
        )
    keypoints = "kpt_shape" in content
    items = []
    for picture, path in zip(pictures, paths, strict=True):
        with noted(faults):
            items.append(_read_item(picture, path, names, indices, keypoints))
    there = tuple(names.values())
    return Dataset(description.parent, split, "yolo", tuple(classes), tuple(items), there)


def yolo_pictures(description: Path, split: str) -> list[Path]:
    """Return the pictures of a split; see `engines.datasets.load.load_pictures`."""
    return _pictures(description, _read_yaml(description, split), split)


def _read_yaml(path: Path, split: str) -> dict[str, Any]:
    try:
        content = load_yaml(read_text(path), names=("names", "path", split))
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected names: and a path for each split")
    return content


def _class_names(path: Path, content: dict[str, Any]) -> dict[int, str]:
    """Return the name of each class by its number in label files."""
    names = content.get("names")
    if not isinstance(names, list | dict):
        raise DatasetError(f"{path}: expected the class names under names:")
    numbered: dict[int, str] = {}
    for key, name in names.items() if isinstance(names, dict) else enumerate(names):
        # Some programs write the numbers as texts.
        if not str(key).isdecimal() or int(key) in numbered:
            raise DatasetError(
                f"{path}: names: expected a different number for each class, got {key!r}"
            )
        if not isinstance(name, str):
            raise DatasetError(f"{path}: names: expected a name for class {key}, got {name!r}")
        numbered[int(key)] = name
    return dict(sorted(numbered.items()))


def _pictures(description: Path, content: dict[str, Any], split: str) -> list[Path]:
    entry = content.get(split)
    if entry is None:
        raise DatasetError(f"{description}: no split {split!r}, expected a path under {split}:")
    base = description.parent / str(content.get("path") or "")
    pictures: list[Path] = []
    for place in entry if isinstance(entry, list) else [entry]:
        path = base / str(place)
        if not path.exists():
            # Roboflow writes ../train/images for a folder that lies beside the YAML file.
            path = base / str(place).removeprefix("../")
        if path.is_dir():
            pictures += sorted(file for file in path.rglob("*") if is_image(file))
        elif path.is_file():
            lines = filter(str.strip, read_text(path).splitlines())
            pictures += without_hidden(path.parent / line.strip() for line in lines)
        else:
            raise DatasetError(
                f"{description}: {split}: expected a folder of pictures or a list of them at {path}"
            )
    if not pictures:
        raise DatasetError(f"{description}: no pictures in {split}: {entry}")
    return pictures


def _label_paths(pictures: Sequence[Path], root: Path) -> list[Path]:
    """Return the paths of the pictures' label files, which may be missing."""
    # A folder "images" above the data set does not count, unless label files are found with it.
    places = [[_label_path(picture, above) for picture in pictures] for above in (root, Path("/"))]
    return next((paths for paths in places if any(map(Path.exists, paths))), places[0])


def _label_path(picture: Path, root: Path) -> Path:
    """Return the file in "labels" for a picture in "images" below the root, else beside it."""
    folder, root = picture.parent.absolute(), root.absolute()
    first = len(root.parts) if folder.is_relative_to(root) else 0
    parts = list(folder.parts)
    for index in reversed(range(first, len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts) / f"{picture.stem}.txt"


def _read_item(
    picture: Path,
    path: Path,
    names: Mapping[int, str],
    indices: Mapping[str, int],
    keypoints: bool,
) -> LabelledImage:
    width, height = image_size(picture)
    builder = LabelledImageBuilder(picture, (width, height), path)
    lines = read_text(path).splitlines() if path.exists() else []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        number, corners = _parse_line(path, line, keypoints)
        if number not in names:
            raise DatasetError(
                f"{path}: class {number} is not one of the {len(names)} classes under names:"
            )
        x1, y1, x2, y2 = corners if _is_outside(corners) else (min(max(v, 0), 1) for v in corners)
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        index = indices.get(class_key(names[number]))
        if index is None:
            builder.leave_out(names[number])
        elif index == EVERY_CLASS:
            builder.ignore(box)
        else:
            cut = min(corners) < -TOLERANCE or max(corners) > 1 + TOLERANCE
            builder.add(box, index, place=place, cut=cut)
    return builder.build()


def _parse_line(path: Path, line: str, keypoints: bool) -> tuple[int, Corners]:
    """Return the class's number and the corners x1, y1, x2, y2 as fractions of the picture."""
    shown = f"in the line {line.strip()!r}"
    fields = line.split()
    try:
        number = int(fields[0])
        values = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise DatasetError(f"{path}: {error} {shown}") from None
    if not all(map(math.isfinite, values)):
        raise DatasetError(f"{path}: expected places and sizes as fractions of the picture {shown}")
    if keypoints:  # they follow the box
        values = values[:4]
    if len(values) == 5:
        raise DatasetError(
            f"{path}: expected class, centre x and y, width and height, got a sixth column {shown};"
            " labels have no confidence"
        )
    if len(values) < 4 or len(values) % 2:
        raise DatasetError(
            f"{path}: expected class, centre x and y, width and height, or class and the corners of"
            f" an outline, got {line.strip()!r}"
        )
    if len(values) == 4:
        x, y, width, height = values
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        values = values[2:]  # a box may lie outside the picture but not be larger
    else:
        xs, ys = values[::2], values[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    for value in values:
        if not -TOLERANCE <= value <= 1 + TOLERANCE:
            raise DatasetError(
                f"{path}: expected places and sizes as fractions of the picture, got {value:g}"
                f" {shown}"
            )
    return number, corners


def _is_outside(corners: Corners) -> bool:
    """Return whether a box lies wholly outside its picture."""
    x1, y1, x2, y2 = corners
    return x1 >= 1 or y1 >= 1 or x2 <= 0 or y2 <= 0
