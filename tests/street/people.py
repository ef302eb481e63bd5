"""Pedestrians who walk and cyclists who pedal: rods between joints that move.

Both movements are computed once, in `POSES` steps: walking for a person one metre high, cycling for
a bicycle of the usual size. Each person then has a pose, a size and clothes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from tests.street.camera import Floats
from tests.street.mesh import Colour, Point
from tests.street.shapes import Rods

POSES = 48
SKINS: tuple[Colour, ...] = ((142, 172, 224), (118, 150, 206), (84, 112, 164), (56, 78, 118))
HAIRS: tuple[Colour, ...] = ((28, 30, 36), (40, 56, 84), (80, 130, 170), (120, 120, 124))
TOPS: tuple[Colour, ...] = (
    (44, 42, 44), (60, 56, 58), (96, 52, 36), (40, 40, 150), (60, 92, 60), (176, 176, 180),
    (52, 110, 170), (110, 90, 70), (225, 225, 225), (90, 60, 96), (40, 150, 205),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (40, 36, 34), (92, 62, 44), (70, 54, 46), (88, 98, 108), (56, 56, 58),
)  # fmt: skip
BLACK: Colour = (32, 32, 34)
GREY: Colour = (150, 150, 150)
LIGHT: Colour = (48, 40, 205)
CRANK, WHEEL, GEAR = 0.17, 0.34, 2.5  # metres, metres, wheel turns per pedal turn

Rod = tuple[Point, Point, float, float, str]  # two ends, radius at each, name of its colour


@dataclass(frozen=True)
class Motion:
    """The poses of a movement: ends (poses, 2, n, 3), radii (2, n), and each rod's colour name."""

    ends: Floats
    radii: Floats
    roles: tuple[str, ...]

    @classmethod
    def of(cls, poses: list[list[Rod]]) -> Motion:
        """Collect poses that have the same rods in the same order."""
        ends = [[[rod[end] for rod in pose] for end in (0, 1)] for pose in poses]
        radii = [[rod[end] for rod in poses[0]] for end in (2, 3)]
        return cls(np.array(ends, np.float64), np.array(radii), tuple(rod[4] for rod in poses[0]))


