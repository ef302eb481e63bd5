"""The ground from above: asphalt, cobbles, slabs, and the shadows of trees and houses."""

from __future__ import annotations

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.layout import (
    HOUSES_LEFT,
    HOUSES_RIGHT,
    KERB_LEFT,
    KERB_RIGHT,
    LANE_LEFT,
    LANE_RIGHT,
    PERIOD,
    TREE_SPACING,
    TREES_LEFT,
    TREES_RIGHT,
)
from tests.street.light import SUN, cloudiness, rng


def paint_surface(seed: int, scale: float) -> Image:
    """Paint one period of the ground from above, at `scale` pixels per metre; row 0 is nearest."""
    generator = rng(seed, 101)
    left, right = HOUSES_LEFT - 6, HOUSES_RIGHT + 6
    height, width = round(PERIOD * scale), round((right - left) * scale)

    def column(x: float) -> int:
        return round((x - left) * scale)

    grey = np.full((height, width), 101, np.float32)
    grey[:, : column(KERB_LEFT)] = 139
    grey[:, column(KERB_RIGHT) :] = 131
    grey[:, column(LANE_RIGHT) : column(KERB_RIGHT)] = 95
    across = (np.arange(width) / scale + left).astype(np.float32)
    for lane in (0.0, -3.45):  # tyres polish two tracks in each lane
        for track in (-0.78, 0.78):
            grey += 7 * np.exp(-(((across - lane - track) / 0.3) ** 2))
        grey -= 8 * np.exp(-(((across - lane) / 0.4) ** 2))
    for _ in range(14):  # mended patches
        x, z = generator.uniform(LANE_LEFT, LANE_RIGHT), generator.uniform(1, PERIOD - 8)
        wide, long = generator.uniform(0.5, 2.2), generator.uniform(0.8, 7)
        rows = slice(round(z * scale), round((z + long) * scale))
        grey[rows, column(x) : column(min(x + wide, LANE_RIGHT))] += generator.uniform(-15, 6)
    for _ in range(26):  # cracks
        x, z = generator.uniform(LANE_LEFT, LANE_RIGHT), generator.uniform(3, PERIOD - 3)
        steps = np.cumsum(generator.normal(0, 0.18, (12, 2)) + generator.normal(0, 0.14, 2), axis=0)
        line = np.stack(((x + steps[:, 0] - left) * scale, (z + steps[:, 1]) * scale), axis=1)
        cv2.polylines(grey, [line.astype(np.int32)], False, (66.0,), 1)
    for _ in range(5):  # manholes
        centre = (column(generator.uniform(-4.5, 1)), round(generator.uniform(2, 70) * scale))
        cv2.circle(grey, centre, round(0.36 * scale), (82.0,), -1)
        cv2.circle(grey, centre, round(0.36 * scale), (56.0,), max(1, round(0.05 * scale)))
        cv2.circle(grey, centre, round(0.18 * scale), (66.0,), max(1, round(0.03 * scale)))

    slab = max(2, round(0.5 * scale))  # pavement of slabs, parking strips of cobbles
    for start, stop in ((0, column(KERB_LEFT)), (column(KERB_RIGHT), width)):
        part = grey[:, start:stop]
        tone = generator.normal(0, 4, (height // slab + 1, (stop - start) // slab + 1))
        part += np.kron(tone, np.ones((slab, slab), np.float32))[: part.shape[0], : part.shape[1]]
        part[::slab] -= 20
        part[:, ::slab] -= 20
    cobble = max(2, round(0.2 * scale))
    for edge, kerb in ((KERB_LEFT, LANE_LEFT - 1.15), (LANE_RIGHT + 1.55, KERB_RIGHT)):
        part = grey[:, column(edge) : column(kerb)]
        tone = generator.normal(0, 9, (height // cobble + 1, part.shape[1] // cobble + 1))
        part += np.kron(tone, np.ones((cobble, cobble), np.float32))[
            : part.shape[0], : part.shape[1]
        ]
        part[::cobble] -= 16
        part[:, ::cobble] -= 16
    grain = 7 * generator.standard_normal((256, 256), np.float32)
    repeats = (height // 256 + 1, width // 256 + 1)
    grey += np.tile(grain, repeats)[:height, :width]
    coarse = cloudiness(generator, (height // 4, width // 4), scale, 3)
    grey += 7 * np.asarray(cv2.resize(coarse, (width, height)), np.float32)

    shadow = _shadows(generator, (height, width), scale, left)
    channels = []
    for paved, dark in ((0.96, 0.40), (0.99, 0.46), (1.0, 0.50)):
        tint = np.full(width, paved, np.float32)
        tint[column(KERB_LEFT) : column(KERB_RIGHT)] = 1.0 + 0.3 * (0.46 - dark)
        channels.append(cv2.convertScaleAbs(grey * tint * (1 - np.float32(dark) * shadow)))
    return np.dstack(channels)


def _shadows(
    generator: np.random.Generator, shape: tuple[int, int], scale: float, left: float
) -> np.ndarray:
    """Return the share of sunlight that trees and houses block on the ground, 0 to 1, float32."""
    shadow = np.zeros(shape, np.float32)
    aside, ahead = -SUN[0] / SUN[1], -SUN[2] / SUN[1]  # metres of shadow per metre of height
    for x in (TREES_LEFT, TREES_RIGHT):
        for z in (np.arange(-2, PERIOD / TREE_SPACING + 1) + 0.5) * TREE_SPACING:
            foot = np.array((x - left, z)) * scale
            for _ in range(70):  # spots with gaps, as light comes through the leaves
                up = generator.uniform(2.6, 6.4)
                spot = generator.normal((aside * up, ahead * up), 0.85)
                centre = np.rint(foot + spot * scale).astype(int)
                radius = max(1, round(generator.uniform(0.15, 0.6) * scale))
                cv2.circle(shadow, (int(centre[0]), int(centre[1])), radius, (1.0,), -1)
            tip = np.rint(foot + np.array((aside, ahead)) * 3 * scale).astype(int)
            thick = max(1, round(0.3 * scale))
            start = (round(foot[0]), round(foot[1]))
            cv2.line(shadow, start, (int(tip[0]), int(tip[1])), (1.0,), thick)
    wall = round((HOUSES_RIGHT - 3.0 - left) * scale)  # shadow of the houses on the right
    shadow[:, wall:] = 1
    blur = max(1, round(0.12 * scale)) * 2 + 1
    return cv2.blur(shadow, (blur, blur))
