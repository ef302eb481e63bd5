"""The overlap of boxes. Corners x1, y1, x2, y2 are points: a box is x2 - x1 wide."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def iou(first: NDArray[Float], second: NDArray[Float]) -> NDArray[Float]:
    """Return the intersection over union (IoU) of each of n boxes with each of m boxes.

    Parameters
    ----------
    first, second : float array (n, 4) and (m, 4)
        The result has their precision.

    Returns
    -------
    float array (n, m)
        0 where there is no common area.
    """
    shared = _intersection(first, second)
    return _ratio(shared, _area(first)[:, None] + _area(second) - shared)


def coverage(boxes: NDArray[Float], regions: NDArray[Float]) -> NDArray[Float]:
    """Return the part, 0 to 1, of each of n boxes that lies in each of m regions, (n, m)."""
    shared = _intersection(boxes, regions)
    return _ratio(shared, np.broadcast_to(_area(boxes)[:, None], shared.shape))


def _intersection(first: NDArray[Float], second: NDArray[Float]) -> NDArray[Float]:
    a, b = first[:, None], second
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    np.maximum(sides, 0, out=sides)
    area: NDArray[Float] = sides[..., 0] * sides[..., 1]
    return area


def _area(boxes: NDArray[Float]) -> NDArray[Float]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _ratio(shared: NDArray[Float], whole: NDArray[Float]) -> NDArray[Float]:
    """Divide; return 0 where nothing is shared, because `whole` may be 0 there."""
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
