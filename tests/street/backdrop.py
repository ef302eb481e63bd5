"""The fixed background: the sky and the skyline at the end of the street."""

from __future__ import annotations

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.camera import Camera
from tests.street.light import HAZE, cloudiness, rng


def backdrop(seed: int, camera: Camera) -> Image:
    """Return a picture (height, width, 3) of the sky above distant roofs and trees."""
    generator = rng(seed, 102)
    height, width = camera.height, camera.width
    horizon = int(camera.horizon)
    up = np.clip((camera.horizon - np.arange(height)) / camera.focal, 0, 1)[:, None, None]
    zenith = np.array((214.0, 168.0, 118.0))
    sky = HAZE + 14 + (zenith - HAZE - 14) * (1 - np.exp(-4.2 * up))
    image = np.repeat(sky, width, axis=1).astype(np.float32)
    quarter = (max(2, height // 4), max(2, width // 4))
    clouds = cloudiness(generator, quarter, max(4, 0.1 * camera.focal), 5)
    size = (width, max(1, 2 * height // 3))
    clouds = np.asarray(cv2.resize(clouds, size, interpolation=cv2.INTER_CUBIC), np.float32)
    cover = np.clip(1.5 * clouds - 0.05, 0, 1)[..., None] * np.minimum(1, 5 * up[: len(clouds)])
    image[: len(clouds)] += (250 - image[: len(clouds)]) * cover * np.float32(0.85)

    columns = np.arange(width)
    for distance, colour, tall in (
        (900, (168.0, 164.0, 150.0), 34), (450, (128.0, 134.0, 118.0), 15),
        (260, (82.0, 100.0, 84.0), 8.5),
    ):  # fmt: skip
        cell = max(2.0, 9.0 / distance * camera.focal)
        blocks = generator.uniform(0.35, 1, int(width / cell) + 2)[(columns / cell).astype(int)]
        leaves = cloudiness(generator, (4, width), max(4.0, 2 * cell), 6)[0]
        top = tall * (blocks if distance == 900 else 0.72 + 0.4 * leaves)
        rows = camera.horizon - (top - camera.eye) * camera.focal / distance
        part = image[max(0, int(rows.min()) - 1) : horizon + 2]
        covered = np.clip(np.arange(horizon + 2 - len(part), horizon + 2)[:, None] - rows, 0, 1)
        texture = 1 + 0.12 * cloudiness(generator, (len(part), width), max(4, cell / 2))[..., None]
        part += (np.array(colour) * texture - part) * covered[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)
