"""Count mistakes above a score: false boxes by their cause, missed objects by their kind.

The kinds follow the error analysis of SqueezeDet's authors and TIDE (Bolya et al., ECCV 2020).
Boxes are judged in the order of their scores, best first. A box is

- *correct* on an object of its class, not yet found, that it overlaps enough;
- not judged on a neighbour or an object beyond the limits, or inside a region to be ignored;
- a *duplicate* on an object of its class that has been found;
- a *confusion* if it overlaps an object of another class as much as that class asks for;
- badly *localised* if it overlaps an object of its class by 0.1 or more;
- *background* otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImage
from squeezedrive.engines.evaluation.kitti import Difficulty
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import OTHER_CLASS, ImageDetections

NEAR = 0.1  # IoU from which a box relates to an object

CORRECT, LOCALISATION, CONFUSION, DUPLICATE, BACKGROUND = range(5)
BOX_KINDS = ("correct", "localisation", "confusion", "duplicate", "background")
FOUND, BADLY_LOCALISED, CONFUSED, MISSED = range(4)
OBJECT_KINDS = ("found", "badly_localised", "confused", "missed")


@dataclass(frozen=True)
class Mistakes:
    """Counts of mistakes in a data set.

    Attributes
    ----------
    score : float
        The smallest score of the boxes that are counted.
    boxes : int array (classes, 5)
        Boxes of each class by `BOX_KINDS`.
    objects : int array (classes, 4)
        Objects of each class by `OBJECT_KINDS`. Objects that are not found are confused if a box of
        another class is on them, else badly localised if a box of their class is near, else missed.
    confusion : int array (classes + 1, classes + 1)
        Rows: the true class; the last row is background. Columns: the class of the box; the last
        column is for objects without a box that overlaps enough. The row of a class sums up to its
        objects.
    """

    score: float
    boxes: NDArray[np.int64]
    objects: NDArray[np.int64]
    confusion: NDArray[np.int64]


def find_mistakes(
    items: Sequence[LabelledImage],
    found: Sequence[ImageDetections],
    min_iou: Sequence[float],
    score: float,
    limits: Difficulty | None = None,
) -> Mistakes:
    """Count the mistakes among the boxes found in pictures and the objects labelled there.

    Parameters
    ----------
    min_iou : sequence of float
        The smallest overlap, exclusive, of a correct box of each class.
    score : float
        Boxes with a smaller score are left out.
    limits : Difficulty, optional
        Objects beyond these limits need not be found. With None, all objects are to be found.

    Notes
    -----
    Boxes of a class without any label are left out, because they cannot be judged.
    """
    n = len(min_iou)
    labelled = np.zeros(n, np.bool_)
    for item in items:
        labelled[item.objects.classes] = True
    total = Mistakes(
        score,
        np.zeros((n, len(BOX_KINDS)), np.int64),
        np.zeros((n, len(OBJECT_KINDS)), np.int64),
        np.zeros((n + 1, n + 1), np.int64),
    )
    required = np.array(min_iou, np.float64)
    for item, f in zip(items, found, strict=True):
        wanted = (f.scores >= score) & (f.classes != OTHER_CLASS)
        wanted &= np.append(labelled, False)[f.classes]
        order = np.argsort(-f.scores, kind="stable")
        order = order[wanted[order]]
        _judge(item, f.boxes[order], f.classes[order], required, limits, total)
    return total


def _judge(
    item: LabelledImage,
    boxes: NDArray[np.float64],
    classes: NDArray[np.intp],
    required: NDArray[np.float64],
    limits: Difficulty | None,
    total: Mistakes,
) -> None:
    """Add one picture's boxes, best first, and its objects to the counts."""
    labels = item.labels
    counted = limits.counts(labels) if limits else ~labels.neighbour
    overlaps = iou(boxes, labels.boxes)
    enough = overlaps > required[labels.classes]
    covered = coverage(boxes, item.ignore_boxes)
    state = np.full(len(labels), MISSED)
    taken_for = np.full(len(labels), len(required))  # the column of the confusion matrix

    left = []
    for box, class_index in enumerate(classes):
        same = labels.classes == class_index
        free = same & enough[box] & counted & (state != FOUND)
        if free.any():
            best = np.where(free, overlaps[box], -1).argmax()
            state[best], taken_for[best] = FOUND, class_index
            total.boxes[class_index, CORRECT] += 1
        else:
            left.append(box)

    for box in left:
        class_index = classes[box]
        same = labels.classes == class_index
        ignoring = np.isin(item.ignore_classes, (class_index, EVERY_CLASS))
        if (same & enough[box] & ~counted).any() or (
            covered[box, ignoring] > required[class_index]
        ).any():
            continue
        if (same & enough[box]).any():
            kind = DUPLICATE
        elif (~same & enough[box]).any():
            kind = CONFUSION
            victim = np.where(~same & enough[box], overlaps[box], -1).argmax()
            if state[victim] not in (FOUND, CONFUSED):
                state[victim], taken_for[victim] = CONFUSED, class_index
        elif (same & (overlaps[box] >= NEAR)).any():
            kind = LOCALISATION
            victim = np.where(same, overlaps[box], -1).argmax()
            if state[victim] == MISSED:
                state[victim] = BADLY_LOCALISED
        else:
            kind = BACKGROUND
            total.confusion[-1, class_index] += 1
        total.boxes[class_index, kind] += 1

    np.add.at(total.objects, (labels.classes[counted], state[counted]), 1)
    np.add.at(total.confusion, (labels.classes[counted], taken_for[counted]), 1)
