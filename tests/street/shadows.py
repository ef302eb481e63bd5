"""Shadows of cars and people on the ground."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.camera import Camera, Floats
from tests.street.light import SUN
from tests.street.shapes import Polygons, hazy
from tests.street.traffic import Actor

DARK = 0.34  # brightness in the middle of a shadow
SIDE, MARGIN = 48, 8  # pixels of the soft square that is mapped to the ground
NEAREST = 1.5  # metres; nearer shadows are below the picture
SOFT = 24.0  # metres; farther shadows are a few rows high and drawn without soft edges
FLAT = (50.0, 48.0, 47.0)  # BGR of asphalt in the shade
CORNERS = np.array(
    (
        (MARGIN, MARGIN),
        (SIDE - 1 - MARGIN, MARGIN),
        (SIDE - 1 - MARGIN, SIDE - 1 - MARGIN),
        (MARGIN, SIDE - 1 - MARGIN),
    ),
    np.float32,
)


def _soft_square() -> np.ndarray:
    square = np.full((SIDE, SIDE), 255, np.float32)
    square[MARGIN:-MARGIN, MARGIN:-MARGIN] = 255 * DARK
    return cv2.GaussianBlur(square, (0, 0), 4).astype(np.uint8)


SQUARE = _soft_square()


def _on_ground(actor: Actor) -> list[tuple[float, float, float]]:
    """Return the four corners of a shadow on the ground, nearest first."""
    model, x, z = actor.model, actor.x, actor.z
    left, right = x - model.width / 2, x + model.width / 2
    if model.name == "car":
        aside, ahead = (-0.65 * model.height / SUN[1] * SUN[[0, 2]]).tolist()
        near, far = z - model.length / 2, z + model.length / 2 + ahead / 2
        corners = ((left + aside, near), (right, near), (right, far), (left + aside, far))
    else:  # people: the shadow of a stick
        aside, ahead = (-model.height / SUN[1] * SUN[[0, 2]]).tolist()
        near = z - 0.15
        far = near + ahead
        corners = ((left, near), (right, near), (right + aside, far), (left + aside, far))
    return [(a, 0.0, b) for a, b in corners]


def draw_shadows(image: Image, camera: Camera, actors: Sequence[Actor]) -> None:
    """Darken the ground under and behind cars and people."""
    corners = np.array([_on_ground(actor) for actor in actors])
    near = corners[:, 0, 2]
    pixels = camera.project(corners)
    far = near > SOFT
    colours = hazy(np.tile(FLAT, (int(far.sum()), 1)), near[far])
    Polygons(pixels[far].reshape(-1, 2), 4 * np.arange(1, len(colours) + 1), colours).paint(image)
    for quad in pixels[(near > NEAREST) & ~far]:
        _draw_soft(image, quad, int(camera.horizon) + 1)


def _draw_soft(image: Image, quad: Floats, top: int) -> None:
    """Darken the area between corners (4, 2) in pixels, with soft edges, at half resolution."""
    middle = quad.mean(axis=0)
    spread = np.abs(quad - middle).max(axis=0) * 1.6 + 2
    low, high = np.floor(middle - spread).astype(int), np.ceil(middle + spread).astype(int)
    x1, y1 = max(0, int(low[0])), max(top, int(low[1]))
    x2, y2 = min(image.shape[1], int(high[0])), min(image.shape[0], int(high[1]))
    if x1 >= x2 or y1 >= y2:
        return
    half = ((x2 - x1 + 1) // 2, (y2 - y1 + 1) // 2)
    to_picture = cv2.getPerspectiveTransform(CORNERS, ((quad - (x1, y1)) / 2).astype(np.float32))
    soft = cv2.warpPerspective(
        SQUARE, to_picture, half, borderMode=cv2.BORDER_CONSTANT, borderValue=(255,)
    )
    soft = cv2.cvtColor(cv2.resize(soft, (x2 - x1, y2 - y1)), cv2.COLOR_GRAY2BGR)
    part = image[y1:y2, x1:x2]
    cv2.multiply(part, soft, dst=part, scale=1 / 255)
