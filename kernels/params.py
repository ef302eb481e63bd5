"""Which boxes detection keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DetectParams:
    """Which boxes to keep.

    Attributes
    ----------
    threshold : float
        Smallest score that is kept, 0 to 1.
    top_n : int
        How many boxes, best first, go into the suppression. The authors take 64; networks whose
        every object is predicted by several anchors need more in dense traffic.
    nms_iou : float
        A box is suppressed by a better one of its class if their IoU is larger than this, 0 to 1.
    greedy : bool
        True: only boxes that are kept suppress others, the standard. False: suppressed boxes do
        so too, as in the authors' code, to reproduce its numbers.
    classes : tuple of int or None
        Classes to keep, None for all. Boxes of other classes take no place in the top N.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    threshold: float = 0.4
    top_n: int = 128
    nms_iou: float = 0.4
    greedy: bool = True
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"expected a score threshold of 0 to 1, got {self.threshold}")
        if self.top_n < 1:
            raise ValueError(f"expected a top N of at least 1, got {self.top_n}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"expected an IoU threshold of 0 to 1, got {self.nms_iou}")

    def class_mask(self, classes: int) -> NDArray[np.bool_]:
        """Return which of the network's `classes` classes are kept, as bool array (classes,).

        Raises
        ------
        ValueError
            If a class to keep is not one of them.
        """
        if self.classes is None:
            return np.ones(classes, np.bool_)
        unknown = [c for c in self.classes if not 0 <= c < classes]
        if unknown:
            raise ValueError(f"expected classes 0 to {classes - 1}, got {unknown}")
        mask = np.zeros(classes, np.bool_)
        mask[list(self.classes)] = True
        return mask
