"""Pedestrians who walk and cyclists who pedal: rods between joints that move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.scene.camera import Camera
from pipeline.scene.shapes import Polygons, Rods

Point = tuple[float, float, float]
Colour = tuple[float, float, float]
SKINS: tuple[Colour, ...] = ((142, 172, 224), (118, 150, 206), (84, 112, 164), (56, 78, 118))
HAIRS: tuple[Colour, ...] = ((28, 30, 36), (40, 56, 84), (80, 130, 170), (120, 120, 124))
TOPS: tuple[Colour, ...] = (
    (44, 42, 44), (60, 56, 58), (96, 52, 36), (40, 40, 150), (60, 92, 60), (176, 176, 180),
    (52, 110, 170), (110, 90, 70), (225, 225, 225), (90, 60, 96), (40, 150, 205),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((40, 36, 34), (92, 62, 44), (70, 54, 46), (88, 98, 108), (56, 56, 58))  # noqa: E501
BLACK, GREY, TYRE = (30.0, 30.0, 32.0), (150.0, 150.0, 150.0), (34.0, 34.0, 36.0)
TURN = np.linspace(0, 2 * np.pi, 15)


@dataclass(frozen=True)
class Look:
    """What somebody wears."""

    top: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    bag: Colour | None
    accent: Colour  # helmet, frame of the bicycle

    @classmethod
    def of(cls, generator: np.random.Generator) -> Look:
        """Dress somebody at random."""

        def pick(colours: tuple[Colour, ...]) -> Colour:
            return colours[int(generator.integers(len(colours)))]

        bag = pick(TOPS) if generator.random() < 0.4 else None
        return cls(pick(TOPS), pick(TROUSERS), pick(SKINS), pick(HAIRS), bag, pick(TOPS))


def _below(joint: Point, length: float, angle: float) -> Point:
    """Return the end of a limb that hangs from a joint, swung forward by an angle."""
    return joint[0], joint[1] - length * np.cos(angle), joint[2] + length * np.sin(angle)


def _bend(first: Point, last: Point, upper: float, lower: float, way: float) -> Point:
    """Return the knee or elbow between two joints, bent forward (way 1) or back (-1)."""
    dy, dz = last[1] - first[1], last[2] - first[2]
    distance = min(np.hypot(dy, dz), 0.999 * (upper + lower))
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = way * np.sqrt(max(upper**2 - along**2, 0.0))
    ey, ez = dy / distance, dz / distance
    x = (first[0] + last[0]) / 2
    return x, first[1] + along * ey + aside * ez, first[2] + along * ez - aside * ey


class Pedestrian:
    """Somebody on foot.

    Attributes
    ----------
    length, width, height : float
        Metres; length is measured the way they walk.
    """

    name = "pedestrian"
    length, width = 0.5, 0.55

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        self.height = float(generator.uniform(1.56, 1.88))
        self._heading, self._look = heading, Look.of(generator)
        self._pace = 0.78 * self.height  # metres a double step takes
        self._start = float(generator.uniform(0, 2 * np.pi))

    def polygons(self, camera: Camera, x: float, z: float, phase: float) -> Polygons:
        """Return what the camera sees at x, z after `phase` metres walked (0: stands)."""
        step = self._start + 2 * np.pi * phase / self._pace if phase else None
        return self._rods(step).placed(x, z, self._heading).polygons(camera)

    def _rods(self, step: float | None) -> Rods:
        h, look = self.height, self._look
        swing = 0.0 if step is None else 0.46
        turn = 0.0 if step is None else step
        rods: list[tuple] = []
        hip, shoulder = 0.515 * h, 0.81 * h
        lowest = h
        for side in (-1.0, 1.0):
            sine, cosine = side * np.sin(turn), side * np.cos(turn)
            thigh = swing * sine
            bend = 0.06 + swing * (0.25 + 1.5 * max(0.0, cosine) ** 2)
            joint = (side * 0.05 * h, hip, 0.0)
            knee = _below(joint, 0.245 * h, thigh + 0.3 * bend)
            ankle = _below(knee, 0.235 * h, thigh - 0.7 * bend)
            toe = (ankle[0] + side * 0.015 * h, ankle[1] - 0.018 * h, ankle[2] + 0.09 * h)
            lowest = min(lowest, ankle[1])
            rods += [
                (ankle, toe, 0.024 * h, 0.02 * h, BLACK),
                (joint, knee, 0.056 * h, 0.042 * h, look.trousers),
                (knee, ankle, 0.042 * h, 0.029 * h, look.trousers),
            ]
            socket = (side * 0.112 * h, shoulder - 0.012 * h, 0.0)
            elbow = _below(socket, 0.165 * h, -0.85 * thigh)
            hand = _below(elbow, 0.14 * h, -0.85 * thigh + 0.25 + swing * 0.4)
            rods += [
                (socket, elbow, 0.036 * h, 0.03 * h, look.top),
                (elbow, hand, 0.03 * h, 0.023 * h, look.top),
                (hand, hand, 0.024 * h, 0.024 * h, look.skin),
                ((side * 0.04 * h, hip + 0.01 * h, 0), (side * 0.072 * h, shoulder - 0.02 * h, 0),
                 0.054 * h, 0.062 * h, look.top),
            ]  # fmt: skip
        rods += [
            ((0, hip + 0.02 * h, 0), (0, shoulder, 0), 0.06 * h, 0.06 * h, look.top),
            ((0, shoulder, 0), (0, 0.9 * h, 0.01 * h), 0.036 * h, 0.034 * h, look.skin),
            ((0, 0.922 * h, 0.014 * h), (0, 0.94 * h, 0.01 * h), 0.053 * h, 0.055 * h, look.skin),
            ((0, 0.955 * h, -0.008 * h), (0, 0.925 * h, -0.02 * h), 0.056 * h, 0.05 * h, look.hair),
        ]
        if look.bag is not None:
            back = -0.085 * h
            rods.append(((0, 0.62 * h, back), (0, 0.76 * h, back), 0.075 * h, 0.065 * h, look.bag))
        lift = np.array((0.0, 0.03 * h - lowest, 0.0))
        drawn = Rods.of(rods)
        return Rods(drawn.starts + lift, drawn.stops + lift, drawn.radii, drawn.colours)


class Cyclist:
    """Somebody on a bicycle.

    Attributes
    ----------
    length, width, height : float
        Metres.
    """

    name = "cyclist"
    length, width, height = 1.75, 0.6, 1.78

    def __init__(self, generator: np.random.Generator, heading: float) -> None:
        self._heading, self._look = heading, Look.of(generator)
        self._start = float(generator.uniform(0, 2 * np.pi))
        self._helmet = generator.random() < 0.5
        self._lean = float(generator.uniform(0.0, 0.22))  # metres the shoulders are ahead

    def polygons(self, camera: Camera, x: float, z: float, phase: float) -> Polygons:
        """Return what the camera sees at x, z after `phase` metres ridden."""
        rods = [*self._bicycle(phase), *self._rider(self._start + phase * 1.1)]
        return Rods.of(rods).placed(x, z, self._heading).polygons(camera)

    def _bicycle(self, phase: float) -> list[tuple]:
        frame = self._look.accent
        rods: list[tuple] = []
        for hub in (-0.53, 0.53):
            y, z = 0.34 + 0.325 * np.sin(TURN), hub + 0.325 * np.cos(TURN)
            rim = [(0.0, float(a), float(b)) for a, b in zip(y, z, strict=True)]
            rods += [(a, b, 0.022, 0.022, TYRE) for a, b in zip(rim, rim[1:], strict=False)]
            for spoke in phase / 0.34 + np.arange(6) * np.pi / 6:
                up, on = 0.31 * np.sin(spoke), 0.31 * np.cos(-spoke)
                rods.append(((0, 0.34 - up, hub - on), (0, 0.34 + up, hub + on), 0.003, 0.003, GREY))
        bracket, seat, head = (0, 0.30, -0.06), (0, 0.88, -0.22), (0, 0.86, 0.36)
        for a, b, r in (
            (bracket, seat, 0.018), (bracket, (0, 0.78, 0.38), 0.02), (seat, head, 0.017),
            (bracket, (0, 0.34, -0.53), 0.013), ((0, 0.8, -0.2), (0, 0.34, -0.53), 0.011),
            (head, (0, 0.34, 0.53), 0.016),
        ):  # fmt: skip
            rods.append((a, b, r, r, frame))
        rods += [
            (head, (0, 1.03, 0.36), 0.014, 0.014, GREY),
            ((-0.27, 1.05, 0.33), (0.27, 1.05, 0.33), 0.015, 0.015, BLACK),
            ((0, 0.93, -0.33), (0, 0.95, -0.1), 0.07, 0.03, BLACK),
            ((0, 0.70, -0.60), (0, 0.72, -0.60), 0.03, 0.03, (48.0, 40.0, 205.0)),
            ((-0.05, 0.71, -0.7), (-0.05, 0.72, -0.25), 0.012, 0.012, BLACK),
            ((0.05, 0.71, -0.7), (0.05, 0.72, -0.25), 0.012, 0.012, BLACK),
        ]
        return rods

    def _rider(self, turn: float) -> list[tuple]:
        look, lean = self._look, self._lean
        rods: list[tuple] = []
        neck = (0.0, 1.47 - 0.2 * lean, 0.02 + lean)
        for side in (-1.0, 1.0):
            pedal = (
                side * 0.11,
                0.30 + side * 0.17 * np.sin(-turn),
                -0.06 + side * 0.17 * np.cos(turn),
            )
            ankle = (pedal[0], pedal[1] + 0.09, pedal[2] - 0.05)
            hip = (side * 0.095, 0.99, -0.2)
            knee = _bend(hip, ankle, 0.43, 0.42, 1.0)
            socket = (side * 0.18, neck[1] - 0.07, neck[2])
            hand = (side * 0.25, 1.07, 0.33)
            elbow = _bend(socket, hand, 0.3, 0.27, -1.0)
            elbow = (side * 0.29, elbow[1], elbow[2])
            rods += [
                (ankle, (pedal[0], pedal[1] + 0.04, pedal[2] + 0.12), 0.045, 0.036, BLACK),
                (hip, knee, 0.095, 0.065, look.trousers),
                (knee, ankle, 0.065, 0.042, look.trousers),
                (socket, elbow, 0.06, 0.048, look.top),
                (elbow, hand, 0.046, 0.036, look.top),
                (hand, hand, 0.042, 0.042, look.skin),
                ((side * 0.07, 1.0, -0.2), (side * 0.11, neck[1] - 0.09, neck[2] - 0.02),
                 0.1, 0.105, look.top),
            ]  # fmt: skip
        top = (neck[0], neck[1] + 0.17, neck[2] + 0.07)
        cap = look.accent if self._helmet else look.hair
        rods += [
            ((0, 1.02, -0.21), neck, 0.11, 0.1, look.top),
            (neck, top, 0.06, 0.06, look.skin),
            (top, (0, top[1] + 0.03, top[2]), 0.09, 0.095, look.skin),
            ((0, top[1] + 0.055, top[2] - 0.03), (0, top[1] + 0.045, top[2] + 0.02), 0.1, 0.1, cap),
        ]
        if look.bag is not None:
            y, z = neck[1], neck[2]
            rods.append(((0, y - 0.36, z - 0.22), (0, y - 0.14, z - 0.16), 0.13, 0.11, look.bag))
        return rods
