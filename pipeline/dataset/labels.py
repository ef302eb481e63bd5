"""What is written into a label file: of a teacher's detections, of a rendered scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from squeezedrive.pipeline.dataset.teacher import Found
from tests.street.street import TruthBox

PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK = 0, 1, 2, 3, 5, 7  # in COCO's order
DONT_CARE = "DontCare"
SMALLEST = 14.0  # pixels of height; lower objects are too uncertain to be learned or denied
CERTAIN = {PERSON: 0.55, CAR: 0.5}  # scores from which on the teacher is believed
POSSIBLE = 0.2  # scores from which on something may be there
RIDDEN = 0.3  # share of a bicycle's width that its rider has to cover

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class KittiLabel:
    """An object, or a region to ignore.

    Attributes
    ----------
    name : str
        KITTI's type: "Car", "Pedestrian", "Cyclist", "Van" (neither right nor wrong as a car) or
        "DontCare".
    box : tuple of float
        x1, y1, x2, y2 in pixels.
    truncated : float
        Part outside the picture, 0 to 1.
    occluded : int
        0 visible, 1 partly, 2 largely hidden.
    """

    name: str
    box: Box
    truncated: float = 0.0
    occluded: int = 0

    def line(self) -> str:
        """Return the 15 columns of KITTI's label files; what is not known has its place holder."""
        x1, y1, x2, y2 = self.box
        return (
            f"{self.name} {self.truncated:.2f} {self.occluded} -10 {x1:.2f} {y1:.2f} {x2:.2f}"
            f" {y2:.2f} -1 -1 -1 -1000 -1000 -1000 -10\n"
        )


def labels_of_teacher(found: Found) -> list[KittiLabel]:
    """Turn COCO classes into KITTI's.

    What the teacher is not sure of becomes a region to ignore, and so do persons on motorcycles,
    which KITTI's classes do not know, and bicycles. A person above a bicycle is a cyclist, the box
    around both. Buses and trucks are neighbours of cars: the teacher takes one for the other.
    """
    boxes = [tuple(map(float, box)) for box in found.boxes]
    classes, scores = found.classes.tolist(), found.scores.tolist()
    ridden = _riders(found)
    labels = []
    for index, (box, kind, score) in enumerate(zip(boxes, classes, scores, strict=True)):
        if score < POSSIBLE or kind not in (PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK):
            continue
        name = DONT_CARE
        low = box[3] - box[1] < SMALLEST
        if kind in (BUS, TRUCK):
            name = "Van"
        elif kind in CERTAIN and score >= CERTAIN[kind] and not low:
            name = "Car" if kind == CAR else "Pedestrian"
        vehicle = ridden.get(index)
        if vehicle is not None:
            under = boxes[vehicle]
            low_corner, high_corner = np.minimum(box, under), np.maximum(box, under)
            box = (*low_corner[:2].tolist(), *high_corner[2:].tolist())
            sure = name == "Pedestrian" and scores[vehicle] >= POSSIBLE
            name = "Cyclist" if sure and classes[vehicle] == BICYCLE else DONT_CARE
        labels.append(KittiLabel(name, box))  # type: ignore[arg-type]
    return labels


def _riders(found: Found) -> dict[int, int]:
    """Return which person sits on which bicycle or motorcycle, by index, best bicycles first."""
    riders: dict[int, int] = {}
    people = np.flatnonzero(found.classes == PERSON).tolist()
    for vehicle in np.flatnonzero(np.isin(found.classes, (BICYCLE, MOTORCYCLE))).tolist():
        vx1, vy1, vx2, vy2 = found.boxes[vehicle]
        best, rider = 0.0, None
        for person in people:
            x1, y1, x2, y2 = found.boxes[person]
            shared = (min(x2, vx2) - max(x1, vx1)) / max(vx2 - vx1, 1e-6)
            # The rider begins above the bicycle and ends in it, and is not far larger than it.
            seated = y1 < vy1 and vy1 < y2 <= vy2 + 0.25 * (vy2 - vy1) and y2 - y1 < 3 * (vy2 - vy1)
            if seated and shared > best and person not in riders:
                best, rider = shared, person
        if rider is not None and best >= RIDDEN:
            riders[rider] = vehicle
    return riders


def labels_of_scene(truth: Sequence[TruthBox]) -> list[KittiLabel]:
    """Turn a scene's truth into labels; what is hidden almost completely is to be ignored."""
    labels = []
    for there in truth:
        hidden = there.occluded > 0.7 or there.box[3] - there.box[1] < SMALLEST
        occluded = 0 if there.occluded < 0.1 else 1 if there.occluded < 0.4 else 2
        name = DONT_CARE if hidden else there.name.capitalize()
        labels.append(KittiLabel(name, there.box, there.truncated, occluded))
    return labels
