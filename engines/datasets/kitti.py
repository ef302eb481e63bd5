"""The KITTI object layout: `training/image_2`, `training/label_2` and `ImageSets/<split>.txt`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from squeezedrive.engines.datasets.dataset import (
    DONT_CARE,
    EVERY_CLASS,
    Dataset,
    LabelledImage,
    LabelledImageBuilder,
    check_overlap,
    class_key,
    label_indices,
)
from squeezedrive.engines.datasets.images import pictures_of, without_suffix
from squeezedrive.engines.datasets.text import read_text
from squeezedrive.engines.errors import DatasetError

NEIGHBOURS = {"van": "car", "person_sitting": "pedestrian"}  # as the development kit pairs them
LABEL_COLUMNS = 15


def load_kitti(
    root: Path, split: str, classes: Sequence[str] | None, aliases: Mapping[str, str]
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    pictures = kitti_pictures(root, split)
    labels = root / "training" / "label_2"
    texts = {name: _label_text(labels / f"{name}.txt") for name in pictures}
    found = _classes_in(texts.values())
    labelled = [name for name in found if name != DONT_CARE]
    if classes is None:
        classes = [name for name in labelled if NEIGHBOURS.get(name) not in labelled]
    indices = label_indices(classes, aliases)
    # A set may show vans only, so that cars are learned not to be there.
    check_overlap(root, classes, indices, [*labelled, *(NEIGHBOURS.get(n, n) for n in labelled)])
    items = tuple(
        _read_item(pictures[name], labels / f"{name}.txt", text, indices)
        for name, text in texts.items()
    )
    if any(class_key(name) not in found for name in aliases):
        # A class may be too rare to be in this split; only a name that is nowhere is a mistake.
        found = _classes_in(map(_label_text, labels.glob("*.txt")))
    return Dataset(root, split, "kitti", tuple(classes), items, tuple(found))


def kitti_pictures(root: Path, split: str) -> dict[str, Path]:
    """Return the pictures of a split by name.

    Raises
    ------
    DatasetError
        If there is no such split, or a picture in it is missing.
    """
    return pictures_of(root / "training" / "image_2", _split_names(root, split), split)


def _split_names(root: Path, split: str) -> list[str]:
    folder = root / "ImageSets"
    path = folder / f"{split}.txt"
    there = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
    hint = f"there are {there}" if there else "make the file, one picture's name a line"
    lines = map(str.strip, read_text(path, f"no such split; {hint}").splitlines())
    names = [without_suffix(line) for line in lines if line]
    if not names:
        raise DatasetError(f"{path}: is empty, expected one picture's name a line")
    return names


def _label_text(path: Path) -> list[str]:
    text = read_text(path, "no such label file; a picture without objects has an empty one")
    return [line for line in text.splitlines() if line.strip()]


def _classes_in(texts: Iterable[list[str]]) -> list[str]:
    return sorted({class_key(line.split()[0]) for text in texts for line in text})


def _read_item(image: Path, path: Path, lines: list[str], indices: dict[str, int]) -> LabelledImage:
    builder = LabelledImageBuilder(image)
    for line in lines:
        name, values = parse_line(path, line, LABEL_COLUMNS)
        box = values[3:7]
        if indices.get(name) == EVERY_CLASS:
            builder.ignore(box)
        elif name in indices:
            builder.add(box, indices[name], values[0], int(values[1]))
        elif NEIGHBOURS.get(name) in indices:
            index = indices[NEIGHBOURS[name]]
            builder.add(box, index, values[0], int(values[1]), neighbour=True)
        else:
            builder.leave_out(name)
    return builder.build()


def parse_line(path: Path, line: str, columns: int) -> tuple[str, list[float]]:
    """Split a line of a label or result file into the class (as `class_key`) and its numbers.

    Raises
    ------
    DatasetError
        If it does not have that many columns, or one is not a number.
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
