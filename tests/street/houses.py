"""Rows of house fronts on both sides of the street."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from squeezedrive.pipeline.core.frame import Image
from tests.street.camera import Camera
from tests.street.layout import HOUSES_LEFT, HOUSES_RIGHT
from tests.street.light import VEIL, cloudiness, haze, rng
from tests.street.shapes import Polygons, hazy

LENGTH = 15.0  # width of a front in metres
FRONTS = 9  # different fronts, one for each colour of `WALLS`
RATIO = 1.7  # of the largest to the smallest distance for one size of wall
REACH = 140.0  # metres from the camera
CLEAR = 20.0  # metres without haze, because a front that fills the picture is slow to tint
STOREY, SHOP, ROOF = 3.1, 3.7, 2.4  # metres
TALLEST = SHOP + 4 * STOREY + ROOF
SPARE = 2  # pixels around a wall: because of rounding, a map may point so far beside it
SIDES = ((-1, HOUSES_LEFT), (1, HOUSES_RIGHT))
WALLS = (
    (176, 206, 222), (160, 188, 206), (150, 176, 214), (196, 206, 210), (96, 112, 158),
    (164, 196, 196), (140, 160, 176), (120, 160, 204), (182, 184, 180),
)  # fmt: skip


def _window(wall: Image, box: tuple[int, int, int, int], generator: np.random.Generator) -> None:
    x1, y1, x2, y2 = box
    edge = max(1, (x2 - x1) // 11)
    frame = (222, 224, 224) if generator.random() < 0.8 else (70, 74, 80)
    cv2.rectangle(wall, (x1 - edge, y1 - edge), (x2 + edge, y2 + edge), frame, -1)
    tone = float(generator.uniform(0.5, 1.25))
    shades = np.linspace(116, 40, max(1, y2 - y1))[:, None] * (1.0, 0.93, 0.86) * tone
    wall[y1:y2, x1:x2] = np.clip(shades, 0, 255).astype(np.uint8)[:, None]
    if generator.random() < 0.5:  # curtains
        part = (x2 - x1) // 4
        wall[y1:y2, x1 : x1 + part] = wall[y1:y2, x2 - part : x2] = (168, 176, 178)
    middle = (x1 + x2) // 2
    cv2.line(wall, (middle, y1), (middle, y2), frame, max(1, edge // 2))
    cv2.line(wall, (x1, y1 + (y2 - y1) // 4), (x2, y1 + (y2 - y1) // 4), frame, max(1, edge // 2))
    cv2.rectangle(wall, (x1 - 2 * edge, y2), (x2 + 2 * edge, y2 + edge), (172, 176, 178), -1)


def _paint(generator: np.random.Generator, kind: int, scale: float) -> tuple[Image, float]:
    """Return a front at `scale` pixels per metre, ridge in row 0, and its height in metres."""
    storeys = int(generator.integers(2, 5))
    shop = generator.random() < 0.45
    ground = SHOP if shop else STOREY + 0.6
    height = ground + storeys * STOREY + ROOF
    rows, columns = round(height * scale), round(LENGTH * scale)

    def px(metres: float) -> int:
        return round(metres * scale)

    def row(above: float) -> int:
        return rows - round(above * scale)

    wall = np.empty((rows, columns, 3), np.uint8)
    base = np.array(WALLS[kind], np.float32)
    grime = cloudiness(generator, (rows, columns), max(4, 3 * scale), 5)[..., None]
    grain = generator.normal(0, 0.035, (rows, columns, 1)).astype(np.float32)
    wall[:] = np.clip(base * (0.92 + 0.07 * grime + grain), 0, 255)
    eaves = row(height - ROOF)
    tile = max(2, px(0.28))
    tiles = np.array(((58, 72, 126), (62, 66, 76), (52, 84, 140))[kind % 3], np.float32)
    pattern = 1 - 0.22 * (np.arange(eaves) % tile == 0)[:, None, None] + 0.5 * grain[:eaves]
    wall[:eaves] = np.clip(tiles * (pattern + 0.06 * grime[:eaves]), 0, 255)
    cv2.rectangle(wall, (0, eaves), (columns, eaves + px(0.25)), (150, 154, 156), -1)
    bays = int(generator.integers(4, 6))
    pitch, wide = LENGTH / bays, float(generator.uniform(1.1, 1.5))
    for bay in range(bays):
        left = px((bay + 0.5) * pitch - wide / 2)
        right = left + px(wide)
        for storey in range(storeys):
            foot = ground + storey * STOREY + 0.85
            _window(wall, (left, row(foot + 1.65), right, row(foot)), generator)
        if bay % 2 == 0:  # dormer
            _window(wall, (left, row(height - 0.7), right, row(height - ROOF + 0.35)), generator)
        if not shop and bay != bays // 2:
            _window(wall, (left, row(3.0), right, row(1.35)), generator)
    for storey in range(storeys + 1):
        y = row(ground + storey * STOREY)
        cv2.rectangle(
            wall, (0, y - px(0.12)), (columns, y), (base * 1.07).clip(0, 255).tolist(), -1
        )
        cv2.line(wall, (0, y + 1), (columns, y + 1), (base * 0.62).tolist(), max(1, px(0.06)))
    if shop:
        colour = generator.integers(30, 200, 3).tolist()
        cv2.rectangle(wall, (0, row(3.3)), (columns, rows), (base * 0.55).tolist(), -1)
        for bay in range(bays):
            left = px(bay * pitch + 0.25)
            pane = (left, row(2.7), left + px(pitch - 0.5), row(0.5 if bay != bays // 2 else 0.05))
            _window(wall, pane, generator)
        cv2.rectangle(wall, (px(0.2), row(3.45)), (columns - px(0.2), row(2.85)), colour, -1)
        for x in np.arange(1.5, LENGTH - 2, 0.55).tolist():  # lettering
            if generator.random() < 0.7:
                box = ((px(x), row(3.32)), (px(x + 0.34), row(2.98)))
                cv2.rectangle(wall, *box, (228, 230, 230), max(1, px(0.07)))
    else:
        cv2.rectangle(wall, (0, row(0.8)), (columns, rows), (base * 0.6).tolist(), -1)
        left = px((bays // 2 + 0.5) * pitch - 0.6)
        cv2.rectangle(wall, (left, row(2.5)), (left + px(1.2), rows), (44, 54, 72), -1)
        cv2.rectangle(wall, (left, row(2.9)), (left + px(1.2), row(2.55)), (120, 110, 100), -1)
    wall[:, : max(1, px(0.08))] = wall[:, : max(1, px(0.08))] // 2
    return wall, height


@dataclass(frozen=True)
class Band:
    """A range of distances on one side of the street, with walls in the size for that distance.

    Attributes
    ----------
    near, far : float
        Smallest and largest distance in metres.
    along : float
        Pixels per metre of its walls along the street.
    left, top : int
        First column and row of its maps in the picture.
    fixed, fraction : int16 array (rows, columns, 2), uint16 array (rows, columns)
        Maps of `cv2.remap` into the strip.
    strip : uint8 array
        Scratch memory: a wall as long as the band, filled for each house. Row 0 is at the ground,
        so the last row is at the roof, and nothing is drawn above it.
    walls : list of uint8 array
        All fronts, upside down like the strip.
    """

    near: float
    far: float
    along: float
    left: int
    top: int
    fixed: np.ndarray
    fraction: np.ndarray
    strip: Image
    walls: list[Image]


class Houses:
    """The house fronts along the street.

    A wall along the street has the same perspective at all positions of the camera: each column of
    the picture is a distance. So the maps from pixels to walls are fixed, and each frame only
    shifts the walls.
    """

    def __init__(self, seed: int, camera: Camera) -> None:
        self._camera = camera
        self._seed = seed
        self._scale = float(np.clip(camera.focal / 20, 4, 48))
        self._fronts = [_paint(rng(seed, 103, kind), kind, self._scale) for kind in range(FRONTS)]
        self._kind = lru_cache(maxsize=128)(self._choose)
        self._bands: dict[int, list[Band]] = {}
        for side, x in SIDES:
            near = 0.98 * abs(x) * camera.focal / (camera.width / 2)  # where walls enter the view
            self._bands[side] = []
            while near < REACH:
                self._bands[side].append(self._band(x, near, RATIO * near))
                near *= RATIO

    def _band(self, x: float, near: float, far: float) -> Band:
        camera = self._camera
        along = min(self._scale, 1.3 * camera.focal * abs(x) / (near * far))
        down = min(self._scale, 1.2 * camera.focal / near)
        walls = []
        for wall, height in self._fronts:
            size = (max(2, round(LENGTH * along)), max(2, round(height * down)))
            small = np.asarray(cv2.resize(wall, size, interpolation=cv2.INTER_AREA), np.uint8)
            walls.append(np.pad(small[::-1], ((0, 0), (SPARE, SPARE), (0, 0)), mode="edge"))
        ends = sorted(camera.centre_x + camera.focal * x / z for z in (near, far))
        left, right = max(0, int(ends[0])), min(camera.width, int(ends[1]) + 1)
        top = max(0, int(camera.horizon - (TALLEST - camera.eye) * camera.focal / near))
        bottom = min(camera.height, int(camera.horizon + camera.eye * camera.focal / near) + 2)
        columns, rows = np.arange(left, max(right, left + 1)), np.arange(top, bottom)
        aside = columns - camera.centre_x
        distances = camera.focal * x / np.where(aside == 0, 1, aside)
        heights = camera.eye + np.outer(camera.horizon - rows, distances) / camera.focal
        u = np.tile((distances - near) * along - 0.5, (len(rows), 1)).astype(np.float32)
        v = (heights * down - 0.5).astype(np.float32)
        maps = cv2.convertMaps(u, v, cv2.CV_16SC2)
        strip = np.zeros(
            (round(TALLEST * down) + SPARE, int((far - near) * along) + 3, 3), np.uint8
        )
        return Band(near, far, along, left, top, *maps, strip, walls)

    def _choose(self, side: int, cell: int) -> int | None:
        generator = rng(self._seed, 104, side, cell)
        return None if generator.random() < 0.1 else int(generator.integers(FRONTS))

    def _height(self, side: int, cell: int) -> float:
        kind = self._kind(side, cell)
        return 0.0 if kind is None else self._fronts[kind][1]

    def draw(self, image: Image, travelled: float) -> None:
        """Draw the houses after `travelled` metres, far ones first."""
        for side, x in SIDES:
            for band in reversed(self._bands[side]):
                first = int((travelled + band.near) // LENGTH)
                last = int((travelled + min(band.far, REACH)) // LENGTH)
                for cell in range(last, first - 1, -1):
                    kind = self._kind(side, cell)
                    if kind is not None:
                        near = cell * LENGTH - travelled
                        hidden = self._height(side, cell - 1) >= self._fronts[kind][1] + 1.5
                        if near >= band.near and not hidden:
                            self._gable(image, kind, x, near, side)
                        self._wall(image, band, kind, x, near)

    def _gable(self, image: Image, kind: int, x: float, near: float, side: int) -> None:
        """Draw the end wall of a house that faces the camera."""
        height = self._fronts[kind][1]
        eaves, back = height - ROOF, x + side * 11
        outline = np.array(
            (
                (x, 0, near),
                (x, eaves, near),
                (x + side * 2, height, near),
                (x + side * 5.5, height + 1.5, near),
                (back, eaves, near),
                (back, 0, near),
            )
        )
        colours = hazy(0.62 * np.array([WALLS[kind]]), np.array([near]))
        Polygons(self._camera.project(outline), np.array([6]), colours).paint(image)

    def _wall(self, image: Image, band: Band, kind: int, x: float, near: float) -> None:
        """Draw the part of a front that is in a band."""
        camera, height, wall = self._camera, self._fronts[kind][1], band.walls[kind]
        begin, end = max(near, band.near), min(near + LENGTH, band.far)
        ends = sorted(camera.centre_x + camera.focal * x / z for z in (begin, end))
        x1 = max(0, int(np.ceil(ends[0])) - band.left)
        x2 = min(band.fixed.shape[1], int(np.ceil(ends[1])) - band.left)
        y1 = int(camera.horizon - (height - camera.eye) * camera.focal / begin) - band.top
        y2 = int(camera.horizon + camera.eye * camera.focal / begin) + 2 - band.top
        y1, y2 = max(0, y1), min(len(band.fixed), y2)
        if x1 >= x2 or y1 >= y2:
            return
        self._lay(band, wall, round((near - band.near) * band.along), (begin + end) / 2)
        rows = slice(band.top + y1, band.top + y2)
        columns = slice(band.left + x1, band.left + x2)
        cv2.remap(
            band.strip[: len(wall)],
            band.fixed[y1:y2, x1:x2],
            band.fraction[y1:y2, x1:x2],
            cv2.INTER_LINEAR,
            dst=image[rows, columns],
            borderMode=cv2.BORDER_TRANSPARENT,  # no change above the roof
        )

    def _lay(self, band: Band, wall: Image, offset: int, distance: float) -> None:
        """Put a wall, with haze, into the strip of a band."""
        wide = band.strip.shape[1]
        start, stop = max(0, offset - SPARE), min(wide, offset - SPARE + wall.shape[1])
        if start >= stop:
            return
        part = wall[:, start - offset + SPARE : stop - offset + SPARE]
        place = band.strip[: len(wall), start:stop]
        share = haze(distance - CLEAR)
        if share > 0.02:
            cv2.addWeighted(part, 1 - share, part, 0, VEIL * share, dst=place)
        else:
            place[:] = part
