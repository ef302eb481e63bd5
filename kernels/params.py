"""The parameters of detection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DetectParams:
    """Parameters that decide which boxes are kept.

    Attributes
    ----------
    threshold : float
        Smallest score that is kept, 0 to 1.
    top_n : int
        How many boxes, best first, go into the suppression. The authors take 64; networks that
        predict each object with several anchors need more in dense traffic.
    nms_iou : float
        A box is suppressed by a better one of its class if their IoU is larger than this, 0 to 1.
    greedy : bool
        True, the standard: only boxes that are kept suppress others. False: suppressed boxes
        suppress others as well, as in the authors' code, to reproduce its numbers.
    classes : tuple of int or None
        Classes to keep, None for all. Boxes of other classes take no place in the top N.
    class_thresholds : tuple of (int, float)
        Pairs of a class and its own smallest score.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    threshold: float = 0.4
    top_n: int = 256
    nms_iou: float = 0.4
    greedy: bool = True
    classes: tuple[int, ...] | None = None
    class_thresholds: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for threshold in (self.threshold, *(score for _, score in self.class_thresholds)):
            if not 0 <= threshold <= 1:
                raise ValueError(f"expected a score threshold of 0 to 1, got {threshold}")
        if self.top_n < 1:
            raise ValueError(f"expected a top N of at least 1, got {self.top_n}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"expected an IoU threshold of 0 to 1, got {self.nms_iou}")

    def thresholds(self, classes: int) -> NDArray[np.float32]:
        """Return the smallest score of each of the network's `classes` classes.

        Returns
        -------
        float32 array (classes,)
            Infinity for a class that is dropped.

        Raises
        ------
        ValueError
            If a class to keep, or one with a threshold of its own, does not exist.
        """
        named = [*(self.classes or ()), *(index for index, _ in self.class_thresholds)]
        unknown = [index for index in named if not 0 <= index < classes]
        if unknown:
            raise ValueError(f"expected classes 0 to {classes - 1}, got {unknown}")
        thresholds = np.full(classes, self.threshold, np.float32)
        for index, threshold in self.class_thresholds:
            thresholds[index] = threshold
        if self.classes is not None:
            thresholds[~np.isin(np.arange(classes), self.classes)] = np.inf
        return thresholds