def _dress(generator: np.random.Generator) -> dict[str, Colour]:
    """Choose the colours of a person."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        return colours[int(generator.integers(len(colours)))]

    clothes = {"top": pick(TOPS), "trousers": pick(TROUSERS), "skin": pick(SKINS)}
    clothes |= {"hair": pick(HAIRS), "frame": pick(TOPS), "bag": pick(TOPS)}
    clothes["sleeve"] = clothes["skin" if generator.random() < 0.5 else "top"]
    if generator.random() < 0.55:  # no bag: its rod gets the colour of the back
        clothes["bag"] = clothes["top"]
    return clothes | {"black": BLACK, "grey": GREY, "light": LIGHT}


def _below(joint: Point, length: float, angle: float) -> Point:
    """Return the end of a limb that hangs from a joint, swung forward by an angle."""
    return joint[0], joint[1] - length * np.cos(angle), joint[2] + length * np.sin(angle)


def _walker(turn: float, swing: float) -> list[Rod]:
    """Return a person one metre high, `turn` radians into a double step; swing 0: standing."""
    rods: list[Rod] = []
    hip, shoulder, lowest = 0.515, 0.81, 1.0
    for side in (-1.0, 1.0):
        thigh = swing * side * np.sin(turn)
        bend = 0.06 + swing * (0.25 + 1.5 * max(0.0, side * np.cos(turn)) ** 2)
        joint = (side * 0.05, hip - 0.01, 0.0)
        knee = _below(joint, 0.24, thigh + 0.3 * bend)
        ankle = _below(knee, 0.235, thigh - 0.7 * bend)
        toe = (ankle[0] + side * 0.015, ankle[1] - 0.018, ankle[2] + 0.09)
        lowest = min(lowest, ankle[1])
        socket = (side * 0.112, shoulder - 0.012, 0.0)
        elbow = _below(socket, 0.165, -0.85 * thigh)
        hand = _below(elbow, 0.14, -0.85 * thigh + 0.25 + swing * 0.4)
        rods += [
            (ankle, toe, 0.024, 0.02, "black"),
            (joint, knee, 0.054, 0.042, "trousers"),
            (knee, ankle, 0.041, 0.029, "trousers"),
            (socket, elbow, 0.036, 0.03, "top"),
            (elbow, hand, 0.03, 0.023, "sleeve"),
            (hand, hand, 0.024, 0.024, "skin"),
            ((side * 0.038, hip, 0), (side * 0.072, shoulder - 0.02, 0), 0.062, 0.062, "top"),
        ]
    rods += [
        ((0, hip, 0), (0, shoulder, 0), 0.064, 0.06, "top"),
        ((0, shoulder, 0), (0, 0.9, 0.01), 0.036, 0.034, "skin"),
        ((0, 0.922, 0.014), (0, 0.94, 0.01), 0.053, 0.055, "skin"),
        ((0, 0.955, -0.008), (0, 0.925, -0.02), 0.056, 0.05, "hair"),
        ((0, 0.62, -0.085), (0, 0.76, -0.085), 0.072, 0.062, "bag"),
    ]
    up = 0.026 - lowest  # the lower foot stands on the ground
    return [((a[0], a[1] + up, a[2]), (b[0], b[1] + up, b[2]), *rest) for a, b, *rest in rods]  # type: ignore[misc]


def _bend(first: Point, last: Point, upper: float, lower: float, way: float) -> Point:
    """Return the knee or elbow between two joints, bent forward (way 1) or back (-1)."""
    dy, dz = last[1] - first[1], last[2] - first[2]
    distance = min(np.hypot(dy, dz), 0.999 * (upper + lower))
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = way * np.sqrt(max(upper**2 - along**2, 0.0))
    ey, ez = dy / distance, dz / distance
    x = (first[0] + last[0]) / 2
    return x, first[1] + along * ey + aside * ez, first[2] + along * ez - aside * ey


def _bicycle(turn: float) -> list[Rod]:
    """Return a bicycle whose wheels have turned by `turn` radians."""
    rods: list[Rod] = []
    for hub in (-0.53, 0.53):
        rim = [
            (0.0, WHEEL + 0.318 * np.sin(a), hub + 0.318 * np.cos(a))
            for a in np.linspace(0, 2 * np.pi, 15)
        ]
        rods += [(a, b, 0.022, 0.022, "black") for a, b in pairwise(rim)]
        for angle in -turn + np.arange(5) * np.pi / 5:
            up, on = 0.31 * np.sin(angle), 0.31 * np.cos(angle)
            ends = ((0, WHEEL - up, hub - on), (0, WHEEL + up, hub + on))
            rods.append((*ends, 0.0035, 0.0035, "grey"))
    bracket, seat, head = (0, 0.30, -0.06), (0, 0.88, -0.22), (0, 0.86, 0.36)
    rear, front = (0, WHEEL, -0.53), (0, WHEEL, 0.53)
    return [
        *rods,
        (bracket, seat, 0.018, 0.018, "frame"),
        (bracket, (0, 0.78, 0.38), 0.02, 0.02, "frame"),
        (seat, head, 0.017, 0.017, "frame"),
        (bracket, rear, 0.013, 0.013, "frame"),
        ((0, 0.8, -0.2), rear, 0.011, 0.011, "frame"),
        (head, front, 0.016, 0.016, "frame"),
        (head, (0, 1.03, 0.36), 0.014, 0.014, "grey"),
        ((-0.27, 1.05, 0.33), (0.27, 1.05, 0.33), 0.015, 0.015, "black"),
        ((0, 0.90, -0.32), (0, 0.92, -0.1), 0.06, 0.03, "black"),
        ((0, 0.70, -0.60), (0, 0.72, -0.60), 0.03, 0.03, "light"),
        ((0, 0.66, -0.88), (0, 0.71, -0.74), 0.028, 0.03, "black"),
        ((-0.05, 0.71, -0.7), (-0.05, 0.72, -0.25), 0.012, 0.012, "black"),
        ((0.05, 0.71, -0.7), (0.05, 0.72, -0.25), 0.012, 0.012, "black"),
    ]


def _rider(turn: float) -> list[Rod]:
    """Return the rider of a bicycle whose pedals have turned by `turn` radians."""
    rods: list[Rod] = []
    neck = (0.0, 1.46, 0.12)
    for side in (-1.0, 1.0):
        up, on = side * CRANK * np.sin(-turn), side * CRANK * np.cos(turn)
        pedal = (side * 0.11, 0.30 + up, -0.06 + on)
        ankle = (pedal[0], pedal[1] + 0.09, pedal[2] - 0.05)
        hip = (side * 0.095, 0.99, -0.2)
        knee = _bend(hip, ankle, 0.43, 0.42, 1.0)
        socket, hand = (side * 0.18, neck[1] - 0.07, neck[2]), (side * 0.25, 1.07, 0.33)
        elbow = _bend(socket, hand, 0.3, 0.27, -1.0)
        elbow = (side * 0.29, elbow[1], elbow[2])
        flank = ((side * 0.07, 1.0, -0.2), (side * 0.11, neck[1] - 0.09, neck[2] - 0.02))
        rods += [
            (ankle, (pedal[0], pedal[1] + 0.04, pedal[2] + 0.12), 0.045, 0.036, "black"),
            (hip, knee, 0.095, 0.065, "trousers"),
            (knee, ankle, 0.065, 0.042, "trousers"),
            (socket, elbow, 0.06, 0.048, "top"),
            (elbow, hand, 0.046, 0.036, "sleeve"),
            (hand, hand, 0.042, 0.042, "skin"),
            (*flank, 0.1, 0.105, "top"),
        ]
    y, z = neck[1] + 0.17, neck[2] + 0.07
    return [
        *rods,
        ((0, 1.02, -0.21), neck, 0.11, 0.1, "top"),
        (neck, (0, y, z), 0.06, 0.06, "skin"),
        ((0, y, z), (0, y + 0.03, z), 0.09, 0.095, "skin"),
        ((0, y + 0.055, z - 0.03), (0, y + 0.045, z + 0.02), 0.1, 0.1, "hair"),
        (
            (0, neck[1] - 0.36, neck[2] - 0.22),
            (0, neck[1] - 0.14, neck[2] - 0.16),
            0.13,
            0.11,
            "bag",
        ),
    ]


@cache
def _walking() -> Motion:
    turns = np.arange(POSES) * 2 * np.pi / POSES
    return Motion.of([_walker(0.0, 0.0), *(_walker(turn, 0.46) for turn in turns)])


@cache
def _cycling() -> Motion:
    turns = np.arange(POSES) * 2 * np.pi / POSES
    return Motion.of([_bicycle(turn * GEAR) + _rider(turn) for turn in turns])


class Pedestrian:
    """A person on foot; `length` is in the direction of walking, all sizes are in metres."""

    name = "pedestrian"
    length, width = 0.5, 0.55

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        self.height = float(generator.uniform(1.56, 1.88))
        self._heading = heading
        self._start = float(generator.uniform(0, POSES))
        clothes = _dress(generator)
        self._colours = np.array([clothes[role] for role in _walking().roles], np.float64)

    def rods(self, x: float, z: float, phase: float) -> Rods:
        """Return the body at x, z after `phase` metres walked; 0: standing."""
        motion = _walking()
        pose = 0
        if phase:  # a double step is 0.78 of the height
            pose = 1 + int(self._start + POSES * phase / (0.78 * self.height)) % POSES
        body = Rods(self.height * motion.ends[pose], self.height * motion.radii, self._colours)
        return body.placed(x, z, self._heading)


class Cyclist:
    """A person on a bicycle; sizes in metres."""

    name = "cyclist"
    length, width, height = 1.75, 0.6, 1.78

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        self._heading = heading
        self._start = float(generator.uniform(0, POSES))
        clothes = _dress(generator)
        if generator.random() < 0.5:  # a helmet
            clothes["hair"] = clothes["frame"]
        self._colours = np.array([clothes[role] for role in _cycling().roles], np.float64)

    def rods(self, x: float, z: float, phase: float) -> Rods:
        """Return body and bicycle at x, z after `phase` metres ridden."""
        motion = _cycling()
        pose = int(self._start + POSES * phase / (2 * np.pi * WHEEL * GEAR)) % POSES
        return Rods(motion.ends[pose], motion.radii, self._colours).placed(x, z, self._heading)
