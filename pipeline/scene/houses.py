"""Rows of house fronts on both sides of the street."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.frame import Image
from pipeline.scene.camera import Camera
from pipeline.scene.light import HAZE, cloudiness, haze, rng
from pipeline.scene.road import HOUSES_LEFT, HOUSES_RIGHT
from pipeline.scene.shapes import Polygons, hazy

LENGTH = 15.0  # metres of street one front takes
FRONTS = 9  # different fronts
REACH = 170.0  # metres
CLEAR = 20.0  # metres without haze: a front that fills the picture is costly to tint
STOREY, SHOP, ROOF = 3.1, 3.7, 2.4  # metres
WALLS = (
    (176, 206, 222), (160, 188, 206), (150, 176, 214), (196, 206, 210), (96, 112, 158),
    (164, 196, 196), (140, 160, 176), (120, 160, 204), (182, 184, 180),
)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """A painted house front.

    Attributes
    ----------
    height : float
        Metres to the ridge.
    wall : tuple of float
        BGR of the gable.
    halves : tuple of tuple of uint8 array
        Near and far half, each in ever smaller sizes.
    """

    height: float
    wall: tuple[float, float, float]
    halves: tuple[tuple[Image, ...], tuple[Image, ...]]


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
    """Return a front at `scale` pixels per metre, row 0 is the ridge, and its height in metres."""
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
    base = np.array(WALLS[kind % len(WALLS)], np.float32)
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
        for x in np.arange(1.5, LENGTH - 2, 0.55):  # lettering
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


def _sizes(image: Image) -> tuple[Image, ...]:
    """Return an image and copies for greater distances: width shrinks faster than height."""
    copies = [image]
    for level in range(1, 5):
        size = (
            max(2, round(image.shape[1] * 0.42**level)),
            max(2, round(image.shape[0] * 0.62**level)),
        )
        copies.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return tuple(copies)


@dataclass(frozen=True)
class Band:
    """A range of distances on one side and how its part of the picture maps to a wall.

    Attributes
    ----------
    near, far : float
        Metres.
    left, right : int
        Columns of the picture.
    along, down : float
        Pixels per metre of the walls to use, along the street and in height.
    fixed, fraction : int16 array (rows, columns, 2), uint16 array (rows, columns)
        Maps of `cv2.remap` from the rows above `bottom` into a wall that begins at `near` and is
        as high as the highest house.
    bottom : int array (columns,)
        Row where the wall meets the ground.
    """

    near: float
    far: float
    left: int
    right: int
    along: float
    down: float
    fixed: np.ndarray
    fraction: np.ndarray
