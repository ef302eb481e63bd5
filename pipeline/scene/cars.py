"""Cars: five bodies built from side views, in any colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.scene.camera import Camera, Floats
from pipeline.scene.mesh import Mesh, Modeller, inset
from pipeline.scene.shapes import Polygons

GLASS, GLASS_LIGHT = (44.0, 38.0, 34.0), (104.0, 94.0, 84.0)
RUBBER, TRIM, SEAM = (26.0, 26.0, 27.0), (42.0, 42.0, 43.0), (30.0, 30.0, 32.0)
RIM, CHROME, PLATE = (176.0, 176.0, 172.0), (200.0, 200.0, 198.0), (228.0, 232.0, 232.0)
RED, RED_LIGHT, AMBER = (32.0, 26.0, 168.0), (70.0, 64.0, 232.0), (40.0, 130.0, 225.0)
LAMP, LAMP_LIGHT = (190.0, 184.0, 176.0), (250.0, 250.0, 246.0)
CIRCLE = np.linspace(0, 2 * np.pi, 14, endpoint=False)

PAINTS = (
    (238.0, 238.0, 238.0),  # white
    (186.0, 186.0, 184.0),  # silver
    (190.0, 192.0, 194.0),
    (52.0, 50.0, 48.0),  # black
    (60.0, 56.0, 54.0),
    (112.0, 108.0, 104.0),  # grey
    (128.0, 74.0, 44.0),  # blue
    (100.0, 56.0, 36.0),
    (46.0, 42.0, 172.0),  # red
    (70.0, 88.0, 52.0),  # green
    (150.0, 178.0, 190.0),  # beige
)


@dataclass(frozen=True)
class Body:
    """A car in a few lengths, in metres; z counts from the middle, the front is positive.

    `deck` is the line from the tail over the windows' lower edge to the nose as (z, height) and
    `cabin` the z of: lower rear edge, upper rear edge, upper front edge, lower front edge.
    """

    length: float
    width: float
    height: float
    deck: tuple[tuple[float, float], ...]
    cabin: tuple[float, float, float, float]
    axles: tuple[float, float]
    wheel: float = 0.32


BODIES = (
    # hatchback
    Body(4.05, 1.76, 1.47, ((-2.02, 0.92), (-1.6, 0.97), (0.75, 0.93), (1.55, 0.84), (2.02, 0.66)),
         (-1.93, -1.5, 0.05, 0.92), (-1.27, 1.25)),
    # saloon
    Body(4.65, 1.80, 1.44, ((-2.32, 0.93), (-1.6, 0.98), (0.85, 0.92), (1.75, 0.82), (2.32, 0.64)),
         (-1.72, -1.0, 0.15, 1.02), (-1.4, 1.42)),
    # estate
    Body(4.70, 1.82, 1.48, ((-2.35, 0.94), (-1.8, 0.97), (0.85, 0.93), (1.75, 0.83), (2.35, 0.65)),
         (-2.24, -1.95, 0.12, 1.0), (-1.4, 1.44)),
    # off-roader
    Body(4.45, 1.88, 1.68, ((-2.22, 1.04), (-1.7, 1.08), (0.8, 1.05), (1.7, 0.98), (2.22, 0.78)),
         (-2.12, -1.82, 0.1, 0.85), (-1.34, 1.34), 0.37),
    # van
    Body(4.60, 1.86, 1.92, ((-2.30, 1.02), (-1.8, 1.04), (1.2, 1.0), (1.85, 0.92), (2.30, 0.72)),
         (-2.27, -2.14, 0.7, 1.55), (-1.42, 1.5), 0.34),
)  # fmt: skip


def _lower(model: Modeller, body: Body) -> None:
    """Add the shell from the sill to the windows, as slices along the car."""
    half = body.width / 2
    tail, nose = body.deck[0][0], body.deck[-1][0]
    stations = sorted({*np.linspace(tail + 0.14, nose - 0.18, 5), *(z for z, _ in body.deck)})
    heights = np.interp(stations, *zip(*body.deck, strict=True))
    ends = np.minimum(np.array(stations) - tail, nose - np.array(stations))
    halves = half * (1 - 0.13 * np.exp(-ends / 0.11))
    slices = []
    for z, deck, side in zip(stations, heights, halves, strict=True):
        low = 0.25 + 0.1 * np.exp(-min(z - tail, nose - z) / 0.3)
        slices.append(
            [
                (0.93 * side, low, z),
                (side, 0.30 * deck + 0.18, z),
                (side, 0.62 * deck + 0.06, z),
                (0.965 * side, deck - 0.11, z),
                (0.90 * side, deck, z),
                (0.0, deck + 0.025, z),
            ]
        )
    for back, front in zip(slices, slices[1:], strict=False):
        for a, b, c, d in zip(back, front, back[1:], front[1:], strict=False):
            model.face([a, b, d, c], mirror=True)
    for end in (slices[0], slices[-1]):
        for a, b in zip(end, end[1:-1], strict=False):
            model.face([a, b, (0.0, b[1], b[2]), (0.0, a[1], a[2])], mirror=True)
        model.face([end[-2], end[-1], (-end[-2][0], *end[-2][1:])])


def _wheels(model: Modeller, body: Body) -> None:
    """Add wheels and what else is on the sides."""
    half, radius = body.width / 2, body.wheel
    for z in body.axles:
        for scale, colour, out in (
            (1.18, TRIM, 0.004), (1.0, RUBBER, 0.008), (0.66, RIM, 0.012), (0.5, TRIM, 0.014),
            (0.46, RIM, 0.016), (0.14, TRIM, 0.018),
        ):  # fmt: skip
            ring = scale * radius
            height = radius if scale <= 1 else radius + 0.03
            points = np.stack(
                (
                    np.full_like(CIRCLE, half + out),
                    height + ring * np.sin(CIRCLE),
                    z + ring * np.cos(CIRCLE),
                ),
                axis=1,
            )
            model.face(points, colour, 0.5, mirror=True)
    rear, front = body.axles
    out, belt = half + 0.004, np.interp(0, *zip(*body.deck, strict=True))
    sill = [(out, 0.24, rear + 0.4), (out, 0.24, front - 0.4),
            (out, 0.33, front - 0.4), (out, 0.33, rear + 0.4)]  # fmt: skip
    model.face(sill, TRIM, 0.6, mirror=True)
    for z in (body.cabin[3] - 0.22, 0.0 if body.length > 4.2 else -0.25, rear + 0.3):
        seam = [(out, 0.34, z), (out, 0.34, z + 0.018),
                (0.97 * out, belt - 0.1, z + 0.018), (0.97 * out, belt - 0.1, z)]  # fmt: skip
        model.face(seam, SEAM, mirror=True)
        handle = [(out, belt - 0.2, z + 0.06), (out, belt - 0.2, z + 0.24),
                  (out, belt - 0.165, z + 0.24), (out, belt - 0.165, z + 0.06)]  # fmt: skip
        model.face(handle, TRIM, mirror=True)


def _ends(model: Modeller, body: Body) -> None:
    """Add lamps, plates, bumpers and grille."""
    edge = 0.87 * body.width / 2

    def patch(
        z: float, x: tuple[float, float], y: tuple[float, float],
        colour: tuple[float, float, float], lit: float = 0.6, mirror: bool = False,
    ) -> None:  # fmt: skip
        corners = [(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)]
        model.face(corners, colour, lit, mirror=mirror)

    back, top = -body.length / 2 - 0.01, body.deck[0][1]
    patch(back, (-edge, edge), (0.26, 0.40), TRIM)
    patch(back, (-edge, edge), (0.545, 0.56), SEAM)
    patch(back, (-0.62 * edge, 0.62 * edge), (top - 0.07, top - 0.055), SEAM)
    for x in (0.58 * edge, 0.66 * edge):
        patch(back, (x, x + 0.015), (0.56, top - 0.06), SEAM, mirror=True)
    patch(back, (0.68 * edge, 1.02 * edge), (top - 0.30, top - 0.03), RED, mirror=True)
    patch(back, (0.74 * edge, 0.97 * edge), (top - 0.15, top - 0.06), RED_LIGHT, mirror=True)
    patch(back, (0.74 * edge, 0.97 * edge), (top - 0.21, top - 0.165), AMBER, mirror=True)
    patch(back, (0.74 * edge, 0.97 * edge), (top - 0.28, top - 0.225), LAMP, mirror=True)
    patch(back, (-0.28, 0.28), (0.585, 0.715), SEAM)
    patch(back, (-0.26, 0.26), (0.595, 0.705), PLATE)
    patch(back, (-0.26, -0.225), (0.595, 0.705), (150.0, 60.0, 20.0))
    for x in (-0.17, -0.08, 0.03, 0.09, 0.15):
        patch(back, (x, x + 0.035), (0.615, 0.685), SEAM)
    patch(back, (-0.05, 0.05), (top - 0.17, top - 0.10), CHROME)
    patch(back, (0.55 * edge, 0.68 * edge), (0.24, 0.29), CHROME)

    front, nose = body.length / 2 + 0.01, body.deck[-1][1]
    patch(front, (-0.8 * edge, 0.8 * edge), (0.24, 0.40), TRIM)
    patch(front, (-0.52 * edge, 0.52 * edge), (nose - 0.15, nose - 0.02), TRIM)
    patch(front, (-0.5 * edge, 0.5 * edge), (nose - 0.09, nose - 0.075), CHROME)
    patch(front, (-0.06, 0.06), (nose - 0.13, nose - 0.03), CHROME)
    patch(front, (0.58 * edge, 1.0 * edge), (nose - 0.17, nose - 0.01), SEAM, mirror=True)
    patch(front, (0.60 * edge, 0.98 * edge), (nose - 0.16, nose - 0.02), LAMP, mirror=True)
    patch(front, (0.66 * edge, 0.84 * edge), (nose - 0.14, nose - 0.04), LAMP_LIGHT, mirror=True)
    patch(front, (0.70 * edge, 0.86 * edge), (0.30, 0.37), LAMP, mirror=True)
    patch(front, (-0.27, 0.27), (0.395, 0.525), SEAM)
    patch(front, (-0.26, 0.26), (0.405, 0.515), PLATE)
    for x in (-0.17, -0.08, 0.03, 0.09, 0.15):
        patch(front, (x, x + 0.035), (0.425, 0.495), SEAM)


def _cabin(model: Modeller, body: Body) -> None:
    """Add the windows, the pillars between them, the roof and the mirrors."""
    low_back, high_back, high_front, low_front = body.cabin
    foot, roof = 0.87 * body.width / 2, 0.66 * body.width / 2
    if body.height > 1.6:
        roof = 0.74 * body.width / 2
    line = tuple(zip(*body.deck, strict=True))
    back_y, front_y = np.interp((low_back, low_front), *line)
    top = body.height - 0.05

    def window(quad: Floats, u: tuple[float, float], v: tuple[float, float], seats: bool) -> None:
        model.face(inset(quad, u, v), GLASS, 0.2)
        if seats:
            middle = (u[0] + u[1]) / 2
            for a in (-0.24, 0.12):
                model.face(inset(quad, (middle + a, middle + a + 0.13), (v[0], 0.5)), (66., 62., 60.), 0.2)  # noqa: E501
        mirror_v = (v[0] + 0.62 * (v[1] - v[0]), v[1] - 0.02)
        model.face(inset(quad, u, mirror_v), GLASS_LIGHT, 0.2)

    rear = np.array([(-foot, back_y, low_back), (foot, back_y, low_back),
                     (roof, top, high_back), (-roof, top, high_back)])  # fmt: skip
    screen = np.array([(-foot, front_y, low_front), (foot, front_y, low_front),
                       (roof, top, high_front), (-roof, top, high_front)])  # fmt: skip
    side = np.array([(foot, back_y, low_back), (foot, front_y, low_front),
                     (roof, top, high_front), (roof, top, high_back)])  # fmt: skip
    for quad in (rear, screen, side, side * (-1, 1, 1)):
        model.face(quad)
    window(rear, (0.07, 0.93), (0.12, 0.9), True)
    window(screen, (0.05, 0.95), (0.04, 0.93), True)
    for quad in (side, side * (-1, 1, 1)):
        for u in ((0.07, 0.27), (0.30, 0.56), (0.59, 0.90)):
            window(quad, u, (0.1, 0.88), False)
    crown = np.array([(0.8 * roof, body.height, high_back + 0.2), (0.8 * roof, body.height, high_front - 0.25)])  # noqa: E501
    a, b = crown
    model.face([(roof, top, high_back), (roof, top, high_front), b, a], mirror=True)
    model.face([(-roof, top, high_back), (roof, top, high_back), a, a * (-1, 1, 1)])
    model.face([(-roof, top, high_front), (roof, top, high_front), b, b * (-1, 1, 1)])
    model.face([a, b, b * (-1, 1, 1), a * (-1, 1, 1)])
    out, z, y = body.width / 2, low_front - 0.35, front_y + 0.02
    for face in (
        [(out - 0.06, y, z), (out + 0.1, y + 0.02, z), (out + 0.1, y + 0.13, z), (out - 0.06, y + 0.13, z)],  # noqa: E501
        [(out - 0.06, y, z + 0.1), (out + 0.1, y + 0.02, z + 0.06), (out + 0.1, y + 0.13, z + 0.06), (out - 0.06, y + 0.13, z + 0.1)],  # noqa: E501
    ):
        model.face(face, mirror=True)


@cache
def car_mesh(kind: int) -> Mesh:
    """Return the faces of one of `BODIES`, standing on the ground with its middle at 0, 0."""
    body = BODIES[kind]
    model = Modeller((0.0, 0.6, 0.0))
    half, tail, nose = 0.86 * body.width / 2, -body.length / 2 + 0.12, body.length / 2 - 0.15
    for z in (tail, nose):  # the dark gap under the bumpers, and the tyres in it
        model.face([(-half, 0.16, z), (half, 0.16, z), (half, 0.5, z), (-half, 0.5, z)], RUBBER)
    for z in (body.axles[0] - body.wheel, body.axles[1] + body.wheel):
        out = body.width / 2 - 0.01
        tyre = [(out - 0.22, 0.0, z), (out, 0.0, z), (out, 0.5, z), (out - 0.22, 0.5, z)]
        model.face(tyre, RUBBER, mirror=True)
    _lower(model, body)
    _wheels(model, body)
    _ends(model, body)
    _cabin(model, body)
    return model.mesh()


class Car:
    """One car: a body, a colour and the way it looks.

    Attributes
    ----------
    length, width, height : float
        Metres.
    """

    name = "car"

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        kind = int(generator.choice(len(BODIES), p=(0.34, 0.24, 0.2, 0.13, 0.09)))
        body = BODIES[kind]
        self.length, self.width, self.height = body.length, body.width, body.height
        paint = PAINTS[int(generator.integers(len(PAINTS)))]
        self._mesh, self._heading = car_mesh(kind), heading
        self._colours = self._mesh.painted(paint, heading)

    def polygons(self, camera: Camera, x: float, z: float, phase: float) -> Polygons:
        """Return what the camera sees of the car at x, z; a car has no phase."""
        del phase
        return self._mesh.polygons(camera, x, z, self._heading, self._colours)
