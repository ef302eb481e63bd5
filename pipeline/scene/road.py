"""The ground: a strip of carriageway, kerbs and pavements that scrolls under the camera."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.frame import Image
from pipeline.scene.camera import Camera, Floats
from pipeline.scene.light import HAZE, SUN, VISIBILITY, cloudiness, rng
from pipeline.scene.shapes import Polygons, hazy

# Where things lie across the street, in metres from the middle of the own lane.
LANE_RIGHT, LANE_MIDDLE, LANE_LEFT = 1.75, -1.75, -5.15
KERB_RIGHT, KERB_LEFT = 5.35, -8.55
HOUSES_RIGHT, HOUSES_LEFT = 9.0, -12.2
TREES_RIGHT, TREES_LEFT = 5.95, -9.15
TREE_SPACING = 12.0  # metres between trees
CROSSING = 96.0  # metres between zebra crossings
PERIOD = 72.0  # metres after which the surface repeats
BANDS = 1.55  # ratio of the distances between which one size of texture is used
WHITE = (206.0, 208.0, 208.0)


def crossing_at(number: int) -> float:
    """Return where a zebra crossing is, in metres from where the camera started."""
    return (number + 0.9) * CROSSING


def _surface(seed: int, scale: float) -> Image:
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
    road = slice(column(LANE_LEFT), column(LANE_RIGHT))
    for lane in (0.0, -3.45):  # tyres polish two tracks in each lane
        for track in (-0.78, 0.78):
            x = (np.arange(width) / scale + left - lane - track) / 0.3
            grey += 7 * np.exp(-(x**2)).astype(np.float32)
        x = (np.arange(width) / scale + left - lane) / 0.4
        grey -= 8 * np.exp(-(x**2)).astype(np.float32)
    for _ in range(14):  # mended patches
        x, z = generator.uniform(LANE_LEFT, LANE_RIGHT), generator.uniform(1, PERIOD - 8)
        across, along = generator.uniform(0.5, 2.2), generator.uniform(0.8, 7)
        rows = slice(round(z * scale), round((z + along) * scale))
        grey[rows, column(x) : min(column(x + across), road.stop)] += generator.uniform(-15, 6)
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
    for start, stop in ((KERB_LEFT, LANE_LEFT - 1.15), (LANE_RIGHT + 1.55, KERB_RIGHT)):
        part = grey[:, column(start) : column(stop)]
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
    grey += 7 * cv2.resize(coarse, (width, height))

    shadow = _shadows(generator, (height, width), scale, left)
    channels = []
    for paved, dark in ((0.96, 0.40), (0.99, 0.46), (1.0, 0.50)):
        tint = np.full(width, paved, np.float32)
        tint[column(KERB_LEFT) : column(KERB_RIGHT)] = 1.0 + 0.3 * (0.46 - dark)
        channels.append(cv2.convertScaleAbs(grey * tint * (1 - np.float32(dark) * shadow)))
    return cv2.merge(channels)


def _shadows(
    generator: np.random.Generator, shape: tuple[int, int], scale: float, left: float
) -> np.ndarray:
    """Return how much of the sun trees and houses take from the ground, 0 to 1, as float32."""
    shadow = np.zeros(shape, np.float32)
    aside, ahead = -SUN[0] / SUN[1], -SUN[2] / SUN[1]  # metres per metre of height
    for x in (TREES_LEFT, TREES_RIGHT):
        for z in (np.arange(-2, PERIOD / TREE_SPACING + 1) + 0.5) * TREE_SPACING:
            foot = np.array((x - left, z)) * scale
            for _ in range(70):  # light falls through between the leaves
                up = generator.uniform(2.6, 6.4)
                spot = generator.normal((aside * up, ahead * up), 0.85)
                centre = np.rint(foot + spot * scale).astype(int)
                radius = max(1, round(generator.uniform(0.15, 0.6) * scale))
                cv2.circle(shadow, (int(centre[0]), int(centre[1])), radius, (1.0,), -1)
            tip = np.rint(foot + np.array((aside, ahead)) * 3 * scale).astype(int)
            thick = max(1, round(0.3 * scale))
            start = (round(foot[0]), round(foot[1]))
            cv2.line(shadow, start, (int(tip[0]), int(tip[1])), (1.0,), thick)
    wall = round((HOUSES_RIGHT - 3.0 - left) * scale)  # the houses on the right stand in the sun
    shadow[:, wall:] = 1
    blur = max(1, round(0.12 * scale)) * 2 + 1
    return cv2.blur(shadow, (blur, blur))


class Road:
    """The ground below the horizon.

    The picture is cut into bands of rows. Each band has a copy of the surface in a resolution that
    suits its distance and a fixed map from pixels into it; a frame only chooses where in the copy
    the map begins.
    """

    def __init__(self, seed: int, camera: Camera) -> None:
        self._camera = camera
        self._first = int(np.floor(camera.horizon)) + 1
        rows = np.arange(self._first, camera.height)
        self._bands: list[tuple[slice, float, Image, int, np.ndarray, np.ndarray]] = []
        nearest = camera.focal * camera.eye / (camera.height - 1 - camera.horizon)
        scale = float(np.clip(0.6 * camera.focal / nearest, 6, 36))
        surface = _surface(seed, scale)
        distances = camera.focal * camera.eye / (rows - camera.horizon)
        farthest = 4 * VISIBILITY
        end = len(rows)
        while end:
            near = distances[end - 1]
            start = int(np.searchsorted(-distances, -BANDS * near))
            if near > farthest / BANDS:
                start = 0
            self._add(surface, scale, slice(start, end), np.minimum(distances[start:end], farthest))
            end = start

    def _add(self, surface: Image, scale: float, rows: slice, distances: Floats) -> None:
        """Add the band of some rows below the horizon, at these distances in metres."""
        camera = self._camera
        near, far = float(distances[-1]), float(distances[0])
        across = min(scale, 1.2 * camera.focal / near)
        along = min(scale, 2.0 * camera.focal * camera.eye / (near * far))
        width = HOUSES_RIGHT - HOUSES_LEFT + 12
        size = (max(2, round(width * across)), max(8, round(PERIOD * along)))
        copy = cv2.resize(surface, size, interpolation=cv2.INTER_AREA)
        across, along = size[0] / width, size[1] / PERIOD
        mean = 1 - np.exp(-float(np.sqrt(near * far)) / VISIBILITY)
        copy = np.clip(copy * (1 - mean) + HAZE * 0.9 * mean, 0, 255).astype(np.uint8)
        depth = int(np.ceil((far - near) * along)) + 3
        copy = np.concatenate([copy] * (2 + depth // len(copy)))[: size[1] + depth]
        columns = (np.arange(camera.width) - camera.centre_x) / camera.focal
        u = (np.outer(distances, columns) - HOUSES_LEFT + 6) * across - 0.5
        v = np.repeat(((distances - near) * along)[:, None], camera.width, axis=1)
        maps = cv2.convertMaps(
            np.clip(u, 0, size[0] - 1).astype(np.float32), v.astype(np.float32), cv2.CV_16SC2
        )
        self._bands.append((rows, along, copy, depth, *maps))

    def draw(self, image: Image, travelled: float) -> None:
        """Fill everything below the horizon after some metres travelled."""
        below = image[self._first :]
        for rows, along, copy, depth, fixed, fraction in self._bands:
            near = (
                self._camera.focal
                * self._camera.eye
                / (self._first + rows.stop - 1 - self._camera.horizon)
            )
            begin = int(((travelled + near) * along) % (len(copy) - depth))
            cv2.remap(
                copy[begin : begin + depth], fixed, fraction, cv2.INTER_LINEAR,
                dst=below[rows], borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
        self._markings(travelled).paint(image)

    def _markings(self, travelled: float) -> Polygons:
        """Return kerbs, edge lines and dashes."""
        strips: list[tuple[float, float, float, float, tuple[float, float, float]]] = []
        for x, colour in ((KERB_RIGHT, (150.0, 152.0, 154.0)), (KERB_LEFT, (166.0, 168.0, 170.0))):
            strips.append((x - 0.08, x + 0.08, 0.5, 300, colour))
        for x, dash, gap in ((LANE_MIDDLE, 3, 6), (LANE_RIGHT, 1, 1.5), (LANE_LEFT, 1, 1.5)):
            first = -(travelled % (dash + gap))
            for near in np.arange(first, 25 if gap < 2 else 110, dash + gap):
                if near + dash > 1:
                    strips.append((x - 0.06, x + 0.06, near, near + dash, WHITE))
            if gap < 2:
                strips.append((x - 0.03, x + 0.03, near, 200, (160.0, 162.0, 162.0)))
        place = int(travelled // CROSSING)
        for crossing in (crossing_at(place - 1), crossing_at(place)):
            near, far = crossing - 1.6 - travelled, crossing + 2.4 - travelled
            if far > 1 and near < 110:
                for x in np.arange(LANE_LEFT - 0.9, LANE_RIGHT + 1.4, 1.0):
                    strips.append((x, x + 0.5, near, far, WHITE))
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
