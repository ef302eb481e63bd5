"""The overlap of boxes, in double precision as in the development kits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels import boxes as kernels

Boxes = NDArray[np.floating]


def iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return the IoU of each of n boxes with each of m boxes, (n, m)."""
    return kernels.iou(first.astype(np.float64), second.astype(np.float64))


def coverage(boxes: Boxes, regions: Boxes) -> NDArray[np.float64]:
    """Return the part of each of n boxes that lies in each of m regions, (n, m)."""
    return kernels.coverage(boxes.astype(np.float64), regions.astype(np.float64))
