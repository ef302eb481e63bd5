"""The whole picture, and its ground truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.backdrop import backdrop
from tests.street.camera import Camera
from tests.street.cars import Car
from tests.street.furniture import Post, posts
from tests.street.houses import Houses
from tests.street.light import rng
from tests.street.mesh import project_meshes
from tests.street.road import Road
from tests.street.shadows import draw_shadows
from tests.street.shapes import Polygons, project_rods
from tests.street.spec import StreetSpec
from tests.street.traffic import SPEED, Actor, Traffic
from tests.street.trees import Crowns

SMALLEST = 8  # height in pixels; smaller objects are not in the truth
FINE = 45  # height in pixels above which a car is drawn in detail
NOISE = 9  # grey levels of the sensor's noise

Box = tuple[float, float, float, float]
Item = Actor | Post


@dataclass(frozen=True)
class TruthBox:
    """An object that is visible in a frame.

    Attributes
    ----------
    track_id : int
        The same for one object in all frames.
    name : str
        "car", "pedestrian" or "cyclist" (with the bicycle).
    box : tuple of float
        x1, y1, x2, y2 around its drawn part without shadow, cut off at the picture's edges.
        Pixels count from the centre of the top left one: at most width - 1 and height - 1.
    truncated : float
        Share of its corners that lie outside the picture, 0 to 1.
    occluded : float
        Share of its pixels in the picture that other objects hide, 0 to 1.
    """

    track_id: int
    name: str
    box: Box
    truncated: float
    occluded: float


class Street:
    """A street seen from a car that drives along it without end.

    Each picture depends only on the spec and the frame's index; only caches of limited size are
    kept between pictures. Only one thread at a time may use a street.

    Parameters
    ----------
    spec : StreetSpec
        Size, rate and seed; `frames` is not used.
    """

    def __init__(self, spec: StreetSpec) -> None:
        self.spec = spec
        self._camera = Camera(spec.width, spec.height)
        self._backdrop = backdrop(spec.seed, self._camera)
        self._road = Road(spec.seed, self._camera)
        self._houses = Houses(spec.seed, self._camera)
        self._crowns = Crowns(spec.seed, self._camera)
        self._traffic = Traffic(spec.seed)
        grain = rng(spec.seed, 111).integers(0, NOISE, (spec.height + 64, spec.width + 64, 3))
        self._noise = grain.astype(np.uint8)

    def render(self, index: int, hidden: Collection[int] = ()) -> Image:
        """Return frame `index`, counted from 0, as uint8 (height, width, 3), BGR.

        Objects whose track_id is in `hidden` are not drawn, only their shadows.
        """
        seconds = float(index / self.spec.fps)
        travelled = SPEED * seconds
        image = self._backdrop.copy()
        self._road.draw(image, travelled)
        self._houses.draw(image, travelled)
        items = self._items(seconds)
        draw_shadows(image, self._camera, [item for item in items if isinstance(item, Actor)])
        for item, polygons in zip(items, self._project(items), strict=True):
            if isinstance(item, Actor) and item.track_id in hidden:
                continue
            polygons.paint(image)
            if isinstance(item, Post) and item.crown is not None:
                self._crowns.draw(image, item.crown[0], item.x, item.z, item.crown[1])
        self._add_noise(image, index)
        return image

    def truth(self, index: int) -> tuple[TruthBox, ...]:
        """Return the visible objects in frame `index`, the nearest first.

        Objects less than 8 pixels high, outside the picture or entirely hidden are not included.
        """
        size = (self.spec.width - 1, self.spec.height - 1)
        labels = np.zeros((self.spec.height, self.spec.width), np.uint8)  # far fewer than 255
        alone = np.zeros_like(labels)
        found: list[tuple[Actor, Box, float, int]] = []
        items = self._items(float(index / self.spec.fps))
        for item, seen in zip(items, self._project(items), strict=True):
            if isinstance(item, Post):
                seen.stamp(labels, 0)
                continue
            outside = ((seen.points < 0) | (seen.points > size)).any(axis=1)
            if outside.all():
                continue
            x1, y1, x2, y2 = seen.box()
            left, top = max(0, int(x1)), max(0, int(y1))
            part = alone[top : int(min(y2, size[1])) + 2, left : int(min(x2, size[0])) + 2]
            seen.stamp(alone, 1)
            pixels = cv2.countNonZero(part)
            if outside.any():  # the box of the part inside
                column, row, wide, high = cv2.boundingRect(part)
                x1, y1 = float(left + column), float(top + row)
                x2, y2 = x1 + wide - 1, y1 + high - 1
            part[:] = 0
            if y2 - y1 < SMALLEST or x2 <= x1:
                continue
            found.append((item, (x1, y1, x2, y2), float(outside.mean()), pixels))
            seen.stamp(labels, len(found))
        visible = np.bincount(labels.ravel(), minlength=256).tolist()
        boxes = [
            TruthBox(item.track_id, item.model.name, box, truncated, max(0.0, 1 - shown / pixels))
            for shown, (item, box, truncated, pixels) in zip(visible[1:], found, strict=False)
            if shown
        ]
        return tuple(reversed(boxes))

    def _items(self, seconds: float) -> list[Item]:
        """Return all actors and posts that may be in view, the farthest first."""
        wide = self._camera.width / 2 / self._camera.focal
        items: list[Item] = [*self._traffic.at(seconds), *posts(self.spec.seed, SPEED * seconds)]
        # No item reaches more than 2.5 m from its middle, except lamps and crowns, high up.
        near = [item for item in items if abs(item.x) - 2.5 < (item.z + 2.5) * wide]
        return sorted(near, key=lambda item: -item.distance)

    def _project(self, items: list[Item]) -> list[Polygons]:
        """Return the polygons that the camera sees of each item."""
        rods, meshes, solid = [], [], []
        for item in items:
            solid.append(isinstance(item, Actor) and isinstance(item.model, Car))
            if isinstance(item, Post):
                rods.append(item.rods())
            elif isinstance(item.model, Car):
                tall = item.model.height * self._camera.focal / max(item.z, 1.0)
                meshes.append(item.model.mesh(item.x, item.z, tall > FINE))
            else:
                rods.append(item.model.rods(item.x, item.z, item.phase))
        round_ones = iter(project_rods(self._camera, rods))
        flat_ones = iter(project_meshes(self._camera, meshes))
        return [next(flat_ones if car else round_ones) for car in solid]

    def _add_noise(self, image: Image, index: int) -> None:
        """Add the noise of a sensor, shifted from frame to frame."""
        down, right = (index * 37) % 64, (index * 23) % 64
        height, width = image.shape[:2]
        cv2.add(image, self._noise[down : down + height, right : right + width], dst=image)
