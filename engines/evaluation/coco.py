"""Compute average precision as COCO defines it (Lin et al., ECCV 2014; cocodataset.org).

The evaluation covers objects of all sizes, up to 100 boxes per class and picture, IoU from 0.50 to
0.95, and precision at 101 recall positions. A region to ignore (a crowd, KITTI's DontCare) takes
any number of boxes, by the part of the box that it covers. Boxes on such regions or on neighbours
are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImage
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import ImageDetections

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_BOXES = 100


@dataclass(frozen=True)
class CocoCurve:
    """Precision against recall for one class.

    Attributes
    ----------
    precision : float64 array (10, 101)
        At each of `IOUS` and each of `RECALLS`; 0 where recall is not reached.
    objects : int
        Number of objects to be found.
    """

    precision: NDArray[np.float64]
    objects: int

    def ap(self, min_iou: float | None = None) -> float:
        """Return AP at one of `IOUS`, or their mean; NaN without objects."""
        if not self.objects:
            return float("nan")
        if min_iou is None:
            return float(self.precision.mean())
        return float(self.precision[np.abs(IOUS - min_iou).argmin()].mean())


def evaluate_coco(
    items: Sequence[LabelledImage], found: Sequence[ImageDetections], classes: Sequence[str]
) -> tuple[CocoCurve, ...]:
    """Compute the curve of each class for labelled pictures and the boxes found in them."""
    return tuple(_curve(items, found, index) for index in range(len(classes)))


def _curve(
    items: Sequence[LabelledImage], found: Sequence[ImageDetections], index: int
) -> CocoCurve:
    scores: list[NDArray[np.float64]] = []
    right: list[NDArray[np.bool_]] = []
    ignored: list[NDArray[np.bool_]] = []
    objects = 0
    for item, f in zip(items, found, strict=True):
        objects += int(((item.labels.classes == index) & ~item.labels.neighbour).sum())
        mine = np.flatnonzero(f.classes == index)
        mine = mine[np.argsort(-f.scores[mine], kind="stable")[:MAX_BOXES]]
        if len(mine):
            taken, skip = match(item, f.boxes[mine], index)
            scores.append(f.scores[mine])
            right.append(taken >= 0)
            ignored.append(skip)
    precision = np.zeros((len(IOUS), len(RECALLS)))
    if objects and scores:
        order = np.argsort(-np.concatenate(scores), kind="stable")
        hits = np.concatenate(right, axis=1)[:, order]
        skips = np.concatenate(ignored, axis=1)[:, order]
        for row, hit, skip in zip(precision, hits, skips, strict=True):
            row[:] = precision_at_recalls(hit & ~skip, ~hit, objects)
    return CocoCurve(precision, objects)


def precision_at_recalls(
    true: NDArray[np.bool_], false: NDArray[np.bool_], objects: int
) -> NDArray[np.float64]:
    """Return the precision of boxes, from best to worst score, at each of `RECALLS`."""
    true_so_far, false_so_far = true.cumsum(), false.cumsum()
    recall = true_so_far / objects
    precision = true_so_far / np.maximum(true_so_far + false_so_far, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[reached]


def match(
    item: LabelledImage,
    boxes: NDArray[np.float64],
    index: int,
    ious: NDArray[np.floating] = IOUS,
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Assign each box, best first, to the object it overlaps most among those still free.

    Parameters
    ----------
    boxes : float64 array (n, 4)
        Boxes of the class `index`.
    ious : float array (k,)
        The smallest overlaps at which a box is assigned.

    Returns
    -------
    taken : int array (k, n)
        What each box has taken at each overlap: the number of a label of its class, or of a region
        to ignore, counted on after the labels; -1 for nothing.
    skip : bool array (k, n)
        Whether the box has taken a neighbour or a region to ignore.
    """
    labels = item.labels[item.labels.classes == index]
    regions = item.ignore_boxes[np.isin(item.ignore_classes, (index, EVERY_CLASS))]
    overlaps = np.hstack([iou(boxes, labels.boxes), coverage(boxes, regions)])
    optional = np.append(labels.neighbour, np.ones(len(regions), np.bool_))
    once = np.arange(len(optional)) < len(labels)
    free = np.ones((len(ious), len(optional)), np.bool_)
    taken = np.full((len(ious), len(boxes)), -1, np.intp)
    skip = np.zeros(taken.shape, np.bool_)
    if not len(optional):
        return taken, skip
    rows = np.arange(len(ious))
    for number, overlap in enumerate(overlaps):
        usable = free & (overlap >= ious[:, None])
        # The order is: objects before ignored ones, then the larger overlap, then the later label.
        rank = np.where(usable, overlap + 2 * ~optional, -1)[:, ::-1]
        best = rank.shape[1] - 1 - rank.argmax(axis=1)
        hit = rank.max(axis=1) >= 0
        taken[hit, number] = best[hit]
        skip[:, number] = hit & optional[best]
        free[rows, best] &= ~(hit & once[best])
    return taken, skip
