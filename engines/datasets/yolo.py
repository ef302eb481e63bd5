"""The YOLO layout: a YAML file with `names` and a path for each split, one text file a picture.

A picture's labels are in the file of its name with `.txt`, in the folder `labels` where its own
path says `images`, else beside it. A line is: class, centre x, centre y, width, height, the last
four as fractions of the picture's size. A picture without such a file shows no objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    DatasetError,
    Item,
    ItemBuilder,
    check_overlap,
    class_key,
    label_indices,
)
from engines.datasets.images import image_size, is_image
from engines.datasets.text import read_text

TOLERANCE = 0.01  # labels are often rounded to a little outside the picture


def load_yolo(
    description: Path, split: str, classes: Sequence[str] | None, aliases: Mapping[str, str]
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    content = _read_yaml(description)
    names = content["names"]
    if isinstance(names, dict):
        names = [names[number] for number in sorted(names)]
    names = [str(name) for name in names]
    if classes is None:
        classes = names
    wanted = label_indices(classes, aliases)
    check_overlap(description, classes, wanted, names)
    indices = [wanted.get(class_key(name)) for name in names]
    pictures = _pictures(description, content, split)
    items = tuple(_read_item(picture, indices) for picture in pictures)
    return Dataset(description.parent, split, "yolo", tuple(classes), items)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise DatasetError(f"{path}: expected the class names under names:")
    return content


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
            pictures += [path.parent / line.strip() for line in lines]
        else:
            raise DatasetError(
                f"{description}: {split}: expected a folder of pictures or a list of them at {path}"
            )
    if not pictures:
        raise DatasetError(f"{description}: no pictures in {split}: {entry}")
    return pictures


def _label_path(picture: Path) -> Path:
    parts = list(picture.parent.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return Path(*parts) / f"{picture.stem}.txt"


def _read_item(picture: Path, indices: list[int | None]) -> Item:
    width, height = image_size(picture)
    builder = ItemBuilder(picture, (width, height))
    path = _label_path(picture)
    lines = read_text(path).splitlines() if path.exists() else []
    for line in filter(str.strip, lines):
        number, (cx, cy, w, h) = _parse_line(path, line, len(indices))
        index = indices[number]
        if index is not None:
            x1, x2 = max(0, cx - w / 2) * width, min(1, cx + w / 2) * width
            y1, y2 = max(0, cy - h / 2) * height, min(1, cy + h / 2) * height
            if index == EVERY_CLASS:
                builder.ignore((x1, y1, x2, y2))
            else:
                builder.add((x1, y1, x2, y2), index)
    return builder.build()


def _parse_line(path: Path, line: str, classes: int) -> tuple[int, list[float]]:
    fields = line.split()
    try:
        number = int(fields[0])
        values = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise DatasetError(f"{path}: {error} in the line {line.strip()!r}") from None
    if not 0 <= number < classes:
        raise DatasetError(f"{path}: class {number}, but there are {classes} names, 0 first")
    if len(values) != 4 or not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise DatasetError(
            f"{path}: expected class, centre x and y, width and height as fractions of the"
            f" picture, got {line.strip()!r}"
        )
    return number, values
