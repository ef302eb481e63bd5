"""The whole picture, and what is in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.frame import Image
from pipeline.scene.backdrop import backdrop
from pipeline.scene.camera import Camera
from pipeline.scene.furniture import Post, posts
from pipeline.scene.houses import Houses
from pipeline.scene.light import rng
from pipeline.scene.road import Road
from pipeline.scene.shadows import draw_shadow
from pipeline.scene.shapes import Polygons
from pipeline.scene.spec import SceneSpec
from pipeline.scene.traffic import SPEED, Actor, Traffic
from pipeline.scene.trees import Crowns

SMALLEST = 8  # pixels of height; what is smaller is not in the truth
NOISE = 9  # levels of grey between the darkest and the brightest grain of the sensor


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
        x1, y1, x2, y2 around what is drawn of it, shadow excluded, cut off at the picture's edges:
        pixels, from the centre of the top left one, so at most width - 1 and height - 1.
    truncated : float
        Share of its corners that lie outside the picture, 0 to 1.
    occluded : float
        Share of its pixels in the picture that something else hides, 0 to 1.
    """

    track_id: int
    name: str
    box: tuple[float, float, float, float]
    truncated: float
    occluded: float


class Street:
    """A street seen from a car that drives along it for ever.

    Every picture is a function of the spec and the frame's index alone; nothing is kept from one
    to the next but caches of bounded size.

    Parameters
    ----------
    spec : SceneSpec
        Size, rate and seed; `frames` plays no part.
    """

    def __init__(self, spec: SceneSpec) -> None:
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

        Objects whose track_id is in `hidden` are left out, but for their shadows.
        """
        seconds = float(index / self.spec.fps)
        travelled = SPEED * seconds
        image = self._backdrop.copy()
        self._road.draw(image, travelled)
        self._houses.draw(image, travelled)
        items = self._items(seconds)
        for item in items:
            if isinstance(item, Actor):
                draw_shadow(image, self._camera, item)
        for item in items:
            if isinstance(item, Post):
                item.polygons(self._camera).at_distance(item.z).paint(image)
                if item.crown is not None:
                    self._crowns.draw(image, item.crown[0], item.x, item.z, item.crown[1])
            elif item.track_id not in hidden:
                self._seen(item).at_distance(item.distance).paint(image)
        self._add_noise(image, index)
        return image

    def truth(self, index: int) -> tuple[TruthBox, ...]:
        """Return what is visible in frame `index`, the nearest first.

        Left out is what is less than 8 pixels high, outside the picture or entirely hidden.
        """
        width, height = self.spec.width, self.spec.height
        labels = np.zeros((height, width), np.uint8)
        alone = np.zeros_like(labels)
        found = []
        for item in self._items(float(index / self.spec.fps)):
            if isinstance(item, Post):
                item.polygons(self._camera).stamp(labels, 0)
                continue
            seen = self._seen(item)
            if not len(seen.ends):
                continue
            x1, y1, x2, y2 = seen.box()
            box = (max(x1, 0.0), max(y1, 0.0), min(x2, width - 1.0), min(y2, height - 1.0))
            if box[3] - box[1] < SMALLEST or box[2] <= box[0]:
                continue
            label = len(found) + 1
            seen.stamp(labels, label)
            part = alone[int(box[1]) : int(box[3]) + 2, int(box[0]) : int(box[2]) + 2]
            seen.stamp(alone, 1)
            pixels = int(cv2.countNonZero(part))
            part[:] = 0
            outside = (seen.points < 0) | (seen.points > (width - 1, height - 1))
            found.append((item, box, float(outside.any(axis=1).mean()), pixels))
        visible = np.bincount(labels.ravel(), minlength=256)
        boxes = [
            TruthBox(item.track_id, item.model.name, box, truncated, float(1 - left / pixels))
            for left, (item, box, truncated, pixels) in zip(visible[1:], found, strict=False)
            if left
        ]
        return tuple(reversed(boxes))

    def _items(self, seconds: float) -> list[Actor | Post]:
        """Return everything that stands on the street, the farthest first."""
        items = [*self._traffic.at(seconds), *posts(self.spec.seed, SPEED * seconds)]
        return sorted(items, key=lambda item: -item.distance)

    def _seen(self, actor: Actor) -> Polygons:
        return actor.model.polygons(self._camera, actor.x, actor.z, actor.phase)

    def _add_noise(self, image: Image, index: int) -> None:
        """Add the grain of a sensor, another in every frame."""
        down, right = (index * 37) % 64, (index * 23) % 64
        height, width = image.shape[:2]
        cv2.add(image, self._noise[down : down + height, right : right + width], dst=image)
