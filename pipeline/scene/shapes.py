"""Coloured convex polygons: what cars, people and posts are drawn with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.frame import Image
from pipeline.scene.camera import NEAR, Camera, Floats
from pipeline.scene.light import HAZE, haze

SHIFT = 4  # corners are given to OpenCV in 1/16 pixel
FARTHEST = 30000.0  # pixels outside the picture at which a corner is cut off
ROUND = np.linspace(-np.pi / 2, np.pi / 2, 6)  # directions of the corners of half a circle


@dataclass(frozen=True)
class Polygons:
    """Convex polygons in the picture, in the order they are painted.

    Attributes
    ----------
    points : float64 array (n, 2)
        Corners of all polygons in pixels, one polygon after the other.
    ends : int array (m,)
        Where in `points` each polygon ends.
    colours : float64 array (m, 3)
        BGR.
    """

    points: Floats
    ends: np.ndarray
    colours: Floats

    def at_distance(self, distance: float) -> Polygons:
        """Return the polygons with the haze of a distance in metres in their colours."""
        share = haze(distance)
        return Polygons(self.points, self.ends, self.colours * (1 - share) + HAZE * share)

    def box(self) -> tuple[float, float, float, float]:
        """Return x1, y1, x2, y2 around everything, in pixels."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def paint(self, image: Image) -> None:
        """Draw with smooth edges."""
        self._fill(image, self.colours.tolist(), cv2.LINE_AA)

    def stamp(self, labels: np.ndarray, label: int) -> None:
        """Fill the covered pixels of a label map (height, width) with a number."""
        self._fill(labels, [label] * len(self.ends), cv2.LINE_8)

    def _fill(self, image: np.ndarray, colours: list, line: int) -> None:
        bounded = np.clip(self.points, -FARTHEST, FARTHEST)
        corners = np.rint(bounded * (1 << SHIFT)).astype(np.int32)
        start = 0
        for end, colour in zip(self.ends.tolist(), colours, strict=True):
            cv2.fillConvexPoly(image, corners[start:end], colour, line, SHIFT)
            start = end


@dataclass(frozen=True)
class Rods:
    """Round sticks with round ends in space: limbs, heads (no length), tubes, posts.

    Attributes
    ----------
    starts, stops : float64 array (n, 3)
        The two ends of each.
    radii : float64 array (n, 2)
        Radius at either end in metres.
    colours : float64 array (n, 3)
        BGR.
    """

    starts: Floats
    stops: Floats
    radii: Floats
    colours: Floats

    @classmethod
    def of(cls, rods: list[tuple]) -> Rods:
        """Collect (start, stop, radius at start, radius at stop, colour) records."""
        starts, stops, first, last, colours = (
            np.array(column, np.float64) for column in zip(*rods, strict=True)
        )
        return cls(starts, stops, np.stack((first, last), axis=1), colours)

    def placed(self, x: float, z: float, heading: float) -> Rods:
        """Turn by `heading` radians (0 looks away from the camera) and move to x, z."""
        return Rods(
            place(self.starts, x, z, heading),
            place(self.stops, x, z, heading),
            self.radii,
            self.colours,
        )

    def polygons(self, camera: Camera) -> Polygons:
        """Return what the camera sees, far rods first; each has a dark and a sunny side."""
        order = np.argsort(-(self.starts[:, 2] + self.stops[:, 2]), kind="stable")
        ends3 = np.stack((self.starts[order], self.stops[order]))
        ends2 = camera.project(ends3)
        radii = self.radii[order].T * camera.focal / np.maximum(ends3[..., 2], NEAR)
        along = ends2[1] - ends2[0]
        angle = np.arctan2(along[:, 1], along[:, 0])
        dark = _outline(ends2, radii, angle)
        shift = radii[..., None] * np.array((0.28, -0.18))  # towards the sun
        sunny = _outline(ends2 + shift, 0.62 * radii, angle)
        points = np.stack((dark, sunny), axis=1)
        colours = np.stack((0.74 * self.colours[order], 1.12 * self.colours[order]), axis=1)
        count, corners = 2 * len(angle), dark.shape[1]
        return Polygons(
            points.reshape(-1, 2),
            np.arange(1, count + 1) * corners,
            np.minimum(colours.reshape(-1, 3), 255),
        )


def _outline(ends: Floats, radii: Floats, angle: Floats) -> Floats:
    """Return the outlines (n, 12, 2) of rods with ends (2, n, 2), radii (2, n) in pixels."""
    halves = []
    for side, turn in ((1, 0.0), (0, np.pi)):
        directions = angle[:, None] + turn + ROUND
        circle = np.stack((np.cos(directions), np.sin(directions)), axis=-1)
        halves.append(ends[side][:, None] + radii[side][:, None, None] * circle)
    return np.concatenate(halves, axis=1)


def place(points: Floats, x: float, z: float, heading: float) -> Floats:
    """Turn points (n, 3) by `heading` radians about the upright and move them to x, z."""
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack(
        (
            cos * points[:, 0] + sin * points[:, 2] + x,
            points[:, 1],
            cos * points[:, 2] - sin * points[:, 0] + z,
        ),
        axis=1,
    )
