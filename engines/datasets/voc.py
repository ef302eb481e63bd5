"""The Pascal VOC layout: an XML file of labels for each picture.

`annotations/*.xml` with pictures in `images`, or `Annotations` with `JPEGImages`. Splits are lists
of names in `ImageSets` or `ImageSets/Main`; without such lists everything is split "train".
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
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

FOLDERS = (("annotations", "images"), ("Annotations", "JPEGImages"))
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SECOND_COLUMN = re.compile(r"\s+(-1|0|1)$")


def annotation_folder(root: Path) -> Path | None:
    """Return the folder of XML files if a data set has this layout."""
    for name, _ in FOLDERS:
        if without_hidden((root / name).glob("*.xml")):
            return root / name
    return None


def load_voc(
    root: Path,
    split: str,
    classes: Sequence[str] | None,
    aliases: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    """Read a split; see `engines.datasets.load.load_dataset`."""
    folder = annotation_folder(root)
    assert folder is not None
    files = LabelFiles("voc", folder, ".xml", _read_xml, _object_names, _read_item)
    return files.load(root, split, voc_pictures(root, split, faults), classes, aliases, faults)


def voc_pictures(
    root: Path, split: str, faults: list[DatasetError] | None = None
) -> dict[str, Path]:
    """Return the pictures of a split by name; see `engines.datasets.load.load_pictures`."""
    folder = annotation_folder(root)
    assert folder is not None
    pictures = root / dict(FOLDERS)[folder.name]
    return pictures_of(pictures, _names(root, folder, split), split, faults)


def _names(root: Path, folder: Path, split: str) -> list[str]:
    lists = root / "ImageSets"
    if (lists / "Main").is_dir():
        lists = lists / "Main"
    if lists.is_dir():
        there = ", ".join(sorted(file.stem for file in without_hidden(lists.glob("*.txt"))))
        text = read_text(lists / f"{split}.txt", f"no such split; there are {there or 'none'}")
        # Lists of a single class have a second column: whether the picture shows it.
        lines = [SECOND_COLUMN.sub("", line.strip()) for line in text.splitlines()]
        names = [without_suffix(line) for line in lines if line]
    elif split == "train":
        names = sorted(path.stem for path in without_hidden(folder.glob("*.xml")))
    else:
        raise DatasetError(
            f"{root}: no split {split!r}; without lists in ImageSets everything is split train"
        )
    if not names:
        raise DatasetError(f"{lists / split}.txt: is empty, expected one picture name per line")
    return names


def _read_xml(path: Path) -> ET.Element:
    try:
        return ET.fromstring(read_text(path, "no such label file"))
    except ET.ParseError as error:
        raise DatasetError(f"{path}: is not XML: {error}") from None


def _object_names(tree: ET.Element) -> list[str]:
    return [_name(entry) for entry in tree.iter("object")]


def _name(entry: ET.Element) -> str:
    return class_key(entry.findtext("name", ""))


def _read_item(
    image: Path, path: Path, tree: ET.Element, indices: Mapping[str, int]
) -> LabelledImage:
    builder = LabelledImageBuilder(image, _size(tree), path)
    for number, entry in enumerate(tree.iter("object"), 1):
        index = indices.get(_name(entry))
        if index is None:
            builder.leave_out(_name(entry))
            continue
        box = _corners(entry, path)
        if index == EVERY_CLASS:
            builder.ignore(box)
        elif entry.findtext("difficult", "0").strip() == "1":
            builder.ignore(box, index)
        else:
            builder.add(box, index, place=number)
    return builder.build()


def _size(tree: ET.Element) -> tuple[int, int] | None:
    """Return the width and height that the labels were made for; some programs write 0."""
    texts = [tree.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    width, height = (int(text) if text.isdecimal() else 0 for text in texts)
    return (width, height) if width and height else None


def _corners(entry: ET.Element, path: Path) -> list[float]:
    texts = [entry.findtext(f"bndbox/{corner}", "") for corner in CORNERS]
    try:
        box = [float(text) for text in texts]
    except ValueError:
        box = []
    if not box or not all(map(math.isfinite, box)):
        raise DatasetError(f"{path}: expected a bndbox of {', '.join(CORNERS)}, got {texts}")
    return box
