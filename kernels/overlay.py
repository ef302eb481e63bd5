"""What is drawn over a picture in YUV 4:2:0, as data: rectangles, and plates with text on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Area = tuple[int, int, int, int]  # x1, y1, x2, y2; x2 and y2 are the first column and row outside
Yuv = tuple[int, int, int]  # luma, Cb and Cr, 0 to 255

# What `steps` holds of each step: these, and three values each from BELOW and INK on.
X1, Y1, X2, Y2, OPACITY, TEXT, BELOW, INK = 0, 1, 2, 3, 4, 5, 6, 9
VALUES = 12
OPAQUE = 1 << 16  # unit of OPACITY
NO_TEXT = -1


class Overlay:
    """Steps of drawing, one after the other, each over what those before have drawn.

    In a picture whose chroma has half the resolution, the upper left of four pixels gives the
    colour: a step changes the chroma of four pixels if it changes the luma of that one.

    Attributes
    ----------
    steps : int32 array (n, VALUES)
        A rectangle, how opaque its colour is, where its text begins in `coverage` or NO_TEXT, the
        colour, and that of the text.
    coverage : uint8 array (m,)
        How much of each pixel text covers, 0 to 255: of each rectangle with text, row by row.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, ...]] = []
        self._coverage: list[NDArray[np.uint8]] = []
        self._covered = 0

    def fill(self, area: Area, colour: Yuv) -> None:
        """Fill a rectangle, of which what lies outside of the picture is left out."""
        self._steps.append((*area, OPAQUE, NO_TEXT, *colour, *colour))

    def write(
        self, area: Area, below: Yuv, opacity: float, ink: Yuv, coverage: NDArray[np.uint8]
    ) -> None:
        """Fill a rectangle with a translucent colour, and write text of another on it.

        `coverage` (y2 - y1, x2 - x1) says how much of each pixel the text covers, 0 to 255.

        Raises
        ------
        ValueError
            If the coverage is not of the rectangle's size.
        """
        x1, y1, x2, y2 = area
        if coverage.shape != (y2 - y1, x2 - x1):
            raise ValueError(
                f"expected the coverage of {y2 - y1} rows of {x2 - x1}, got {coverage.shape}"
            )
        self._steps.append((*area, round(opacity * OPAQUE), self._covered, *below, *ink))
        self._coverage.append(coverage.reshape(-1))
        self._covered += coverage.size

    @property
    def steps(self) -> NDArray[np.int32]:
        """All steps in their order."""
        return np.array(self._steps, np.int32).reshape(-1, VALUES)

    @property
    def coverage(self) -> NDArray[np.uint8]:
        """The coverage of all texts, one behind the other."""
        return np.concatenate([np.empty(0, np.uint8), *self._coverage])
