"""Detections of a few frames, and the tracks of a tracker."""

from __future__ import annotations

import itertools

import numpy as np

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.tracking.shown import Tracked
from squeezedrive.pipeline.tracking.tracker import Tracker

ROAD = ("car", "pedestrian", "cyclist")
CAR, PEDESTRIAN, CYCLIST = range(3)
THRESHOLD = 0.4
FPS = 30


def found(*rows):
    """Return detections from rows of x1, y1, x2, y2, score, class, sorted as back ends do."""
    table = np.array(sorted(rows, key=lambda row: -row[4]), np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def car(x, y=100.0, score=0.9, kind=CAR, wide=60.0, high=40.0):
    """Return a detection around x, y."""
    return (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, score, kind)


def controls(threshold=THRESHOLD):
    return Controls(ROAD, threshold)


def follow(frames, fps=FPS, tracker=None) -> list[Tracked]:
    """Track the detections of frames at a constant rate."""
    tracker = tracker or Tracker(controls())
    return [tracker.update(found(*rows), k / fps) for k, rows in enumerate(frames)]


def ids(shown):
    return [tracked.ids.tolist() for tracked in shown]


def numbers(shown):
    return set(itertools.chain.from_iterable(ids(shown)))
