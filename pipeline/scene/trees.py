"""Crowns of street trees: flat pictures that always face the camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Image
from pipeline.scene.camera import Camera
from pipeline.scene.light import VEIL, haze, rng

KINDS = 4
CROWN = 2.35  # metres above the ground where the crown begins; no car or person reaches that high
COARSE = 48  # pixels; larger crowns are drawn without smoothing, nobody sees it among leaves


def _crown(generator: np.random.Generator, side: int) -> tuple[Image, NDArray[np.uint8]]:
    """Return a crown (side, side, 3), black outside, and how far one sees through it, 0 to 255."""
    image = np.zeros((4 * side // 4, side, 4), np.uint8)
    greens = np.array(((34, 74, 58), (30, 92, 74), (40, 104, 92), (26, 60, 46), (48, 122, 112)))
    hue = generator.uniform(0.75, 1.1, 3)
    for layer in range(3):
        for _ in range(520):
            angle, far = generator.uniform(0, 2 * np.pi), np.sqrt(generator.uniform(0, 1))
            lump = 0.86 + 0.14 * np.sin(5 * angle + layer)
            x = 0.5 + 0.43 * far * lump * np.cos(angle)
            y = 0.5 + 0.43 * far * lump * np.sin(angle)
            sun = 0.62 + 0.55 * (0.62 * (x - 0.5) + 0.9 * (0.5 - y)) + 0.16 * layer
            colour = greens[generator.integers(len(greens))] * hue
            colour = colour * sun * generator.uniform(0.6, 1.3)
            radius = generator.uniform(0.008, 0.028) * side
            axes = (max(1, round(radius * 1.5)), max(1, round(radius)))
            centre = (round(x * side), round(y * side))
            turn = float(generator.uniform(0, 180))
            fill = (*np.clip(colour, 0, 255).tolist(), 255)
            cv2.ellipse(image, centre, axes, turn, 0, 360, fill, -1)
    image = cv2.GaussianBlur(image, (3, 3), 0)
    return image[..., :3].copy(), 255 - image[..., 3]


class Crowns:
    """Crowns to draw, in several kinds and sizes."""

    def __init__(self, seed: int, camera: Camera) -> None:
        self._camera = camera
        side = int(np.clip(camera.focal / 2.2, 64, 640))
        self._kinds = []
        for kind in range(KINDS):
            sizes = [_crown(rng(seed, 105, kind), side)]
            while len(sizes[-1][1]) > 12:
                half = len(sizes[-1][1]) // 2
                image, through = sizes[0]
                smaller = tuple(
                    cv2.resize(part, (half, half), interpolation=cv2.INTER_AREA)
                    for part in (image, through)
                )
                sizes.append(smaller)
            self._kinds.append(sizes)

    def draw(self, image: Image, kind: int, x: float, z: float, size: float) -> None:
        """Draw a crown `size` metres across whose stem stands at x, z."""
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
