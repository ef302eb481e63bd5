"""The boxes found in one image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, best score first, as three aligned arrays.

    Attributes
    ----------
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels; x to the right, y down, origin in the top left corner.
    scores : float32 array (n,)
        Class probability times confidence, 0 to 1.
    classes : int32 array (n,)
        Index into the class names of the network's profile.

    Raises
    ------
    ValueError
        If the arrays do not have these shapes.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.scores)
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(f"expected shapes (n, 4), (n,), (n,), got {shapes}")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """Return the detections that a slice, a mask or an index array selects."""
        return Detections(self.boxes[index], self.scores[index], self.classes[index])

    def split(self, counts: Iterable[int]) -> list[Detections]:
        """Return parts of so many detections each, one behind the other; they share this memory."""
        parts, begin = [], 0
        for count in counts:
            end = begin + count
            parts.append(self[begin:end])
            begin = end
        return parts

    @classmethod
    def empty(cls) -> Detections:
        """Return detections without any box."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
