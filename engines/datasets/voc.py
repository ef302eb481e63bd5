"""The Pascal VOC layout: an XML file of labels for each picture.

`annotations/*.xml` with pictures in `images`, or `Annotations` with `JPEGImages`. Splits are lists
of names in `ImageSets` or `ImageSets/Main`; without such lists everything is split "train".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from engines.datasets.images import is_image
from engines.datasets.text import read_text

FOLDERS = (("annotations", "images"), ("Annotations", "JPEGImages"))
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def annotation_folder(root: Path) -> Path | None:
    """Return the folder of XML files if a data set has this layout."""
    for name, _ in FOLDERS:
        if any((root / name).glob("*.xml")):
            return root / name
    return None


def load_voc(
    root: Path, split: str, classes: Sequence[str] | None, aliases: Mapping[str, str]
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    folder = annotation_folder(root)
    assert folder is not None
    pictures = _pictures(root / dict(FOLDERS)[folder.name])
    trees = {name: _read_xml(folder / f"{name}.xml") for name in _names(root, folder, split)}
    there = sorted({_name(entry) for tree in trees.values() for entry in tree.iter("object")})
    if classes is None:
        classes = [name for name in there if name not in map(class_key, aliases)]
    indices = label_indices(classes, aliases)
    check_overlap(root, classes, indices, there)
    items = []
    for name, tree in trees.items():
        if name not in pictures:
            raise DatasetError(f"{root}: there is no picture {name}, which is in split {split}")
        items.append(_read_item(pictures[name], folder / f"{name}.xml", tree, indices))
    return Dataset(root, split, "voc", tuple(classes), tuple(items))


def _names(root: Path, folder: Path, split: str) -> list[str]:
    lists = root / "ImageSets"
    if (lists / "Main").is_dir():
        lists = lists / "Main"
    if lists.is_dir():
        there = ", ".join(sorted(file.stem for file in lists.glob("*.txt")))
        text = read_text(lists / f"{split}.txt", f"no such split; there are {there or 'none'}")
        names = text.split()
    elif split == "train":
        names = sorted(path.stem for path in folder.glob("*.xml"))
    else:
        raise DatasetError(
            f"{root}: no split {split!r}; without lists in ImageSets everything is split train"
        )
    if not names:
        raise DatasetError(f"{lists / split}.txt: is empty, expected one picture's name a line")
    return names


def _pictures(folder: Path) -> dict[str, Path]:
    try:
        return {path.stem: path for path in folder.iterdir() if is_image(path)}
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None


def _read_xml(path: Path) -> ET.Element:
    try:
        return ET.fromstring(read_text(path, "no such label file"))
    except ET.ParseError as error:
        raise DatasetError(f"{path}: is not XML: {error}") from None


def _name(entry: ET.Element) -> str:
    return class_key(entry.findtext("name", ""))


def _read_item(image: Path, path: Path, tree: ET.Element, indices: Mapping[str, int]) -> Item:
    builder = ItemBuilder(image)
    for entry in tree.iter("object"):
        index = indices.get(_name(entry))
        if index is None:
            continue
        box = _corners(entry, path)
        if index == EVERY_CLASS:
            builder.ignore(box)
        elif entry.findtext("difficult", "0").strip() == "1":
            builder.ignore(box, index)
        else:
            builder.add(box, index)
    return builder.build()


def _corners(entry: ET.Element, path: Path) -> list[float]:
    texts = [entry.findtext(f"bndbox/{corner}", "") for corner in CORNERS]
    try:
        box = [float(text) for text in texts]
    except ValueError:
        box = []
    if not box or not all(map(math.isfinite, box)):
        raise DatasetError(f"{path}: expected a bndbox of {', '.join(CORNERS)}, got {texts}")
    return box
