"""Street trees and lamps, which may stand between the camera and the traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.street.layout import TREE_SPACING, TREES_LEFT, TREES_RIGHT
from tests.street.shapes import Rods
from tests.street.trees import KINDS

REACH = 160.0  # metres from the camera
LAMP_SPACING = 36.0  # metres
BARK, METAL, GLOBE = (54.0, 66.0, 78.0), (112.0, 116.0, 114.0), (214.0, 220.0, 220.0)


@dataclass(frozen=True)
class Post:
    """A stem or mast at x, z in metres; `crown` is a crown's kind and size in metres, or None."""

    body: Rods
    x: float
    z: float
    crown: tuple[int, float] | None

    @property
    def distance(self) -> float:
        """Metres from the camera, along the ground."""
        return float(np.hypot(self.x, self.z))

    def rods(self) -> Rods:
        """Return the stem or mast at its place."""
        return self.body.placed(self.x, self.z, 0.0)


TRUNK = Rods.of(
    [
        ((0, 0, 0), (0.03, 2.9, 0), 0.17, 0.12, BARK),
        ((0.03, 2.3, 0.0), (0.5, 3.4, 0.01), 0.07, 0.04, BARK),
        ((0.03, 2.4, 0.0), (-0.5, 3.5, 0.01), 0.07, 0.04, BARK),
    ]
)


def _lamp(side: float) -> Rods:
    return Rods.of(
        [
            ((0, 0, 0), (0, 0.9, 0), 0.1, 0.1, METAL),
            ((0, 0.9, 0), (0, 7.2, 0), 0.06, 0.05, METAL),
            ((0, 7.2, 0), (-side * 1.6, 7.6, 0), 0.05, 0.04, METAL),
            ((-side * 1.3, 7.55, 0.01), (-side * 1.9, 7.6, 0.01), 0.08, 0.08, METAL),
            ((-side * 1.4, 7.5, 0), (-side * 1.85, 7.53, 0), 0.05, 0.05, GLOBE),
        ]
    )


LAMPS = {side: _lamp(side) for side in (-1, 1)}


def posts(seed: int, travelled: float) -> Iterator[Post]:
    """Yield the trees and lamps in front of the camera after `travelled` metres."""
    for side, x in ((-1, TREES_LEFT), (1, TREES_RIGHT)):
        first = int(np.ceil((travelled + 1) / TREE_SPACING - 0.5))
        for cell in range(first, first + int(REACH / TREE_SPACING)):
            pick = hash((seed, side, cell)) & 0xFFFF  # hashes of numbers are the same in every run
            size = 3.3 + 1.1 * (pick >> 8) / 255
            z = (cell + 0.5) * TREE_SPACING - travelled
            yield Post(TRUNK, x, z, (pick % KINDS, size))
        first = int(np.ceil((travelled + 1) / LAMP_SPACING))
        for cell in range(first, first + int(REACH / LAMP_SPACING)):
            yield Post(LAMPS[side], x - side * 0.3, cell * LAMP_SPACING - travelled, None)
