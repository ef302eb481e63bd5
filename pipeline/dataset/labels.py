"""Turn a teacher's boxes into the labels of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezedrive.pipeline.dataset.teacher import (
    PERSON,
    TWO_WHEELER,
    VEHICLE,
    TeacherBoxes,
)

NAMES = {VEHICLE: "Car", PERSON: "Pedestrian"}
DONT_CARE = "DontCare"
SMALLEST = 14.0  # pixels of height; smaller objects are too uncertain and are ignored
# Scores from which on the teacher is believed: 96, 92 and 83 % of such boxes are right on the
# validation part of KITTI (moderate, IoU 0.5). A two-wheeler's is that of the cyclist on it.
CERTAIN = {VEHICLE: 0.35, PERSON: 0.4, TWO_WHEELER: 0.3}
POSSIBLE = 0.15  # score from which on something may be there
RIDDEN = 0.3  # overlap of a rider and a two-wheeler, as a share of the smaller box

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class KittiLabel:
    """An object, or a region to ignore."""

    name: str  # KITTI's type: "Car", "Pedestrian", "Cyclist" or "DontCare"
    box: Box  # x1, y1, x2, y2 in pixels
    truncated: float = 0.0  # part outside the picture, 0 to 1
    occluded: int = 0  # 0 visible, 1 partly, 2 largely hidden

    def line(self) -> str:
        """Return the 15 columns of KITTI's label files, with placeholders for unknown values."""
        x1, y1, x2, y2 = self.box
        return (
            f"{self.name} {self.truncated:.2f} {self.occluded} -10 {x1:.2f} {y1:.2f} {x2:.2f}"
            f" {y2:.2f} -1 -1 -1 -1000 -1000 -1000 -10\n"
        )


def labels_of_teacher(found: TeacherBoxes) -> list[KittiLabel]:
    """Turn a teacher's boxes into labels of KITTI's classes.

    A person on a two-wheeler is one cyclist, the box around both: each two-wheeler, the best first,
    takes the free person of the largest score times overlap, if they share `RIDDEN` of the smaller
    box. The score of the two-wheeler decides, as that of the person on it is often low. Boxes of
    low score become regions to ignore, and so do two-wheelers without a rider and boxes lower than
    `SMALLEST`.
    """
    riders = _riders(found)
    seated = set(riders.values())
    labels = []
    for index in np.flatnonzero(found.scores >= POSSIBLE).tolist():
        if index in seated:
            continue
        kind, box = int(found.classes[index]), found.boxes[index]
        name = NAMES.get(kind, DONT_CARE)
        if index in riders:
            name = "Cyclist"
            other = found.boxes[riders[index]]
            box = np.concatenate((np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])))
        x1, y1, x2, y2 = map(float, box)
        if found.scores[index] < CERTAIN[kind] or y2 - y1 < SMALLEST:
            name = DONT_CARE
        labels.append(KittiLabel(name, (x1, y1, x2, y2)))
    return labels


def _riders(found: TeacherBoxes) -> dict[int, int]:
    """Return the person on each two-wheeler that has one, by index."""
    likely = found.scores >= POSSIBLE
    people = np.flatnonzero(likely & (found.classes == PERSON)).tolist()
    riders: dict[int, int] = {}
    for wheels in np.flatnonzero(likely & (found.classes == TWO_WHEELER)).tolist():
        shares = {one: _share(found.boxes[wheels], found.boxes[one]) for one in people}
        seated = [one for one, share in shares.items() if share >= RIDDEN]
        if seated:
            riders[wheels] = max(seated, key=lambda one: shares[one] * float(found.scores[one]))
            people.remove(riders[wheels])
    return riders


def _share(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the common area of two boxes (4,) as a share of the smaller one."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return float(np.prod(np.maximum(sides, 0)) / max(smaller, 1e-6))
