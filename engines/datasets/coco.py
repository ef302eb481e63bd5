"""The COCO layout: `annotations/instances_<split>.json` and pictures in `images/<split>`.

`annotations/<split>.json` and pictures in `images` or `<split>` will do as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    DatasetError,
    ItemBuilder,
    check_overlap,
    class_key,
    label_indices,
)


def load_coco(
    root: Path, split: str, classes: Sequence[str] | None, aliases: Mapping[str, str]
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    path = _annotation_file(root, split)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON: {error}") from None
    try:
        return _read(root, split, path, content, classes, aliases)
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
    there = ", ".join(sorted(file.name for file in folder.glob("*.json")))
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
) -> Dataset:
    names = {category["id"]: category["name"] for category in content["categories"]}
    if classes is None:
        classes = list(names.values())
    wanted = label_indices(classes, aliases)
    check_overlap(path, classes, wanted, names.values())
    index_of = {
        number: wanted[class_key(name)]
        for number, name in names.items()
        if class_key(name) in wanted
    }
    if not content["images"]:
        raise DatasetError(f"{path}: lists no images")
    folder = _picture_folder(root, split, path, content["images"][0]["file_name"])
    builders = {
        image["id"]: ItemBuilder(folder / image["file_name"], (image["width"], image["height"]))
        for image in content["images"]
    }
    for annotation in content["annotations"]:
        if annotation["category_id"] not in index_of:
            continue
        index = index_of[annotation["category_id"]]
        box = annotation["bbox"]
        if len(box) != 4:
            raise DatasetError(f"{path}: expected a bbox of x, y, width, height, got {box}")
        x, y, width, height = map(float, box)
        corners = (x, y, x + width, y + height)
        if annotation["image_id"] not in builders:
            raise DatasetError(
                f"{path}: an annotation is for image {annotation['image_id']}, which is not listed"
            )
        builder = builders[annotation["image_id"]]
        if annotation.get("iscrowd", 0) or index == EVERY_CLASS:
            builder.ignore(corners, index)
        else:
            builder.add(corners, index)
    items = tuple(builder.build() for builder in builders.values())
    return Dataset(root, split, "coco", tuple(classes), items)


def _picture_folder(root: Path, split: str, path: Path, first: str) -> Path:
    folders = (root / "images" / split, root / "images", root / split, root)
    for folder in folders:
        if (folder / first).is_file():
            return folder
    raise DatasetError(
        f"{path}: picture {first} is in none of {', '.join(str(folder) for folder in folders)}"
    )
