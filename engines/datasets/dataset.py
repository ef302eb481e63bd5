"""A data set in memory: its pictures and the labelled objects in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.errors import DatasetError

DatasetLayout = Literal["kitti", "coco", "yolo", "voc"]

EVERY_CLASS = -1  # in `LabelledImage.ignore_classes`
MAX_CORNER = 1e9  # pixels from the picture: squares of it are numbers in single precision
DONT_CARE = "dontcare"  # the name of regions in which nothing is right or wrong


@dataclass(frozen=True)
class Labels:
    """The labelled objects of one picture as aligned arrays, in the order of the label file.

    Attributes
    ----------
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels of the picture.
    classes : int32 array (n,)
        Index into the data set's class names.
    truncation : float64 array (n,)
        Part of the object outside the picture, 0 to 1; 0 if the layout does not give it.
    occlusion : int32 array (n,)
        0 fully visible, 1 partly, 2 largely occluded, 3 unknown; 0 if the layout does not give it.
    height : float64 array (n,)
        y2 - y1 in double precision, because some boxes are exactly as high as KITTI's limits of 25
        and 40 px.
    neighbour : bool array (n,)
        Whether the object is not of this class but of a similar one (a van for a car). It is
        neither to be found nor learned, but a box on it is not a mistake.
    places : int32 array (n,)
        The object's place in its label file; see `LabelledImage.place`.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    truncation: NDArray[np.float64]
    occlusion: NDArray[np.int32]
    height: NDArray[np.float64]
    neighbour: NDArray[np.bool_]
    places: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Labels:
        """Return the labels that a mask, an index array or a slice selects."""
        return Labels(
            self.boxes[index],
            self.classes[index],
            self.truncation[index],
            self.occlusion[index],
            self.height[index],
            self.neighbour[index],
            self.places[index],
        )


@dataclass(frozen=True)
class LabelledImage:
    """One picture of a data set.

    Attributes
    ----------
    image : Path
        The picture's file; its stem names the picture in result files.
    size : tuple of int or None
        Width and height in pixels; None if the labels do not give them and the picture has to be
        read.
    labels : Labels
        The objects and their neighbours together.
    ignore_boxes : float32 array (m, 4)
        Regions in which objects are not labelled one by one.
    ignore_classes : int32 array (m,)
        The class for which each region is ignored, or `EVERY_CLASS`.
    left_out : tuple of str
        The names of objects whose class is not one of the data set's classes.
    without_area : tuple of int
        Places of the boxes that are left out because they have no area.
    cut : tuple of int
        Places of the boxes that reached out of the picture and were cut at its edge; only in YOLO
        layout, since other layouts keep such boxes as they are.
    label_file : Path or None
        The file with the labels; None for a picture that was made in code.
    """

    image: Path
    size: tuple[int, int] | None
    labels: Labels
    ignore_boxes: NDArray[np.float32]
    ignore_classes: NDArray[np.int32]
    left_out: tuple[str, ...] = ()
    without_area: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    label_file: Path | None = None

    def place(self, number: int) -> str:
        """Return an object's place in its label file, for messages.

        The number is that of a line (KITTI, YOLO) or an object (Pascal VOC), counted from 1, or the
        index in the list of annotations (COCO).
        """
        suffix = self.label_file.suffix if self.label_file else ""
        where = {".xml": f"object {number}", ".json": f"annotations[{number}]"}
        return f"{self.label_file}: {where.get(suffix, f'line {number}')}"

    @property
    def objects(self) -> Labels:
        """The objects that are to be found: the labels without neighbours."""
        return self.labels[~self.labels.neighbour]


@contextmanager
def noted(faults: list[DatasetError] | None) -> Iterator[None]:
    """Append an error about one picture to a list and go on; without a list, raise it."""
    try:
        yield
    except DatasetError as error:
        if faults is None:
            raise
        faults.append(error)


@dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes
    ----------
    root : Path
        The folder of the data set.
    split : str
        The name of the split: "train", "val" or another name.
    layout : str
        "kitti", "coco", "yolo" or "voc".
    classes : tuple of str
        Class names in the order of the class indices.
    items : tuple of LabelledImage
        The pictures, in the order of the split.
    names : tuple of str
        All class names in the data set, asked for or not: the declared names; in KITTI and Pascal
        VOC layout, the labelled names.
    """

    root: Path
    split: str
    layout: DatasetLayout
    classes: tuple[str, ...]
    items: tuple[LabelledImage, ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def counts(self) -> NDArray[np.intp]:
        """Return the number of objects of each class, without neighbours."""
        counts = np.zeros(len(self.classes), np.intp)
        for item in self.items:
            counts += np.bincount(item.objects.classes, minlength=len(self.classes))
        return counts

    def left_out(self) -> dict[str, int]:
        """Return the number of objects of each class that is not asked for, most frequent first.

        Such objects count as background. Names that stand for a class, regions to ignore and
        neighbours are not included.
        """
        return dict(Counter(name for item in self.items for name in item.left_out).most_common())


class LabelledImageBuilder:
    """Collects the labels of one picture line by line; boxes without area are left out."""

    def __init__(
        self, image: Path, size: tuple[int, int] | None = None, label_file: Path | None = None
    ) -> None:
        self._image = image
        self._size = size
        self._label_file = label_file
        self._labels: list[tuple[Sequence[float], int, float, int, bool, int]] = []
        self._ignored: list[tuple[Sequence[float], int]] = []
        self._left_out: list[str] = []
        self._without_area: list[int] = []
        self._cut: list[int] = []

    def add(
        self,
        box: Sequence[float],
        class_index: int,
        truncation: float = 0.0,
        occlusion: int = 0,
        neighbour: bool = False,
        place: int = 0,
        cut: bool = False,
    ) -> None:
        """Add an object with corners x1, y1, x2, y2 in pixels.

        Raises
        ------
        DatasetError
            If one of them is beyond `MAX_CORNER`.
        """
        self._check(box)
        if box[2] > box[0] and box[3] > box[1]:
            self._labels.append((box, class_index, truncation, occlusion, neighbour, place))
        else:
            self._without_area.append(place)
        if cut:
            self._cut.append(place)

    def ignore(self, box: Sequence[float], class_index: int = EVERY_CLASS) -> None:
        """Add a region to ignore for a class, or for all; raises as `add` does."""
        self._check(box)
        self._ignored.append((box, class_index))

    def leave_out(self, name: str) -> None:
        """Count an object of a class that is not asked for."""
        self._left_out.append(name)

    def _check(self, box: Sequence[float]) -> None:
        if max(map(abs, box)) > MAX_CORNER:
            corners = ", ".join(f"{value:g}" for value in box)
            raise DatasetError(
                f"{self._label_file or self._image}: expected a box in pixels of its picture, got"
                f" {corners}"
            )

    def build(self) -> LabelledImage:
        """Return the picture with the labels that were added."""
        boxes = np.array([label[0] for label in self._labels], np.float64).reshape(-1, 4)
        labels = Labels(
            boxes=boxes.astype(np.float32),
            classes=np.array([label[1] for label in self._labels], np.int32),
            truncation=np.array([label[2] for label in self._labels], np.float64),
            occlusion=np.array([label[3] for label in self._labels], np.int32),
            height=boxes[:, 3] - boxes[:, 1],
            neighbour=np.array([label[4] for label in self._labels], np.bool_),
            places=np.array([label[5] for label in self._labels], np.int32),
        )
        return LabelledImage(
            image=self._image,
            size=self._size,
            labels=labels,
            ignore_boxes=np.array([box for box, _ in self._ignored], np.float32).reshape(-1, 4),
            ignore_classes=np.array([index for _, index in self._ignored], np.int32),
            left_out=tuple(self._left_out),
            without_area=tuple(self._without_area),
            cut=tuple(self._cut),
            label_file=self._label_file,
        )


def class_key(name: str) -> str:
    """Return the common form of a class name's spellings: "Person_sitting", "person sitting".

    KITTI writes names with capitals and without spaces; profiles and other layouts vary.
    """
    return "_".join(name.casefold().split())


def class_indices(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each class by `class_key`.

    Raises
    ------
    DatasetError
        If a name occurs twice.
    """
    indices = {class_key(name): index for index, name in enumerate(names)}
    if len(indices) != len(names):
        raise DatasetError(f"class names must differ, got {', '.join(names)}")
    return indices


def label_indices(
    where: Path, classes: Sequence[str], names: Mapping[str, str], there: Iterable[str]
) -> dict[str, int]:
    """Return the class index of each name in a data set, by `class_key`.

    Parameters
    ----------
    where : Path
        The data set, for messages.
    classes : sequence of str
        The classes that are asked for.
    names : mapping of str to str
        Further names in the data set, each with the class that it stands for. Objects of a name
        with "dontcare" are ignored for every class (`EVERY_CLASS`).
    there : iterable of str
        The names in the data set.

    Raises
    ------
    DatasetError
        If a class occurs twice, a name stands for none of the classes, or no class is labelled.
    """
    wanted = {**class_indices(classes), DONT_CARE: EVERY_CLASS}
    indices = dict(wanted)
    for theirs, ours in names.items():
        if class_key(ours) not in wanted:
            raise DatasetError(
                f"names: {theirs}: expected one of {', '.join(classes)} or {DONT_CARE}, got"
                f" {ours!r}"
            )
        indices[class_key(theirs)] = wanted[class_key(ours)]
    there = list(dict.fromkeys(there))
    if all(indices.get(class_key(name), EVERY_CLASS) == EVERY_CLASS for name in there):
        raise DatasetError(
            f"{where}: none of the classes asked for ({', '.join(classes)}) is labelled here;"
            f" there are {', '.join(there) or 'no labels'}"
        )
    return indices
