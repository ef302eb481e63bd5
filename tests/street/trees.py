"""Crowns of street trees: flat pictures that always face the camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.pipeline.core.frame import Image
from tests.street.camera import Camera
from tests.street.light import VEIL, haze, rng

KINDS = 4
CROWN = 2.35  # height in metres at which the crown begins, above all cars and people
BOUGHS, LEAVES = 6, 1700
GREENS = np.array(((34, 74, 58), (30, 92, 74), (40, 104, 92), (26, 60, 46), (48, 122, 112)))
COARSE = 48  # pixels; larger crowns are not smoothed, which is not visible among leaves


def _crown(generator: np.random.Generator, side: int) -> tuple[Image, NDArray[np.uint8]]:
    """Return a crown (side, side, 3), black outside, and its transparency, 0 to 255."""
    image = np.zeros((side, side, 4), np.uint8)
    boughs = generator.normal(0.5, 0.1, (BOUGHS, 2)) * (1, 0.9) + (0, 0.04)
    bough = generator.integers(BOUGHS, size=LEAVES)
    angle, far = generator.uniform(0, 2 * np.pi, LEAVES), np.sqrt(generator.uniform(0, 1, LEAVES))
    x = boughs[bough, 0] + 0.25 * far * np.cos(angle)
    y = boughs[bough, 1] + 0.25 * far * np.sin(angle)
    layer = np.arange(LEAVES) / LEAVES  # leaves drawn last are in front, in the sun
    sun = 0.5 + 0.8 * (0.62 * (x - 0.5) + 0.9 * (0.5 - y)) + 0.5 * layer
    sun += 0.25 * np.sin(angle - 0.6) * -far  # each bough has its own bright side
    colours = GREENS[generator.integers(len(GREENS), size=LEAVES)] * generator.uniform(0.8, 1.1, 3)
    colours *= (sun * generator.uniform(0.65, 1.25, LEAVES))[:, None]
    fills = np.clip(np.hstack((colours, np.full((LEAVES, 1), 255))), 0, 255).tolist()
    centres = np.rint(np.clip(np.stack((x, y), axis=1), 0.04, 0.96) * side).astype(int).tolist()
    radii = generator.uniform(0.006, 0.022, LEAVES) * side
    axes = np.maximum(1, np.rint(np.stack((1.5 * radii, radii), axis=1))).astype(int).tolist()
    turns = generator.uniform(0, 180, LEAVES).tolist()
    for centre, size, turn, fill in zip(centres, axes, turns, fills, strict=True):
        cv2.ellipse(image, centre, size, turn, 0, 360, fill, -1)
    soft = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)
    return soft[..., :3].copy(), 255 - soft[..., 3]


class Crowns:
    """Crowns in several kinds and sizes."""

    def __init__(self, seed: int, camera: Camera) -> None:
        self._camera = camera
        side = int(np.clip(camera.focal / 2.2, 64, 640))
        self._kinds = []
        for kind in range(KINDS):
            sizes = [_crown(rng(seed, 105, kind), side)]
            while len(sizes[-1][1]) > 12:
                half = (len(sizes[-1][1]) // 2,) * 2
                smaller = [
                    np.asarray(cv2.resize(part, half, interpolation=cv2.INTER_AREA), np.uint8)
                    for part in sizes[0]
                ]
                sizes.append((smaller[0], smaller[1]))
            self._kinds.append(sizes)

    def draw(self, image: Image, kind: int, x: float, z: float, size: float) -> None:
        """Draw a crown with a diameter of `size` metres, whose stem stands at x, z."""
        camera = self._camera
        scale = camera.focal / z
        side = size * scale
        left = camera.centre_x + x * scale - side / 2
        top = camera.horizon - (CROWN + size - camera.eye) * scale
        x1, y1 = max(0, int(left)), max(0, int(top))
        x2, y2 = min(camera.width, int(left + side) + 1), min(camera.height, int(top + side) + 1)
        if x1 >= x2 or y1 >= y2 or side < 2:
            return
        sizes = self._kinds[kind]
        crown, through = sizes[0]
        for smaller in sizes[1:]:
            if len(smaller[1]) < side:
                break
            crown, through = smaller
        step = len(through) / side
        to_crown = np.array(((step, 0, (x1 - left) * step), (0, step, (y1 - top) * step)))
        smooth = cv2.INTER_NEAREST if side > COARSE else cv2.INTER_LINEAR
        flags, area = smooth | cv2.WARP_INVERSE_MAP, (x2 - x1, y2 - y1)
        seen = cv2.warpAffine(crown, to_crown, area, flags=flags)
        clear = cv2.warpAffine(through, to_crown, area, flags=flags, borderValue=(255,))
        clear = cv2.cvtColor(clear, cv2.COLOR_GRAY2BGR)
        share = haze(z)
        if share > 0.02:
            veil = share * VEIL / 255
            seen = cv2.addWeighted(seen, 1 - share, cv2.bitwise_not(clear), veil, 0)
        part = image[y1:y2, x1:x2]
        cv2.multiply(part, clear, dst=part, scale=1 / 255)
        cv2.add(part, seen, dst=part)
