"""Cars: five bodies built from side views, in any colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from tests.street.camera import Floats
from tests.street.mesh import Colour, Mesh, Modeller, Point, inset

GLASS, GLASS_LIGHT = (44.0, 38.0, 34.0), (104.0, 94.0, 84.0)
SEAT, BLUE = (66.0, 62.0, 60.0), (150.0, 60.0, 20.0)
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
    """The shape of a car, in metres; z counts from the middle and is positive towards the front.

    `deck` is the line from the tail along the lower edge of the windows to the nose, as points
    (z, height). `cabin` has the z of four edges: lower rear, upper rear, upper front, lower front.
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


def _lower(model: Modeller, body: Body, fine: bool) -> None:
    """Add the shell from the sill to the windows, as slices along the car."""
    half = body.width / 2
    tail, nose = body.deck[0][0], body.deck[-1][0]
    bends = {z for z, _ in body.deck}
    stations = sorted(bends | {tail + 0.14, nose - 0.18} if fine else bends)
    slices = []
    decks = np.interp(stations, *np.transpose(body.deck)).tolist()
    for z, deck in zip(stations, decks, strict=True):
        end = min(z - tail, nose - z)
        side = half * (1 - 0.13 * np.exp(-end / 0.11))
        outline = [
            (0.93 * side, 0.25 + 0.1 * np.exp(-end / 0.3), z),
            (side, 0.30 * deck + 0.18, z),
            (side, 0.62 * deck + 0.06, z),
            (0.965 * side, deck - 0.11, z),
            (0.90 * side, deck, z),
            (0.0, deck + 0.025, z),
        ]
        slices.append(outline if fine else [outline[i] for i in (0, 1, 3, 4, 5)])
    for back, front in pairwise(slices):
        for a, b, c, d in zip(back, front, back[1:], front[1:], strict=False):
            model.face([a, b, d, c], mirror=True)
    for last in (slices[0], slices[-1]):
        for a, b in pairwise(last[:-1]):
            model.face([a, b, (-b[0], *b[1:]), (-a[0], *a[1:])])
        edge = last[-2]
        model.face([edge, last[-1], (-edge[0], *edge[1:])])


def _wheels(model: Modeller, body: Body, fine: bool) -> None:
    """Add the wheels and the other parts of the sides."""
    half, radius = body.width / 2, body.wheel
    discs = (
        (1.18, TRIM, 0.004), (1.0, RUBBER, 0.008), (0.66, RIM, 0.012), (0.5, TRIM, 0.014),
        (0.46, RIM, 0.016), (0.14, TRIM, 0.018),
    )  # fmt: skip
    for z in body.axles:
        for scale, colour, out in discs if fine else discs[1:3]:
            ring = scale * radius
            height = radius if scale <= 1 else radius + 0.03
            angles = CIRCLE if fine else CIRCLE[::2]
            across = np.full_like(angles, half + out)
            up, along = height + ring * np.sin(angles), z + ring * np.cos(angles)
            model.face(np.stack((across, up, along), axis=1), colour, 0.5, mirror=True)
    rear, front = body.axles
    out = half + 0.004

    def patch(z: tuple[float, float], y: tuple[float, float], colour: Colour, lit: float) -> None:
        corners = [(out, y[0], z[0]), (out, y[0], z[1]), (out, y[1], z[1]), (out, y[1], z[0])]
        model.face(corners, colour, lit, mirror=True)

    patch((rear + 0.4, front - 0.4), (0.24, 0.33), TRIM, 0.6)
    if fine:
        belt = float(np.interp(0, *np.transpose(body.deck)))
        for z in (body.cabin[3] - 0.22, 0.0 if body.length > 4.2 else -0.25, rear + 0.3):
            patch((z, z + 0.01), (0.34, belt - 0.1), SEAM, 1.0)
            patch((z + 0.06, z + 0.24), (belt - 0.2, belt - 0.17), TRIM, 1.0)


def _ends(model: Modeller, body: Body, fine: bool) -> None:
    """Add lamps, plates, bumpers and grille."""
    edge = 0.87 * body.width / 2
    z = 0.0

    def patch(
        x: tuple[float, float], y: tuple[float, float], colour: Colour, mirror: bool = False
    ) -> None:
        corners = [(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)]
        model.face(corners, colour, 0.6, mirror=mirror)

    def plate(low: float) -> None:
        patch((-0.27, 0.27), (low, low + 0.125), SEAM)
        patch((-0.26, 0.26), (low + 0.01, low + 0.115), PLATE)
        if fine:
            patch((-0.26, -0.225), (low + 0.01, low + 0.115), BLUE)
            for x in (-0.17, -0.08, 0.03, 0.09, 0.15):
                patch((x, x + 0.03), (low + 0.03, low + 0.095), SEAM)

    z, top = -body.length / 2 - 0.01, body.deck[0][1]
    patch((-edge, edge), (0.26, 0.40), TRIM)
    patch((0.68 * edge, 1.02 * edge), (top - 0.30, top - 0.03), RED, True)
    patch((0.74 * edge, 0.97 * edge), (top - 0.15, top - 0.06), RED_LIGHT, True)
    if fine:
        patch((-edge, edge), (0.545, 0.555), SEAM)
        patch((-0.62 * edge, 0.62 * edge), (top - 0.07, top - 0.06), SEAM)
        patch((0.62 * edge, 0.62 * edge + 0.01), (0.56, top - 0.06), SEAM, True)
        patch((0.74 * edge, 0.97 * edge), (top - 0.21, top - 0.165), AMBER, True)
        patch((0.74 * edge, 0.97 * edge), (top - 0.28, top - 0.225), LAMP, True)
        patch((-0.05, 0.05), (top - 0.17, top - 0.10), CHROME)
        patch((0.55 * edge, 0.68 * edge), (0.24, 0.29), CHROME)
    plate(0.585)

    z, nose = body.length / 2 + 0.01, body.deck[-1][1]
    patch((-0.8 * edge, 0.8 * edge), (0.24, 0.40), TRIM)
    patch((-0.52 * edge, 0.52 * edge), (nose - 0.15, nose - 0.02), TRIM)
    patch((0.60 * edge, 0.98 * edge), (nose - 0.16, nose - 0.02), LAMP, True)
    patch((0.66 * edge, 0.84 * edge), (nose - 0.14, nose - 0.04), LAMP_LIGHT, True)
    if fine:
        patch((-0.5 * edge, 0.5 * edge), (nose - 0.09, nose - 0.08), CHROME)
        patch((-0.06, 0.06), (nose - 0.13, nose - 0.03), CHROME)
        patch((0.70 * edge, 0.86 * edge), (0.30, 0.37), LAMP, True)
    plate(0.395)


