"""Paste objects into other pictures, so that rare classes are seen more often."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.training.augment import Sample

MOST = 3  # objects pasted into a picture
MARGIN = (0.1, 0.3)  # surroundings pasted on each side, as a share of the object's side
TRIES = 4  # places that are tried for an object
HIDDEN = 0.25  # largest share of another object that may be hidden
DROP = 24  # largest move up or down in pixels, so that the perspective stays plausible


def paste(sample: Sample, donor: Sample, class_index: int, rng: np.random.Generator) -> Sample:
    """Paste objects of a class from one window into another, near their height in the picture.

    A part of their surroundings is pasted as well and fades out, so that the network cannot learn
    the edges. The donor is a window of the same size; the arrays of both are not changed.
    """
    image = sample.image.copy()
    boxes, classes = list(sample.boxes), list(sample.classes)
    there = [*boxes, *sample.ignore_boxes]
    candidates = rng.permutation(np.flatnonzero(donor.classes == class_index))
    for index in candidates[:MOST].tolist():
        box = donor.boxes[index]
        patch, (x, y) = _cut(donor.image, box, rng)
        place = _place(image, patch, (x, y), there, rng)
        if place is None:
            continue
        left, top = place
        moved = box + np.array([left - x, top - y] * 2, np.float32)
        _blend(image, patch, place, moved)
        boxes.append(moved)
        classes.append(np.int64(class_index))
        there.append(moved)
    return replace(
        sample,
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int64),
    )


def _cut(
    image: NDArray[np.uint8], box: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return a box with some surroundings, and the position of the patch's upper left corner."""
    height, width = image.shape[:2]
    sides = np.tile(box[2:] - box[:2], 2) * rng.uniform(*MARGIN, 4) * [-1, -1, 1, 1]
    x1, y1, x2, y2 = np.round(box + sides).astype(int).tolist()
    x1, y1 = max(x1, 0), max(y1, 0)
    return image[y1 : min(y2, height - 1) + 1, x1 : min(x2, width - 1) + 1], (x1, y1)


def _place(
    image: NDArray[np.uint8],
    patch: NDArray[np.uint8],
    corner: tuple[int, int],
    there: list[NDArray[np.float32]],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Return a place where a patch hides no object, or None."""
    free = np.array(image.shape[1::-1]) - patch.shape[1::-1]
    for _ in range(TRIES):
        left = int(rng.integers(0, free[0] + 1))
        top = int(np.clip(corner[1] + rng.integers(-DROP, DROP + 1), 0, free[1]))
        if not there:
            return left, top
        others = np.array(there)
        low = np.maximum(others[:, :2], [left, top])
        high = np.minimum(others[:, 2:], [left + patch.shape[1], top + patch.shape[0]])
        hidden = np.prod(np.maximum(high - low, 0), axis=1)
        whole = np.prod(others[:, 2:] - others[:, :2], axis=1)
        if (hidden <= HIDDEN * whole).all():
            return left, top
    return None


def _blend(
    image: NDArray[np.uint8],
    patch: NDArray[np.uint8],
    place: tuple[int, int],
    box: NDArray[np.float32],
) -> None:
    """Draw a patch into an image, opaque in the box and fading towards the patch's edges."""
    height, width = patch.shape[:2]
    left, top = place
    low = np.clip(box[:2] - place, 1, None)
    high = np.clip(np.array([left + width, top + height]) - 1 - box[2:], 1, None)
    weights = []
    for axis, size in enumerate((width, height)):
        at = np.arange(size)
        weights.append(np.clip(np.minimum(at / low[axis], (size - 1 - at) / high[axis]), 0, 1))
    opaque = (weights[1][:, None] * weights[0]).astype(np.float32)[..., None]
    under = image[top : top + height, left : left + width]
    mixed = under + (patch.astype(np.float32) - under) * opaque
    image[top : top + height, left : left + width] = cv2.convertScaleAbs(mixed)
