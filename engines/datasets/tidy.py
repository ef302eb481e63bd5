"""Remove useless labels: boxes outside their picture, and duplicates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import Dataset, LabelledImage, Labels
from squeezedrive.engines.datasets.images import image_size
from squeezedrive.engines.errors import DatasetError

SAME = 0.5  # pixels by which the corners of a label may differ if two programs wrote it


@dataclass(frozen=True)
class TidyDataset:
    """A data set without useless labels, and the numbers of labels that were removed.

    Attributes
    ----------
    outside : int
        Boxes that lie wholly outside their picture; boxes that reach into it stay.
    double : int
        Labels with the class and place of an earlier label of the same picture.
    """

    dataset: Dataset
    outside: int
    double: int


def tidy(dataset: Dataset) -> TidyDataset:
    """Remove labels outside their picture and duplicates of earlier labels.

    Pictures are not decoded: if the labels do not give their size, their first bytes are read. A
    picture that cannot be read is reported when it is used.
    """
    items = []
    outside = double = 0
    for item in dataset.items:
        if len(item.labels):
            inside = ~_outside(item)
            outside += int((~inside).sum())
            labels = item.labels[inside]
            again = _again(labels)
            double += int(again.sum())
            item = replace(item, labels=labels[~again])
        items.append(item)
    return TidyDataset(replace(dataset, items=tuple(items)), outside, double)


def _outside(item: LabelledImage) -> NDArray[np.bool_]:
    """Return whether each label lies wholly outside the picture, a bool array (n,)."""
    boxes = item.labels.boxes
    width = height = np.inf
    with suppress(DatasetError):
        width, height = item.size or image_size(item.image)
    x1, y1, x2, y2 = boxes.T
    return np.asarray((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))


def _again(labels: Labels) -> NDArray[np.bool_]:
    """Return whether each label repeats an earlier one, a bool array (n,)."""
    boxes = labels.boxes
    apart = np.abs(boxes[:, None] - boxes).max(axis=2)
    other = (labels.classes[:, None] != labels.classes) | (
        labels.neighbour[:, None] != labels.neighbour
    )
    same = (apart <= SAME) & ~other
    return np.asarray(np.tril(same, -1).any(axis=1))
