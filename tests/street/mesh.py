"""Solid bodies made of flat faces; only faces turned to the camera are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.street.camera import Camera, Floats
from tests.street.light import shade
from tests.street.shapes import Ints, Polygons, hazy

# Square pixels; smaller faces are not drawn, because a lens would blur them.
SMALLEST_BODY, SMALLEST_DETAIL = 0.5, 6.0
UNPAINTED = (-1.0, -1.0, -1.0)  # stands for the colour of the body
Point = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """Flat convex faces in the order of painting.

    Attributes
    ----------
    points : float64 array (n, 3)
        Corners of all faces in metres, one face after the other; x right, y up, z forward.
    lengths : int array (m,)
        Number of corners of each face.
    normals, centres : float64 array (m, 3)
        Outward unit normal and middle of each face.
    areas : float64 array (m,)
        Square metres.
    colours : float64 array (m, 3)
        BGR; negative for the body colour.
    lit : float64 array (m,)
        Effect of light and shade on the colour, 0 to 1.
    smallest : float64 array (m,)
        Square pixels that a face must cover to be drawn.
    """

    points: Floats
    lengths: Ints
    normals: Floats
    centres: Floats
    areas: Floats
    colours: Floats
    lit: Floats
    smallest: Floats

    def painted(self, body: Colour) -> Mesh:
        """Return the mesh with a body colour, lit by the sun."""
        colours = np.where(self.colours[:, :1] < 0, body, self.colours)
        factor = 1 + self.lit * (shade(self.normals) - 1)
        return replace(self, colours=np.clip(colours * factor[:, None], 0, 255))

    def turned(self) -> Mesh:
        """Return the mesh turned round to face the camera."""
        round_about = np.array((-1.0, 1.0, -1.0))
        return replace(
            self,
            points=self.points * round_about,
            normals=self.normals * round_about,
            centres=self.centres * round_about,
        )

    def moved(self, x: float, z: float) -> Mesh:
        """Return the mesh moved to x, z."""
        offset = np.array((x, 0.0, z))
        return replace(self, points=self.points + offset, centres=self.centres + offset)


def project_meshes(camera: Camera, parts: Sequence[Mesh]) -> list[Polygons]:
    """Return the faces of all bodies that the camera sees, from one computation for all."""
    if not parts:
        return []
    sight = np.concatenate([part.centres for part in parts])
    depth = sight[:, 2]
    sight = sight - np.array((0.0, camera.eye, 0.0))
    normals = np.concatenate([part.normals for part in parts])
    squared = np.einsum("ij,ij->i", sight, sight)
    facing = -np.einsum("ij,ij->i", normals, sight) / np.sqrt(squared)
    areas = np.concatenate([part.areas for part in parts])
    smallest = np.concatenate([part.smallest for part in parts])
    seen = (facing > 0.01) & (areas * facing * camera.focal**2 > smallest * squared)
    lengths = np.concatenate([part.lengths for part in parts])
    points = np.concatenate([part.points for part in parts])[np.repeat(seen, lengths)]
    colours = np.concatenate([part.colours for part in parts])[seen]
    owners = np.repeat(np.arange(len(parts)), [len(part.lengths) for part in parts])[seen]
    polygons = Polygons(
        camera.project(points), np.cumsum(lengths[seen]), hazy(colours, depth[seen])
    )
    return polygons.split(owners, len(parts))


class Modeller:
    """A collection of faces; with `mirror`, a face on the right is also added on the left."""

    def __init__(self, middle: Point) -> None:
        self._middle = np.array(middle)  # a point inside the body; faces point away from it
        self._faces: list[tuple[Floats, Colour, float]] = []

    def face(
        self,
        points: Sequence[Point] | Floats,
        colour: Colour = UNPAINTED,
        lit: float = 1.0,
        *,
        mirror: bool = False,
    ) -> None:
        """Add a convex face by its corners, clockwise or anticlockwise."""
        corners = np.array(points, np.float64)
        self._faces.append((corners, colour, lit))
        if mirror:
            self._faces.append((corners * (-1, 1, 1), colour, lit))

    def mesh(self) -> Mesh:
        """Return all added faces."""
        normals, centres, areas = [], [], []
        for corners, _, _ in self._faces:
            rays = corners - corners[0]
            normal = np.cross(rays[:-1], rays[1:]).sum(axis=0)
            size = float(np.linalg.norm(normal))
            centre = corners.mean(axis=0)
            outward = 1.0 if normal @ (centre - self._middle) > 0 else -1.0
            normals.append(outward * normal / size)
            centres.append(centre)
            areas.append(size / 2)
        colours = np.array([colour for _, colour, _ in self._faces])
        return Mesh(
            np.concatenate([corners for corners, _, _ in self._faces]),
            np.array([len(corners) for corners, _, _ in self._faces]),
            np.array(normals),
            np.array(centres),
            np.array(areas),
            colours,
            np.array([lit for _, _, lit in self._faces]),
            np.where(colours[:, 0] < 0, SMALLEST_BODY, SMALLEST_DETAIL),
        )


def inset(quad: Floats, u: tuple[float, float], v: tuple[float, float]) -> Floats:
    """Return a part of a face; u runs from corner 0 to 1, v from that edge to the opposite edge."""
    corners = []
    for a, b in ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])):
        near = quad[0] + a * (quad[1] - quad[0])
        far = quad[3] + a * (quad[2] - quad[3])
        corners.append(near + b * (far - near))
    return np.array(corners)
