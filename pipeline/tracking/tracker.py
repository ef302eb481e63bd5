"""Give objects lasting numbers, and boxes that neither tremble nor flicker."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.tracking.matching import overlaps, pair
from squeezedrive.pipeline.tracking.motion import Array, Motion
from squeezedrive.pipeline.tracking.shown import Tracked, between, large_enough

# Chosen with `python -m tests.benchmarks.tracking`. Scores are in thresholds, times in seconds:
# they hold for any frame rate, also with dropped frames.
WEAK = 0.5  # lowest score of a detection that counts where an object is expected
HIDE = 0.7  # an object is shown from a mean score of 1 on, until it is below this
SMOOTH = 0.3  # time constant of the mean score; a frame without the object counts as 0
FIRST = 0.7  # lowest mean, as a share of a single score, so that sure ones count at once
HOLD = 0.07  # longest time for which an object is shown, or waits to be shown first, unseen
FORGET = 2.0  # longest time unseen after which an object is recognised
SHORTEST = 0.001  # seconds between two updates from which a velocity is computed
FURTHEST = 2.0  # boxes go on after an update at most as far as since the one before
VOTES = 0.7  # time constant of the votes for a class

MARGIN = 0.15  # by which boxes are enlarged to find pairs
LEAST = 0.2  # IoU of a pair, at least
OTHER_CLASS = 0.5  # factor of the IoU between classes, which may be mistaken for each other
DOUBLE = 0.6  # IoU from which two objects count as one


@dataclass
class _Objects:
    """The state of n objects besides their motion; all arrays have n rows."""

    ids: NDArray[np.int32]  # 0 until first shown
    scores: Array  # which decide whether it is shown
    means: Array  # which are reported; they begin at the first score
    votes: Array  # (n, classes)
    seen: Array  # seconds
    shown: NDArray[np.bool_]

    def keep(self, which: NDArray[np.bool_]) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[which])

    def add(self, **rows: NDArray[Any]) -> None:
        for name, more in rows.items():
            setattr(self, name, np.concatenate([getattr(self, name), more]))


def _no_objects(classes: int) -> _Objects:
    return _Objects(
        ids=np.empty(0, np.int32),
        scores=np.empty(0),
        means=np.empty(0),
        votes=np.empty((0, classes)),
        seen=np.empty(0),
        shown=np.empty(0, np.bool_),
    )


class Tracker:
    """Tracks the objects of one source.

    A Kalman filter predicts where each object is (`Motion`). Detections are paired with the
    predictions by overlap, first the strong ones, then, with the objects that are left, the weak
    ones (Zhang et al. 2022, "ByteTrack"). A detection may be paired with an object of another
    class: the scores of all its detections of the last second or so decide an object's class.

    An object is shown from the moment its mean score over time reaches the threshold, which is at
    once if it is found with a high score, and until the mean is well below, or it was unseen for a
    moment. Meanwhile its box is where it is expected. So a score may be as low as `HIDE`
    thresholds, and a box may stand where nothing was found in this very frame.

    Memory is bounded: an object not seen for two seconds is forgotten. When time goes back, or
    forward by more than that, as after a stream reconnects, all objects are forgotten.

    Parameters
    ----------
    controls : Controls
        Threshold and classes of what is shown, which may change at any time.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._thresholds = controls.thresholds
        self._seconds = -math.inf
        self._last_id = 0
        self._motion, self._objects = Motion(), _no_objects(len(controls.class_names))
        nothing = Tracked(Detections.empty(), np.empty(0, np.int32))
        self._last_two = ((-math.inf, nothing), (-math.inf, nothing))  # seconds, what was shown

    @staticmethod
    def weakest(threshold: float) -> float:
        """Return the lowest score of the detections that `update` uses."""
        return WEAK * threshold

    def update(self, found: Detections, seconds: float) -> Tracked:
        """Update the objects with the detections of the next frame.

        Parameters
        ----------
        found : Detections
            All down to the score `weakest` of the lowest of `controls.thresholds`, of all classes.
        seconds : float
            Presentation time of the frame.

        Returns
        -------
        Tracked
            The objects to show.
        """
        passed, self._seconds = seconds - self._seconds, seconds
        if not 0 <= passed <= FORGET:
            self._motion, self._objects = Motion(), _no_objects(len(self._controls.class_names))
            passed = 0.0
        boxes, scores = found.boxes.astype(np.float64), found.scores.astype(np.float64)
        thresholds = self._controls.thresholds
        needed = thresholds[found.classes]
        strong = scores >= needed

        self._motion.predict(passed)
        rows, columns = self._pair(boxes, found.classes, strong, scores >= WEAK * needed)
        self._motion.correct(rows, boxes[columns], scores[columns])
        self._judge(rows, scores[columns], found.classes[columns], passed)

        strong[columns] = False
        self._begin(boxes[strong], scores[strong], found.classes[strong])
        self._show(thresholds, passed)
        shown = self._result()
        self._last_two = self._last_two[1], (seconds, shown)
        return shown

    def at(self, seconds: float) -> Tracked:
        """Return the objects to show in a frame that the network does not see; see `between`.

        Parameters
        ----------
        seconds : float
            Presentation time of a frame between those of the last two updates, or soon after.
        """
        (begin, before), (end, after) = self._last_two
        if SHORTEST < end - begin < math.inf:
            return between(before, after, min((seconds - begin) / (end - begin), FURTHEST))
        # There was only one, or time has gone back.
        return before if abs(seconds - begin) < abs(seconds - end) else after

    def _pair(
        self,
        boxes: Array,
        classes: NDArray[np.int32],
        strong: NDArray[np.bool_],
        useful: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return pairs of objects and detections, as two arrays of indices."""
        table = overlaps(self._motion.boxes, boxes, MARGIN)
        same = self._objects.votes.argmax(axis=1)[:, None] == classes
        table *= np.where(same, 1.0, OTHER_CLASS)
        rows, columns = pair(table * strong, LEAST)
        table[rows] = 0
        weak_rows, weak_columns = pair(table * (useful & ~strong), LEAST)
        return np.concatenate([rows, weak_rows]), np.concatenate([columns, weak_columns])

    def _judge(
        self,
        rows: NDArray[np.intp],
        scores: Array,
        classes: NDArray[np.int32],
        passed: float,
    ) -> None:
        """Update the scores and classes of the objects with their detections."""
        objects = self._objects
        remain = math.exp(-passed / SMOOTH)
        for means in (objects.scores, objects.means):
            means *= remain
            means[rows] += (1 - remain) * scores
        objects.scores[rows] = np.maximum(objects.scores[rows], FIRST * scores)
        objects.votes *= math.exp(-passed / VOTES)
        objects.votes[rows, classes] += scores
        objects.seen[rows] = self._seconds

    def _begin(self, boxes: Array, scores: Array, classes: NDArray[np.int32]) -> None:
        """Add new objects."""
        n = len(boxes)
        if not n:
            return
        self._motion.add(boxes, scores)
        self._objects.add(
            ids=np.zeros(n, np.int32),
            scores=FIRST * scores,
            means=scores,
            votes=scores[:, None] * np.eye(len(self._controls.class_names))[classes],
            seen=np.full(n, self._seconds),
            shown=np.zeros(n, np.bool_),
        )

    def _show(self, thresholds: Array, passed: float) -> None:
        """Decide which objects are shown, give the new ones a number and forget the lost."""
        objects = self._objects
        needed = thresholds[objects.votes.argmax(axis=1)]
        hold = max(HOLD, passed)  # one missed frame is always bridged
        if thresholds is not self._thresholds:  # the user expects objects below to vanish
            self._thresholds = thresholds
            objects.shown &= objects.scores >= needed
        unseen = self._seconds - objects.seen
        appears = (unseen == 0) & (objects.scores >= needed)
        stays = objects.shown & (objects.scores >= HIDE * needed) & (unseen <= hold)
        objects.shown = appears | stays
        self._hide_doubles()

        new = np.flatnonzero(objects.shown & (objects.ids == 0))
        objects.ids[new] = self._last_id + 1 + np.arange(len(new))
        self._last_id += len(new)

        kept = unseen <= np.where(objects.ids > 0, FORGET, hold)
        kept &= large_enough(self._motion.boxes)
        if not kept.all():
            self._motion.keep(kept)
            objects.keep(kept)

    def _hide_doubles(self) -> None:
        """Hide the newer of two objects in one place, which is one object found twice."""
        places = np.flatnonzero(self._objects.shown)  # the oldest first
        boxes = self._motion.boxes[places]
        double = np.triu(overlaps(boxes, boxes, 0.0) >= DOUBLE, 1).any(axis=0)
        self._objects.shown[places[double]] = False

    def _result(self) -> Tracked:
        objects, controls = self._objects, self._controls
        classes = objects.votes.argmax(axis=1).astype(np.int32)
        wanted = np.isin(controls.class_names, controls.classes)
        scores = np.maximum(objects.means, objects.scores)
        chosen = np.flatnonzero(objects.shown & wanted[classes])
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        found = Detections(
            self._motion.boxes[chosen].astype(np.float32),
            scores[chosen].astype(np.float32),
            classes[chosen],
        )
        return Tracked(found, objects.ids[chosen])
