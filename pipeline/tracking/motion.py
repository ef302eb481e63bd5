"""Places and velocities of boxes: one Kalman filter of constant velocity for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Lengths are in sizes of the box (the root of its area), so one filter fits near and far objects.
# Chosen with `python -m tests.benchmarks.tracking`: with more UNREST boxes tremble, with less they
# lag behind what comes close.
NOISE = 0.06  # standard deviation of the edges of a detection whose score is 1
UNREST = 0.8  # change of the velocity after one second, in sizes a second
UNKNOWN = 1.5  # standard deviation of the velocity of a new object, in sizes a second


class Motion:
    """Places and velocities of n boxes.

    Each edge has a velocity of its own, so a box half out of the picture, some of whose edges stand
    still, needs no special case. The edges of a box are measured together and are equally uncertain
    relative to its size, so they share one covariance and one gain.

    Attributes
    ----------
    boxes : float64 array (n, 4)
        x1, y1, x2, y2 in pixels.
    """

    def __init__(self) -> None:
        self.boxes: Array = np.empty((0, 4))
        self._speeds: Array = np.empty((0, 4))  # pixels a second
        self._spread: Array = np.empty((0, 3))  # variance of place, covariance, variance of speed

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Keep the boxes of a mask (n,), and forget the others."""
        self.boxes = self.boxes[which]
        self._speeds = self._speeds[which]
        self._spread = self._spread[which]

    def add(self, boxes: Array, scores: Array) -> None:
        """Add boxes (m, 4) that were found with scores (m,)."""
        spread = np.zeros((len(boxes), 3))
        spread[:, 0] = _noise(scores)
        spread[:, 2] = UNKNOWN**2
        self.boxes = np.concatenate([self.boxes, boxes])
        self._speeds = np.concatenate([self._speeds, np.zeros((len(boxes), 4))])
        self._spread = np.concatenate([self._spread, spread])

    def predict(self, seconds: float) -> None:
        """Move all boxes to where they are expected after some seconds."""
        self.boxes += seconds * self._speeds
        place, both, speed = self._spread.T.copy()
        change = UNREST**2 * seconds  # of the variance of the velocity: white acceleration
        self._spread[:, 0] = place + seconds * (2 * both + seconds * (speed + change / 3))
        self._spread[:, 1] = both + seconds * (speed + change / 2)
        self._spread[:, 2] = speed + change

    def correct(self, rows: NDArray[np.intp], boxes: Array, scores: Array) -> None:
        """Correct boxes `rows` (m,), which were found at `boxes` (m, 4) with scores (m,)."""
        place, both, speed = self._spread[rows].T
        total = place + _noise(scores)
        gain, speed_gain = place / total, both / total
        off = boxes - self.boxes[rows]
        self.boxes[rows] += gain[:, None] * off
        self._speeds[rows] += speed_gain[:, None] * off
        self._spread[rows] = np.stack(
            [place - gain * place, both - gain * both, speed - speed_gain * both], axis=1
        )


def _noise(scores: Array) -> Array:
    """Return the variance of the edges: the lower the score, the less exact a box."""
    return np.asarray((NOISE / np.maximum(scores, 0.1)) ** 2)
