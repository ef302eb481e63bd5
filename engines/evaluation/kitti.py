"""Compute average precision exactly as the KITTI object development kit.

Geiger, Lenz, Urtasun: Are we ready for autonomous driving? (CVPR 2012). For a class and a
difficulty:

1. Labels are *counted* if they are of the class and within the limits of height, occlusion and
   truncation. Labels beyond the limits, and neighbours (vans, sitting persons), are *ignored*: a
   box on them is neither right nor wrong. Labels and boxes of other classes do not take part.
2. With all boxes, each label in file order takes the best-scored box that overlaps it enough.
   The scores of boxes on counted labels give up to 41 thresholds, spaced by recall.
3. At each threshold, each label takes the box that overlaps it most. The remaining boxes are false
   unless DontCare regions cover them.
4. Precision at a threshold is raised to the best at any lower threshold. AP is its mean at 11
   recall positions (every fourth, from 0; the SqueezeDet paper) or at 40 (without the first; since
   2019).

The kit exists in two versions, and both are available here. "paper" is the original version, with
which the authors of SqueezeDet evaluated. "current", in use since the kit evaluates 3D boxes,
differs in two points. It counts only labels *higher* than the limit, not labels of equal height. It
*ignores* boxes lower than the limit, of any class: such a box is not an error, and a label that
overlaps no other box takes it and is neither found nor missed.

The kit averages over fixed positions. With fewer than 41 counted labels, there are fewer thresholds
than positions; the remaining positions count as 0, and AP cannot reach 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import (
    EVERY_CLASS,
    Dataset,
    LabelledImage,
    Labels,
    class_key,
)
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import ImageDetections

Kit = Literal["paper", "current"]

POSITIONS = 41
MIN_IOU = {"car": 0.7}
OTHER_MIN_IOU = 0.5


@dataclass(frozen=True)
class Difficulty:
    """Limits of counted labels: least height in pixels, largest occlusion and truncation."""

    name: str
    min_height: float
    max_occlusion: int
    max_truncation: float

    def counts(self, labels: Labels, kit: Kit = "paper") -> NDArray[np.bool_]:
        """Return whether each label is counted, a bool array (n,)."""
        high_enough = labels.height > self.min_height
        if kit == "paper":
            high_enough |= labels.height == self.min_height
        return (
            ~labels.neighbour
            & high_enough
            & (labels.occlusion <= self.max_occlusion)
            & (labels.truncation <= self.max_truncation)
        )


DIFFICULTIES = (
    Difficulty("easy", 40, 0, 0.15),
    Difficulty("moderate", 25, 1, 0.30),
    Difficulty("hard", 25, 2, 0.50),
)


def has_difficulties(dataset: Dataset) -> bool:
    """Return whether a data set has KITTI's layout and labels for KITTI's difficulties.

    Other data sets in this layout label every occlusion as unknown, so no label would be counted.
    """
    return dataset.layout == "kitti" and any(
        bool((item.labels.occlusion <= DIFFICULTIES[-1].max_occlusion).any())
        for item in dataset.items
    )


@dataclass(frozen=True)
class KittiCurve:
    """Precision against recall, for one class and difficulty.

    Attributes
    ----------
    precision : float64 array (41,)
        At recall 0, 1/40, ... 1, each the best at this or a higher recall; 0 where recall is not
        reached.
    objects : int
        Number of labels that were counted.
    """

    precision: NDArray[np.float64]
    objects: int

    def ap(self, positions: int) -> float:
        """Return AP on 11 or 40 recall positions, 0 to 1; NaN without objects."""
        chosen = self.precision[::4] if positions == 11 else self.precision[1:]
        return float(chosen.mean()) if self.objects else float("nan")


@dataclass(frozen=True)
class KittiResult:
    """AP of every class at every difficulty.

    Attributes
    ----------
    kit : str
        The version of the development kit, "paper" or "current".
    classes : tuple of str
        Class names.
    min_iou : tuple of float
        The required overlap of each class.
    curves : tuple of tuple of KittiCurve
        The curves of each class: easy, moderate and hard.
    """

    kit: Kit
    classes: tuple[str, ...]
    min_iou: tuple[float, ...]
    curves: tuple[tuple[KittiCurve, ...], ...]

    def ap(self, positions: int) -> NDArray[np.float64]:
        """Return AP for each class and difficulty, on 11 or 40 recall positions."""
        values = [[curve.ap(positions) for curve in row] for row in self.curves]
        return np.array(values, np.float64).reshape(-1, len(DIFFICULTIES))

    def mean_ap(self, positions: int) -> float:
        """Return the mean of all APs (nine for three classes), the published "mAP".

        Classes and difficulties without labels are left out; NaN if all are.
        """
        values = self.ap(positions)
        there = ~np.isnan(values)
        return float(values[there].mean()) if there.any() else float("nan")


def evaluate_kitti(
    items: Sequence[LabelledImage],
    found: Sequence[ImageDetections],
    classes: Sequence[str],
    min_iou: Mapping[str, float] | None = None,
    kit: Kit = "paper",
) -> KittiResult:
    """Compute all curves for labelled pictures and the boxes found in them.

    Parameters
    ----------
    min_iou : mapping of str to float, optional
        Smallest overlap, exclusive, of classes by name; the defaults are KITTI's 0.7 for cars and
        0.5 for others.
    kit : str
        The version of the development kit, "paper" or "current"; see above.
    """
    ious = [iou(f.boxes, item.labels.boxes) for item, f in zip(items, found, strict=True)]
    required = class_iou(classes, min_iou)
    curves = []
    for index, threshold in enumerate(required):
        row = []
        for difficulty in DIFFICULTIES:
            matchings = [
                _matching(item, f, overlaps, index, difficulty, threshold, kit)
                for item, f, overlaps in zip(items, found, ious, strict=True)
            ]
            row.append(_curve(matchings))
        curves.append(tuple(row))
    return KittiResult(kit, tuple(classes), required, tuple(curves))


def class_iou(
    classes: Sequence[str], min_iou: Mapping[str, float] | None = None
) -> tuple[float, ...]:
    """Return the smallest overlap of a correct box for each class; KITTI's unless given."""
    given = {class_key(name): value for name, value in (min_iou or {}).items()}
    keys = [class_key(name) for name in classes]
    return tuple(given.get(key, MIN_IOU.get(key, OTHER_MIN_IOU)) for key in keys)


