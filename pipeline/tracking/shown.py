"""The boxes shown of tracked objects, also in frames that the network does not see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections

SMALLEST = 1.0  # pixels of width and height; at an edge, smaller boxes are the rest of an object


class Tracked(NamedTuple):
    """The objects shown in a frame.

    Attributes
    ----------
    found : Detections
        n smoothed boxes, best score first. The scores are means over time; the class is the one
        with the most votes over time.
    ids : int32 array (n,)
        Number of each object, from 1, the same in all frames and never given again.
    """

    found: Detections
    ids: NDArray[np.int32]

    def within(self, width: int, height: int) -> Tracked:
        """Clip boxes at the edges of a picture and leave out those hardly in it."""
        boxes = np.clip(self.found.boxes, 0, np.array([width, height] * 2, np.float32))
        inside = large_enough(boxes)
        found = Detections(boxes, self.found.scores, self.found.classes)
        return Tracked(found[inside], self.ids[inside])


def large_enough(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which boxes (n, 4) are at least `SMALLEST` wide and high, as a mask (n,)."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2] >= SMALLEST).all(axis=1))


def between(before: Tracked, after: Tracked, share: float) -> Tracked:
    """Return the objects to show between two frames that the network has seen.

    Boxes of objects in both frames are interpolated on straight lines. An object that is only in
    the earlier frame is shown where it was for the first half of the time; one that is only in the
    later frame is not shown before.

    Parameters
    ----------
    before, after : Tracked
        The objects shown in the two frames.
    share : float
        The time: 0 in the earlier frame, 1 in the later one; more than 1 soon after it.
    """
    _, i, j = np.intersect1d(before.ids, after.ids, assume_unique=True, return_indices=True)
    way = np.float32(share) * (after.found.boxes[j] - before.found.boxes[i])
    moving = Detections(before.found.boxes[i] + way, after.found.scores[j], after.found.classes[j])
    found, ids = [moving], [after.ids[j]]
    if share < 0.5:
        gone = np.isin(before.ids, after.ids, invert=True)
        found.append(before.found[gone])
        ids.append(before.ids[gone])
    elif share >= 1:
        new = np.isin(after.ids, before.ids, invert=True)
        found.append(after.found[new])
        ids.append(after.ids[new])
    boxes = np.concatenate([one.boxes for one in found])
    scores = np.concatenate([one.scores for one in found])
    classes = np.concatenate([one.classes for one in found])
    order = np.argsort(-scores, kind="stable")
    return Tracked(Detections(boxes, scores, classes)[order], np.concatenate(ids)[order])
