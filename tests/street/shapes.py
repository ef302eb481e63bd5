"""Coloured convex polygons in the picture, and rods in space, of which people consist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.street.camera import NEAR, Camera, Floats
from tests.street.light import HAZE, VISIBILITY

Ints = NDArray[np.int64]
SHIFT = 4  # OpenCV gets corners in units of 1/16 pixel
FARTHEST = 400_000.0  # pixels; corners are limited to this, or OpenCV's numbers would overflow
ROUND = np.linspace(-np.pi / 2, np.pi / 2, 5)  # angles of the corners of half a circle
THINNEST, SUNNY = 0.3, 2.0  # radius in pixels of rods that are drawn, and that have a sunny side


@dataclass(frozen=True)
class Polygons:
    """Convex polygons in the picture, in the order of painting.

    Attributes
    ----------
    points : float64 array (n, 2)
        Corners of all polygons in pixels, one polygon after the other.
    ends : int array (m,)
        End of each polygon in `points`.
    colours : float64 array (m, 3)
        BGR.
    """

    points: Floats
    ends: Ints
    colours: Floats

    def box(self) -> tuple[float, float, float, float]:
        """Return x1, y1, x2, y2 around all polygons, in pixels."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def paint(self, image: NDArray[np.uint8]) -> None:
        """Draw the polygons with smooth edges on an image (height, width, 3)."""
        self._fill(image, self.colours.tolist(), cv2.LINE_AA)

    def stamp(self, labels: NDArray[np.uint8], label: int) -> None:
        """Write a number to all covered pixels of a label map (height, width)."""
        self._fill(labels, [label] * len(self.ends), cv2.LINE_8)

    def _fill(self, image: NDArray[np.uint8], colours: list, line: int) -> None:
        corners = np.rint(np.clip(self.points, -FARTHEST, FARTHEST) * (1 << SHIFT)).astype(np.int32)
        start = 0
        for end, colour in zip(self.ends.tolist(), colours, strict=True):
            cv2.fillConvexPoly(image, corners[start:end], colour, line, SHIFT)
            start = end

    def split(self, owners: Ints, count: int) -> list[Polygons]:
        """Return the polygons of each of `count` owners; `owners` (m,) is sorted."""
        faces = np.searchsorted(owners, np.arange(count + 1))
        corners = np.concatenate(([0], self.ends))[faces]
        return [
            Polygons(
                self.points[corners[i] : corners[i + 1]],
                self.ends[faces[i] : faces[i + 1]] - corners[i],
                self.colours[faces[i] : faces[i + 1]],
            )
            for i in range(count)
        ]


def hazy(colours: Floats, distances: Floats) -> Floats:
    """Return colours (n, 3) as seen from distances (n,) in metres."""
    share = 1 - np.exp(-np.maximum(distances, 0) / VISIBILITY)[:, None]
    seen: Floats = np.minimum(colours * (1 - share) + HAZE * share, 255)
    return seen


@dataclass(frozen=True)
class Rods:
    """Round rods with round ends in space: limbs, heads (of length 0), tubes, posts.

    Attributes
    ----------
    ends : float64 array (2, n, 3)
        Both ends of each rod, in metres.
    radii : float64 array (2, n)
        Radius at either end, in metres.
    colours : float64 array (n, 3)
        BGR.
    """

    ends: Floats
    radii: Floats
    colours: Floats

    @classmethod
    def of(cls, rods: Sequence[tuple]) -> Rods:
        """Return rods from (start, stop, radius at start, radius at stop, colour) records."""
        starts, stops, first, last, colours = (
            np.array(column, np.float64) for column in zip(*rods, strict=True)
        )
        return cls(np.stack((starts, stops)), np.stack((first, last)), colours)

    def placed(self, x: float, z: float, heading: float) -> Rods:
        """Return the rods turned by `heading` radians (0: away from the camera), moved to x, z."""
        cos, sin = np.cos(heading), np.sin(heading)
        turn = np.array(((cos, 0.0, -sin), (0.0, 1.0, 0.0), (sin, 0.0, cos)))
        return Rods(self.ends @ turn + (x, 0.0, z), self.radii, self.colours)


def project_rods(camera: Camera, parts: Sequence[Rods]) -> list[Polygons]:
    """Return the polygons that the camera sees of objects made of rods.

    One computation for all objects is faster, because many small arrays are slow. The far rods of
    each object come first. Every rod has a dark side; thick rods also have a sunny side.
    """
    if not parts:
        return []
    ends = np.concatenate([part.ends for part in parts], axis=1)
    owners = np.repeat(np.arange(len(parts)), [len(part.colours) for part in parts])
    radii = np.concatenate([part.radii for part in parts], axis=1)
    scale = camera.focal / np.maximum(ends[..., 2], NEAR)
    depth = ends[..., 2].sum(axis=0) / 2
    thick = (radii * scale).max(axis=0) > THINNEST
    order = np.lexsort((-depth, owners))
    order = order[thick[order]]
    ends, owners, depth = ends[:, order], owners[order], depth[order]
    radii = radii[:, order] * scale[:, order]
    colours = hazy(np.concatenate([part.colours for part in parts])[order], depth)

    middles = camera.project(ends)
    along = middles[1] - middles[0]
    angle = np.arctan2(along[:, 1], along[:, 0])
    shift = radii[..., None] * np.array((0.28, -0.18))  # towards the sun
    outlines = np.stack(
        (_outline(middles, radii, angle), _outline(middles + shift, 0.62 * radii, angle)), axis=1
    )
    sunny = radii.max(axis=0) > SUNNY
    drawn = np.stack((np.ones_like(sunny), sunny), axis=1)
    tones = np.stack((colours * np.where(sunny, 0.55, 0.85)[:, None], 1.2 * colours), axis=1)
    points = outlines[drawn]
    polygons = Polygons(
        points.reshape(-1, 2),
        np.arange(1, len(points) + 1) * points.shape[1],
        np.minimum(tones[drawn], 255),
    )
    return polygons.split(np.repeat(owners, 1 + sunny), len(parts))


def _outline(middles: Floats, radii: Floats, angle: Floats) -> Floats:
    """Return the outlines (n, 10, 2) of rods with ends (2, n, 2) and radii (2, n) in pixels."""
    cos, sin = np.cos(angle[:, None] + ROUND), np.sin(angle[:, None] + ROUND)
    outline = np.empty((len(angle), 2 * len(ROUND), 2))
    for half, side, sign in ((slice(None, len(ROUND)), 1, 1.0), (slice(len(ROUND), None), 0, -1.0)):
        reach = sign * radii[side][:, None]
        outline[:, half, 0] = middles[side, :, :1] + reach * cos
        outline[:, half, 1] = middles[side, :, 1:] + reach * sin
    return outline