@dataclass(frozen=True)
class _Matching:
    """The labels and boxes of one picture that take part, in file order.

    `candidates` lists for each label the indices and overlaps of the boxes that overlap enough.
    """

    counted_labels: NDArray[np.bool_]
    candidates: list[tuple[NDArray[np.intp], NDArray[np.float64]]]
    scores: NDArray[np.float64]
    counted_boxes: NDArray[np.bool_]
    dont_care: NDArray[np.bool_]


def _matching(
    item: LabelledImage,
    found: ImageDetections,
    overlaps: NDArray[np.float64],
    index: int,
    difficulty: Difficulty,
    threshold: float,
    kit: Kit,
) -> _Matching:
    smallest = difficulty.min_height if kit == "current" else -np.inf
    low = found.boxes[:, 3] - found.boxes[:, 1] < smallest
    boxes = np.flatnonzero(low | (found.classes == index))
    labels = np.flatnonzero(item.labels.classes == index)
    regions = item.ignore_boxes[np.isin(item.ignore_classes, (index, EVERY_CLASS))]
    covered = (coverage(found.boxes[boxes], regions) > threshold).any(axis=1)
    candidates = []
    for column in overlaps[boxes][:, labels].T:
        near = np.flatnonzero(column > threshold)
        candidates.append((near, column[near]))
    return _Matching(
        difficulty.counts(item.labels, kit)[labels],
        candidates,
        found.scores[boxes],
        ~low[boxes],
        np.asarray(covered),
    )


def _curve(matchings: Sequence[_Matching]) -> KittiCurve:
    objects = int(sum(m.counted_labels.sum() for m in matchings))
    scores = [score for m in matchings for score in _true_scores(m)]
    thresholds = recall_thresholds(np.array(scores, np.float64), objects)
    right = np.zeros(len(thresholds), np.int64)
    wrong = np.zeros(len(thresholds), np.int64)
    for m in matchings:
        if len(m.scores):
            tp, fp = _count(m, thresholds)
            right += tp
            wrong += fp
    precision = np.zeros(POSITIONS)
    np.divide(right, right + wrong, out=precision[: len(thresholds)], where=right > 0)
    best_to_the_right = np.maximum.accumulate(precision[::-1])[::-1]
    return KittiCurve(best_to_the_right, objects)


def _true_scores(m: _Matching) -> list[float]:
    """Return the scores of counted boxes on counted labels; a label takes its best-scored box."""
    free = np.ones(len(m.scores), np.bool_)
    scores = []
    for counted, (near, _) in zip(m.counted_labels, m.candidates, strict=True):
        near = near[free[near]]
        if not len(near):
            continue
        taken = near[m.scores[near].argmax()]
        free[taken] = False
        if counted and m.counted_boxes[taken]:
            scores.append(float(m.scores[taken]))
    return scores


def recall_thresholds(scores: NDArray[np.float64], objects: int) -> NDArray[np.float64]:
    """Pick up to 41 of the scores of true boxes, best first, where recall is nearest to i / 40.

    A score is skipped if the next score brings recall nearer to the position.
    """
    ordered = np.sort(scores)[::-1]
    thresholds = []
    sought = 0.0
    for i, score in enumerate(ordered):
        last = i == len(ordered) - 1
        left, right = (i + 1) / objects, (i + 2) / objects
        if not last and right - sought < sought - left:
            continue
        thresholds.append(score)
        sought += 1 / (POSITIONS - 1.0)  # accumulated as in the kit, because 1/40 is not exact
    return np.array(thresholds, np.float64)


def _count(
    m: _Matching, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of true and false boxes in one picture, at each threshold."""
    free = m.scores >= thresholds[:, None]  # (thresholds, boxes), not yet taken
    true = np.zeros(len(thresholds), np.int64)
    for counted, (near, overlaps) in zip(m.counted_labels, m.candidates, strict=True):
        usable = free[:, near]
        if not usable.any():
            continue
        # Counted boxes come by overlap, ignored ones after them; of equals, the first in the file.
        rank = np.where(usable, np.where(m.counted_boxes[near], overlaps, 0.0), -1.0)
        best = rank.argmax(axis=1)
        rank_of_best = rank.max(axis=1)
        rows = np.flatnonzero(rank_of_best >= 0)
        free[rows, near[best[rows]]] = False
        if counted:
            true += rank_of_best > 0
    false = (free & m.counted_boxes & ~m.dont_care).sum(axis=1)
    return true, false
