"""The KITTI object layout: `training/image_2`, `training/label_2` and `ImageSets/<split>.txt`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from squeezedrive.engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    LabelledImage,
    LabelledImageBuilder,
    class_key,
)
from squeezedrive.engines.datasets.images import pictures_of, without_suffix
from squeezedrive.engines.datasets.label_files import LabelFiles
from squeezedrive.engines.datasets.text import read_text
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.files import without_hidden

NEIGHBOURS = {"van": "car", "person_sitting": "pedestrian"}  # as the development kit pairs them
LABEL_COLUMNS = 15


def load_kitti(
    root: Path,
    split: str,
    classes: Sequence[str] | None,
    aliases: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    pictures = kitti_pictures(root, split, faults)
    folder = root / "training" / "label_2"
    files = LabelFiles("kitti", folder, ".txt", _label_lines, _names, _read_item, NEIGHBOURS)
    return files.load(root, split, pictures, classes, aliases, faults)


def kitti_pictures(
    root: Path, split: str, faults: list[DatasetError] | None = None
) -> dict[str, Path]:
    """Return the pictures of a split by name; see `engines.datasets.load.load_pictures`."""
    return pictures_of(root / "training" / "image_2", _split_names(root, split), split, faults)


def _split_names(root: Path, split: str) -> list[str]:
    folder = root / "ImageSets"
    path = folder / f"{split}.txt"
    there = ", ".join(sorted(file.stem for file in without_hidden(folder.glob("*.txt"))))
    hint = f"there are {there}" if there else "create it with one picture name per line"
    lines = map(str.strip, read_text(path, f"no such split; {hint}").splitlines())
    names = [without_suffix(line) for line in lines if line]
    if not names:
        raise DatasetError(f"{path}: is empty, expected one picture name per line")
    return names


def _label_lines(path: Path) -> list[tuple[int, str]]:
    """Return the non-empty lines, each with its number."""
    text = read_text(path, "no such label file; a picture without objects has an empty one")
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _names(lines: list[tuple[int, str]]) -> list[str]:
    return [class_key(line.split()[0]) for _, line in lines]


def _read_item(
    image: Path, path: Path, lines: list[tuple[int, str]], indices: Mapping[str, int]
) -> LabelledImage:
    builder = LabelledImageBuilder(image, label_file=path)
    for number, line in lines:
        name, values = parse_line(path, line, LABEL_COLUMNS)
        box = values[3:7]
        if indices.get(name) == EVERY_CLASS:
            builder.ignore(box)
        elif name in indices:
            builder.add(box, indices[name], values[0], _occlusion(values), place=number)
        elif NEIGHBOURS.get(name) in indices:
            index = indices[NEIGHBOURS[name]]
            occlusion = _occlusion(values)
            builder.add(box, index, values[0], occlusion, neighbour=True, place=number)
        else:
            builder.leave_out(name)
    return builder.build()


def _occlusion(values: Sequence[float]) -> int:
    """Return the third column, 0 to 3; -1 where it says nothing."""
    return int(min(max(values[1], -1), 3))


def parse_line(path: Path, line: str, columns: int) -> tuple[str, list[float]]:
    """Split a line of a label or result file into the class (as `class_key`) and its numbers.

    Raises
    ------
    DatasetError
        If the line has fewer columns, or one of them is not a number.
    """
    name, *rest = line.split()
    try:
        values = [float(field) for field in rest]
    except ValueError as error:
        raise DatasetError(f"{path}: {error} in the line {line.strip()!r}") from None
    if len(values) + 1 < columns or not all(map(math.isfinite, values)):
        raise DatasetError(
            f"{path}: expected a class name and {columns - 1} numbers a line, got {line.strip()!r}"
        )
    return class_key(name), values
