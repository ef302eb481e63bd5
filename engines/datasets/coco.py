"""The COCO layout: `annotations/instances_<split>.json` and pictures in `images/<split>`.

`annotations/<split>.json` and pictures in `images` or `<split>` are accepted as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from squeezedrive.engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    LabelledImageBuilder,
    class_key,
    label_indices,
    noted,
)
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.files import without_hidden
from squeezedrive.engines.json_text import load_json

MAX_SIDE = 1 << 20  # pixels of a picture, which no camera has


def load_coco(
    root: Path,
    split: str,
    classes: Sequence[str] | None,
    aliases: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    with _annotations(root, split) as (path, content):
        return _read(root, split, path, content, classes, aliases, faults)


def coco_pictures(root: Path, split: str) -> list[Path]:
    """Return the pictures of a split; see `engines.datasets.load.load_pictures`."""
    with _annotations(root, split) as (path, content):
        return list(_pictures(root, split, path, content["images"]).values())


@contextmanager
def _annotations(root: Path, split: str) -> Iterator[tuple[Path, Any]]:
    """Provide a split's annotation file and its content; raise DatasetError if keys are missing."""
    path = _annotation_file(root, split)
    try:
        content = load_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON: {error}") from None
    try:
        yield path, content
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected COCO annotations with images (id, file_name, width, height),"
            f" categories (id, name) and annotations (image_id, category_id, bbox): {error!r}"
        ) from None


def _annotation_file(root: Path, split: str) -> Path:
    folder = root / "annotations"
    for name in (f"instances_{split}.json", f"{split}.json"):
        if (folder / name).is_file():
            return folder / name
    there = ", ".join(sorted(file.name for file in without_hidden(folder.glob("*.json"))))
    raise DatasetError(
        f"{folder}: neither instances_{split}.json nor {split}.json; there are {there or 'none'}"
    )


def _read(
    root: Path,
    split: str,
    path: Path,
    content: Any,
    classes: Sequence[str] | None,
    aliases: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    names = {category["id"]: _name(category["name"]) for category in content["categories"]}
    if classes is None:
        classes = list(names.values())
    wanted = label_indices(path, classes, aliases, names.values())
    pictures = _pictures(root, split, path, content["images"], faults)
    builders = {
        image["id"]: LabelledImageBuilder(
            pictures[image["id"]], _size(f"{path}: images[{place}]", image), path
        )
        for place, image in enumerate(content["images"])
    }
    for place, annotation in enumerate(content["annotations"]):
        with noted(faults):
            _add(path, annotation, place, names, wanted, builders)
    items = tuple(builder.build() for builder in builders.values())
    return Dataset(root, split, "coco", tuple(classes), items, tuple(names.values()))


def _add(
    path: Path,
    annotation: Any,
    place: int,
    names: Mapping[Any, str],
    wanted: Mapping[str, int],
    builders: Mapping[Any, LabelledImageBuilder],
) -> None:
    """Add an annotation to its picture."""
    where = f"{path}: annotations[{place}]"
    category = annotation["category_id"]
    if category not in names:
        raise DatasetError(f"{where} is of category {category!r}, which is not listed")
    if annotation["image_id"] not in builders:
        raise DatasetError(f"{where} is for image {annotation['image_id']}, which is not listed")
    builder = builders[annotation["image_id"]]
    index = wanted.get(class_key(names[category]))
    if index is None:
        builder.leave_out(names[category])
        return
    corners = _corners(where, annotation["bbox"])
    if annotation.get("iscrowd", 0) or index == EVERY_CLASS:
        builder.ignore(corners, index)
    else:
        builder.add(corners, index, place=place)


def _name(name: Any) -> str:
    """Return a class name as text; a number is accepted as a name."""
    return name if isinstance(name, str) else json.dumps(name)


def _size(where: str, image: Any) -> tuple[int, int]:
    """Return width and height of a picture in pixels."""
    size = image["width"], image["height"]
    if any(type(side) not in (int, float) or not 0 < side < MAX_SIDE or side % 1 for side in size):
        raise DatasetError(
            f"{where}: expected width and height in pixels, got {size[0]!r} and {size[1]!r}"
        )
    return int(size[0]), int(size[1])


def _corners(where: str, bbox: Any) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        x = y = width = height = math.nan
    corners = (x, y, x + width, y + height)
    if not all(map(math.isfinite, corners)):
        raise DatasetError(f"{where}: expected a bbox of x, y, width, height, got {bbox!r}")
    return corners


def _pictures(
    root: Path, split: str, path: Path, images: Any, faults: list[DatasetError] | None = None
) -> dict[Any, Path]:
    """Return the pictures that an annotation file lists, by their id.

    With a list of `faults`, missing pictures are returned as well and reported when they are read.
    """
    if not images:
        raise DatasetError(f"{path}: lists no images")
    folder = _picture_folder(root, split, path, images[0]["file_name"])
    pictures = {image["id"]: folder / image["file_name"] for image in images}
    wanted = set(pictures.values())
    # Listing a folder is far faster than checking each of a hundred thousand files.
    folders = {picture.parent for picture in wanted}
    try:
        there = {file for folder in folders if folder.is_dir() for file in folder.iterdir()}
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}") from None
    missing = sorted(wanted - there)
    if missing and faults is None:
        raise DatasetError(
            f"{path}: {len(missing)} of {len(wanted)} pictures are missing, the first is"
            f" {missing[0]}"
        )
    return pictures


def _picture_folder(root: Path, split: str, path: Path, first: str) -> Path:
    folders = (root / "images" / split, root / "images", root / split, root)
    for folder in folders:
        if (folder / first).is_file():
            return folder
    raise DatasetError(
        f"{path}: picture {first} is in none of {', '.join(str(folder) for folder in folders)}"
    )
