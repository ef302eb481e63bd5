"""Shadows of cars and people on the ground."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.frame import Image
from pipeline.scene.camera import Camera
from pipeline.scene.light import SUN
from pipeline.scene.traffic import Actor

DARK = 0.34  # brightness in the middle of a shadow
SIDE, MARGIN = 48, 8  # pixels of the soft square that is laid on the ground
NEAREST = 1.5  # metres; shadows that begin nearer are below the picture


def _soft_square() -> Image:
    square = np.full((SIDE, SIDE), 255, np.float32)
    square[MARGIN:-MARGIN, MARGIN:-MARGIN] = 255 * DARK
    return cv2.cvtColor(cv2.GaussianBlur(square, (0, 0), 4), cv2.COLOR_GRAY2BGR).astype(np.uint8)


SQUARE = _soft_square()
CORNERS = np.array(
    ((MARGIN, MARGIN), (SIDE - 1 - MARGIN, MARGIN), (SIDE - 1 - MARGIN, SIDE - 1 - MARGIN),
     (MARGIN, SIDE - 1 - MARGIN)), np.float32,
)  # fmt: skip


def draw_shadow(image: Image, camera: Camera, actor: Actor) -> None:
    """Darken the ground under and behind somebody, as the sun stands."""
    model, x, z = actor.model, actor.x, actor.z
    half_width, half_length = model.width / 2, model.length / 2
    solid = model.name == "car"  # the shadow of people is that of a stick
    reach = 0.65 * model.height if solid else model.height
    aside, ahead = -SUN[0] / SUN[1] * reach, -SUN[2] / SUN[1] * reach
    near = z - half_length if solid else z - 0.15
    far = z + half_length if solid else near
    if near < NEAREST:
        return
    left, right = x - half_width, x + half_width
    if solid:
        ground = ((left + aside, near), (right, near), (right, far + ahead / 2),
                  (left + aside, far + ahead / 2))  # fmt: skip
    else:
        ground = ((left, near), (right, near), (right + aside, far + ahead),
                  (left + aside, far + ahead))  # fmt: skip
    points = camera.project(np.array([(a, 0.0, b) for a, b in ground]))
    middle = points.mean(axis=0)
    spread = np.abs(points - middle).max(axis=0) * 1.6 + 2
    low, high = np.floor(middle - spread).astype(int), np.ceil(middle + spread).astype(int)
    x1, y1 = max(0, int(low[0])), max(int(camera.horizon) + 1, int(low[1]))
    x2, y2 = min(camera.width, int(high[0])), min(camera.height, int(high[1]))
    if x1 >= x2 or y1 >= y2:
        return
    to_picture = cv2.getPerspectiveTransform(CORNERS, (points - (x1, y1)).astype(np.float32))
    soft = cv2.warpPerspective(
        SQUARE, to_picture, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(255, 255, 255),
    )  # fmt: skip
    part = image[y1:y2, x1:x2]
    cv2.multiply(part, soft, dst=part, scale=1 / 255)
