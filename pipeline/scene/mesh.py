"""Solid bodies made of flat faces, seen from one side at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.scene.camera import Camera, Floats
from pipeline.scene.light import shade
from pipeline.scene.shapes import Polygons, place

SMALLEST = 0.6  # square pixels; smaller faces are left out, as a lens would blur them away
UNPAINTED = np.array((-1.0, -1.0, -1.0))  # colour of faces that get the colour of the body


@dataclass(frozen=True)
class Mesh:
    """Flat convex faces in the order they are painted.

    Attributes
    ----------
    points : float64 array (n, 3)
        Corners of all faces in metres, one face after the other; x right, y up, z forward.
    ends : int array (m,)
        Where in `points` each face ends.
    normals, centres : float64 array (m, 3)
        Outward unit normal and middle of each face.
    areas : float64 array (m,)
        Square metres.
    colours : float64 array (m, 3)
        BGR; negative where the body colour goes.
    lit : float64 array (m,)
        How far light and shade act on the colour, 0 to 1.
    """

    points: Floats
    ends: np.ndarray
    normals: Floats
    centres: Floats
    areas: Floats
    colours: Floats
    lit: Floats

    def painted(self, body: tuple[float, float, float], heading: float) -> Floats:
        """Return the colours (m, 3) with a body colour, in the light at a heading."""
        own = self.colours[:, :1] < 0
        brightness = shade(place(self.normals, 0, 0, heading))
        factor = 1 + self.lit * (brightness - 1)
        return np.clip(np.where(own, body, self.colours) * factor[:, None], 0, 255)

    def polygons(
        self, camera: Camera, x: float, z: float, heading: float, colours: Floats
    ) -> Polygons:
        """Return the faces turned to the camera of a mesh that stands at x, z."""
        centres = place(self.centres, x, z, heading)
        sight = centres - np.array((0.0, camera.eye, 0.0))
        distance = np.linalg.norm(sight, axis=1)
        facing = -np.einsum("ij,ij->i", place(self.normals, 0, 0, heading), sight) / distance
        pixels = self.areas * facing * (camera.focal / distance) ** 2
        seen = (facing > 0.01) & (pixels > SMALLEST)
        lengths = np.diff(self.ends, prepend=0)
        points = place(self.points[np.repeat(seen, lengths)], x, z, heading)
        return Polygons(camera.project(points), np.cumsum(lengths[seen]), colours[seen])


class Modeller:
    """Collects faces; whatever is added on the right appears on the left, too, if asked."""

    def __init__(self, middle: tuple[float, float, float]) -> None:
        self._middle = np.array(middle)  # a point inside: faces look away from it
        self._faces: list[tuple[Floats, Floats, float]] = []

    def face(
        self,
        points: list[tuple[float, float, float]] | Floats,
        colour: tuple[float, float, float] | Floats = UNPAINTED,
        lit: float = 1.0,
        *,
        mirror: bool = False,
    ) -> None:
        """Add a convex face by its corners, in either sense of rotation."""
        corners = np.array(points, np.float64)
        self._faces.append((corners, np.array(colour, np.float64), lit))
        if mirror:
            self._faces.append((corners * (-1, 1, 1), np.array(colour, np.float64), lit))

    def mesh(self) -> Mesh:
        """Return everything that was added."""
        normals, centres, areas = [], [], []
        for corners, _, _ in self._faces:
            across = np.cross(corners - corners[0], np.roll(corners, -1, axis=0) - corners[0])
            normal = across.sum(axis=0)
            area = np.linalg.norm(normal) / 2
            centre = corners.mean(axis=0)
            outward = np.sign(normal @ (centre - self._middle)) or 1.0
            normals.append(outward * normal / (2 * area))
            centres.append(centre)
            areas.append(area)
        return Mesh(
            np.concatenate([corners for corners, _, _ in self._faces]),
            np.cumsum([len(corners) for corners, _, _ in self._faces]),
            np.array(normals),
            np.array(centres),
            np.array(areas),
            np.array([colour for _, colour, _ in self._faces]),
            np.array([lit for _, _, lit in self._faces]),
        )


def inset(quad: Floats, u: tuple[float, float], v: tuple[float, float]) -> Floats:
    """Return a part of a face: u runs from corner 0 to 1, v from that edge to the far one."""
    corners = []
    for a, b in ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])):
        near = quad[0] + a * (quad[1] - quad[0])
        far = quad[3] + a * (quad[2] - quad[3])
        corners.append(near + b * (far - near))
    return np.array(corners)
