"""The carriageway that scrolls under the camera, and its markings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.camera import Camera, Floats
from tests.street.layout import (
    CROSSING,
    HOUSES_LEFT,
    HOUSES_RIGHT,
    KERB_LEFT,
    KERB_RIGHT,
    LANE_LEFT,
    LANE_MIDDLE,
    LANE_RIGHT,
    PERIOD,
    crossing_at,
)
from tests.street.light import VEIL, VISIBILITY, haze
from tests.street.mesh import Colour
from tests.street.shapes import Polygons, hazy
from tests.street.surface import paint_surface

BANDS = 1.55  # ratio of the largest to the smallest distance for one size of texture
WHITE: Colour = (206, 208, 208)


@dataclass(frozen=True)
class Band:
    """Some rows of the ground, with the surface in the size for their distance.

    Attributes
    ----------
    rows : slice
        Rows below the horizon.
    near : float
        Distance of the lowest row in metres.
    along : float
        Rows of the surface per metre of street.
    surface : uint8 array
        More than one period of the ground from above.
    depth : int
        Number of rows of the surface in view.
    fixed, fraction : int16 array (rows, columns, 2), uint16 array (rows, columns)
        Maps of `cv2.remap` into a surface that begins at `near`.
    """

    rows: slice
    near: float
    along: float
    surface: Image
    depth: int
    fixed: np.ndarray
    fraction: np.ndarray


class Road:
    """The ground below the horizon.

    The picture consists of bands of rows. Each band has a copy of the surface in a resolution that
    suits its distance, and a fixed map from pixels to that copy. Each frame only chooses the row of
    the copy at which the map begins.
    """

    def __init__(self, seed: int, camera: Camera) -> None:
        self._camera = camera
        self._first = int(np.floor(camera.horizon)) + 1
        rows = np.arange(self._first, camera.height)
        distances = camera.focal * camera.eye / (rows - camera.horizon)
        scale = float(np.clip(0.25 * camera.focal / distances[-1], 6, 36))
        surface = paint_surface(seed, scale)
        farthest = 4 * VISIBILITY
        self._bands: list[Band] = []
        end = len(rows)
        while end:
            near = distances[end - 1]
            start = int(np.searchsorted(-distances, -BANDS * near))
            if near > farthest / BANDS:
                start = 0
            seen = np.minimum(distances[start:end], farthest)
            surface = self._add(surface, scale, slice(start, end), seen)
            end = start

    def _add(self, surface: Image, scale: float, rows: slice, distances: Floats) -> Image:
        """Add a band of rows at these distances in metres, and return its surface."""
        camera = self._camera
        near, far = float(distances[-1]), float(distances[0])
        across = min(scale, 1.2 * camera.focal / near)
        along = min(scale, 2.0 * camera.focal * camera.eye / (near * far))
        width = HOUSES_RIGHT - HOUSES_LEFT + 12
        size = (max(2, round(width * across)), max(8, round(PERIOD * along)))
        copy = np.asarray(cv2.resize(surface, size, interpolation=cv2.INTER_AREA), np.uint8)
        across, along = size[0] / width, size[1] / PERIOD
        depth = int(np.ceil((far - near) * along)) + 3
        share = haze(np.sqrt(near * far))
        seen = np.asarray(cv2.addWeighted(copy, 1 - share, copy, 0, 0.9 * VEIL * share), np.uint8)
        seen = np.concatenate([seen] * (2 + depth // size[1]))[: size[1] + depth]
        columns = (np.arange(camera.width) - camera.centre_x) / camera.focal
        u = (np.outer(distances, columns) - HOUSES_LEFT + 6) * across - 0.5
        v = np.repeat(((distances - near) * along)[:, None], camera.width, axis=1)
        u = np.clip(u, 0, size[0] - 1).astype(np.float32)
        maps = cv2.convertMaps(u, v.astype(np.float32), cv2.CV_16SC2)
        self._bands.append(Band(rows, near, along, seen, depth, *maps))
        return copy

    def draw(self, image: Image, travelled: float) -> None:
        """Fill all rows below the horizon after `travelled` metres."""
        below = image[self._first :]
        for band in self._bands:
            begin = int((travelled + band.near) % PERIOD * band.along)
            cv2.remap(
                band.surface[begin : begin + band.depth],
                band.fixed,
                band.fraction,
                cv2.INTER_LINEAR,
                dst=below[band.rows],
                borderMode=cv2.BORDER_REPLICATE,
            )
        self._markings(travelled).paint(image)

    def _markings(self, travelled: float) -> Polygons:
        """Return kerbs, zebra crossings, edge lines and dashes."""
        strips: list[tuple[float, float, float, float, Colour]] = []
        for x, colour in ((KERB_RIGHT, (150.0, 152.0, 154.0)), (KERB_LEFT, (166.0, 168.0, 170.0))):
            strips.append((x - 0.08, x + 0.08, 0.5, 300, colour))
        place = int(travelled // CROSSING)
        zebras = [crossing_at(number) - travelled for number in (place - 1, place)]
        for zebra in zebras:
            if 0 < zebra < 110:
                for x in np.arange(LANE_LEFT - 0.9, LANE_RIGHT + 1.4).tolist():
                    strips.append((x, x + 0.5, zebra - 1.6, zebra + 2.4, WHITE))
        for x, dash, gap in ((LANE_MIDDLE, 3, 6), (LANE_RIGHT, 1, 1.5), (LANE_LEFT, 1, 1.5)):
            first = -(travelled % (dash + gap))
            for near in np.arange(first, 25 if gap < 2 else 110, dash + gap).tolist():
                on_zebra = any(zebra - 2 - dash < near < zebra + 2.8 for zebra in zebras)
                if near + dash > 1 and not on_zebra:
                    strips.append((x - 0.06, x + 0.06, near, near + dash, WHITE))
            if gap < 2:
                strips.append((x - 0.03, x + 0.03, near, 200, (160.0, 162.0, 162.0)))
        corners = np.array(
            [
                ((x1, 0.0, z1), (x2, 0.0, z1), (x2, 0.0, z2), (x1, 0.0, z2))
                for x1, x2, z1, z2, _ in strips
            ]
        )
        colours = hazy(np.array([colour for *_, colour in strips]), corners[:, :, 2].mean(axis=1))
        return Polygons(
            self._camera.project(corners.reshape(-1, 3)), 4 * np.arange(1, len(strips) + 1), colours
        )
