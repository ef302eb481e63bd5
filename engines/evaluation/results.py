"""The boxes that a detector found in the pictures of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import Dataset, class_indices
from squeezedrive.engines.datasets.kitti import parse_line
from squeezedrive.engines.datasets.text import read_text
from squeezedrive.engines.errors import DatasetError
from squeezedrive.kernels.detections import Detections

RESULT_COLUMNS = 16
OTHER_CLASS = -1  # in `ImageDetections.classes`: not a class of the data set


@dataclass(frozen=True)
class ImageDetections:
    """The boxes found in one picture, in double precision as in the development kit.

    Attributes
    ----------
    boxes : float64 array (n, 4)
        Corners x1, y1, x2, y2 in pixels of the picture.
    scores : float64 array (n,)
        Scores; a larger score is more certain.
    classes : int array (n,)
        Index into the data set's class names, or `OTHER_CLASS`.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_detections(
        cls, detections: Detections, class_names: Sequence[str], dataset: Dataset
    ) -> ImageDetections:
        """Convert a back end's boxes, whose classes are indices into `class_names`."""
        indices = class_map(class_names, dataset.classes)
        return cls(
            detections.boxes.astype(np.float64),
            detections.scores.astype(np.float64),
            indices[detections.classes],
        )


def class_map(names: Sequence[str], others: Sequence[str]) -> NDArray[np.intp]:
    """Return the index of each name among the other names, or `OTHER_CLASS`."""
    wanted = class_indices(others)
    return np.array([wanted.get(key, OTHER_CLASS) for key in class_indices(names)], np.intp)


def read_results(folder: Path, dataset: Dataset) -> list[ImageDetections]:
    """Read a KITTI result file for each picture of a data set.

    The file is `<picture's stem>.txt`; its lines have 16 columns, and the last is the score.

    Returns
    -------
    list of ImageDetections
        In the order of the pictures and of the lines.

    Raises
    ------
    DatasetError
        If a file is missing or damaged, or two pictures have the same name.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder, expected a folder of KITTI result files")
    images = {item.image.stem: item.image for item in dataset.items}
    for item in dataset.items:
        if images[item.image.stem] != item.image:
            raise DatasetError(
                f"{folder}: {item.image.stem}.txt is for both {item.image} and"
                f" {images[item.image.stem]}; give each picture a different name"
            )
    paths = [folder / f"{item.image.stem}.txt" for item in dataset.items]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(paths)} result files are missing, the first is"
            f" {missing[0]}; a picture without detections has an empty one"
        )
    indices = class_indices(dataset.classes)
    return [_read_file(path, indices) for path in paths]


def _read_file(path: Path, indices: dict[str, int]) -> ImageDetections:
    lines = read_text(path).splitlines()
    rows = [parse_line(path, line, RESULT_COLUMNS) for line in lines if line.strip()]
    values = np.array([numbers[:15] for _, numbers in rows], np.float64).reshape(-1, 15)
    classes = np.array([indices.get(name, OTHER_CLASS) for name, _ in rows], np.intp)
    return ImageDetections(values[:, 3:7], values[:, 14], classes)
