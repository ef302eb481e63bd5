"""How much boxes overlap, in double precision as the development kits compute it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels import boxes as kernels

Boxes = NDArray[np.floating]


def iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of each of n boxes with each of m, (n, m)."""
    return kernels.iou(first.astype(np.float64), second.astype(np.float64))


def coverage(boxes: Boxes, regions: Boxes) -> NDArray[np.float64]:
    """Return what part of each of n boxes lies in each of m regions, (n, m)."""
    return kernels.coverage(boxes.astype(np.float64), regions.astype(np.float64))