def _window(
    model: Modeller, quad: Floats, u: tuple[float, float], v: tuple[float, float], seats: bool
) -> None:
    """Add glass to a part of a face, with the sky in its upper third."""
    model.face(inset(quad, u, v), GLASS, 0.2)
    if seats:
        for left in (0.26, 0.61):
            model.face(inset(quad, (left, left + 0.13), (v[0], 0.5)), SEAT, 0.2)
    model.face(inset(quad, u, (v[0] + 0.62 * (v[1] - v[0]), v[1] - 0.02)), GLASS_LIGHT, 0.2)


def _cabin(model: Modeller, body: Body, fine: bool) -> None:
    """Add the windows, the pillars between them, the roof and the mirrors."""
    low_back, high_back, high_front, low_front = body.cabin
    foot, roof = 0.435 * body.width, (0.33 if body.height < 1.6 else 0.37) * body.width
    back_y, front_y = np.interp((low_back, low_front), *np.transpose(body.deck)).tolist()
    top = body.height - 0.05

    rear = np.array(((-foot, back_y, low_back), (foot, back_y, low_back),
                     (roof, top, high_back), (-roof, top, high_back)))  # fmt: skip
    screen = np.array(((-foot, front_y, low_front), (foot, front_y, low_front),
                       (roof, top, high_front), (-roof, top, high_front)))  # fmt: skip
    side = np.array(((foot, back_y, low_back), (foot, front_y, low_front),
                     (roof, top, high_front), (roof, top, high_back)))  # fmt: skip
    for quad in (rear, screen, side, side * (-1, 1, 1)):
        model.face(quad)
    _window(model, rear, (0.07, 0.93), (0.12, 0.9), fine)
    _window(model, screen, (0.05, 0.95), (0.04, 0.93), fine)
    for quad in (side, side * (-1, 1, 1)):
        for u in ((0.07, 0.27), (0.30, 0.56), (0.59, 0.90)) if fine else ((0.1, 0.9),):
            _window(model, quad, u, (0.1, 0.88), False)
    back = np.array((0.8 * roof, body.height, high_back + 0.2))
    front = np.array((0.8 * roof, body.height, high_front - 0.25))
    left = np.array((-1, 1, 1))
    edge = np.array(((roof, top, high_back), (roof, top, high_front)))
    model.face(np.array((*edge, front, back)), mirror=True)
    model.face(np.array((edge[0] * left, edge[0], back, back * left)))
    model.face(np.array((edge[1] * left, edge[1], front, front * left)))
    model.face(np.array((back, front, front * left, back * left)))
    if fine:
        z, y = low_front - 0.35, front_y + 0.02
        inner, outer = body.width / 2 - 0.06, body.width / 2 + 0.1
        for a, b in ((z, z), (z + 0.1, z + 0.06)):
            mirror: list[Point] = [(inner, y, a), (outer, y + 0.02, b)]
            model.face([*mirror, (outer, y + 0.13, b), (inner, y + 0.13, a)], mirror=True)


@cache
def car_mesh(kind: int, fine: bool, turned: bool) -> Mesh:
    """Return one of `BODIES`, with its middle at 0, 0 on the ground; coarse unless `fine`."""
    if turned:
        return car_mesh(kind, fine, False).turned()
    body = BODIES[kind]
    model = Modeller((0.0, 0.6, 0.0))
    half, tail, nose = 0.86 * body.width / 2, -body.length / 2 + 0.12, body.length / 2 - 0.15
    for z in (tail, nose):  # the dark gap under the bumpers
        model.face([(-half, 0.16, z), (half, 0.16, z), (half, 0.5, z), (-half, 0.5, z)], RUBBER)
    for z in (body.axles[0] - body.wheel, body.axles[1] + body.wheel):
        out = body.width / 2 - 0.01
        tyre = [(out - 0.22, 0.0, z), (out, 0.0, z), (out, 0.5, z), (out - 0.22, 0.5, z)]
        model.face(tyre, RUBBER, mirror=True)
    _lower(model, body, fine)
    _wheels(model, body, fine)
    _ends(model, body, fine)
    _cabin(model, body, fine)
    return model.mesh()


class Car:
    """One car; sizes in metres."""

    name = "car"

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        kind = int(generator.choice(len(BODIES), p=(0.34, 0.24, 0.2, 0.13, 0.09)))
        body = BODIES[kind]
        self.length, self.width, self.height = body.length, body.width, body.height
        paint = PAINTS[int(generator.integers(len(PAINTS)))]
        self._meshes = []
        for fine in (False, True):
            self._meshes.append(car_mesh(kind, fine, heading != 0).painted(paint))

    def mesh(self, x: float, z: float, fine: bool) -> Mesh:
        """Return the body at x, z."""
        return self._meshes[fine].moved(x, z)
