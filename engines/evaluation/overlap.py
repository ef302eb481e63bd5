"""How much boxes overlap, in double precision as the development kits compute it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]


def iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of each of n boxes with each of m, (n, m).

    Corners x1, y1, x2, y2 are points, not pixels: a box is x2 - x1 wide. Without common area 0.
    """
    shared = _intersection(first, second)
    union = _area(first)[:, None] + _area(second)[None] - shared
    return _ratio(shared, union)


def coverage(boxes: Boxes, regions: Boxes) -> NDArray[np.float64]:
    """Return what part of each of n boxes lies in each of m regions, (n, m)."""
    shared = _intersection(boxes, regions)
    return _ratio(shared, np.broadcast_to(_area(boxes)[:, None], shared.shape))


def _intersection(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area: NDArray[np.float64] = np.maximum(sides, 0).prod(axis=2)
    return area


def _area(boxes: Boxes) -> NDArray[np.float64]:
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    area: NDArray[np.float64] = sides.prod(axis=1)
    return area


def _ratio(shared: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, with 0 where nothing is shared: there `whole` may be 0, too."""
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
