"""Positions of cars and people on the street, in endless streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.street.cars import Car
from tests.street.layout import CROSSING, KERB_LEFT, KERB_RIGHT, crossing_at
from tests.street.light import rng
from tests.street.people import Cyclist, Pedestrian

SPEED = 9.5  # of the camera, in metres per second
BEHIND = 3.0  # metres behind the camera up to which actors are kept, as long ones reach forward
AHEAD, AWAY = 0.0, np.pi  # headings: seen from behind, seen from the front
WALK, WALK_MIDDLE = KERB_RIGHT - KERB_LEFT + 2.6, (KERB_RIGHT + KERB_LEFT) / 2  # of a crossing


Model = Car | Cyclist | Pedestrian
Maker = Callable[[np.random.Generator, float], Model]


@dataclass(frozen=True)
class Actor:
    """A person or vehicle on the street at one moment.

    Attributes
    ----------
    track_id : int
        The same in all frames.
    model : Car, Cyclist or Pedestrian
        Shape and colours.
    x, z : float
        Metres to the right of and ahead of the camera.
    phase : float
        Metres moved; sets the pose of legs and wheels.
    """

    track_id: int
    model: Model
    x: float
    z: float
    phase: float

    @property
    def distance(self) -> float:
        """Metres from the camera, along the ground."""
        return float(np.hypot(self.x, self.z))


@dataclass(frozen=True)
class Stream:
    """Actors of one kind in a row, all at the same speed, each in a cell of its own.

    Attributes
    ----------
    make : callable
        Makes a model from a generator and a heading.
    x, spread : float
        Position across the street, and largest difference from it, in metres.
    speed : float
        Metres per second, negative towards the camera.
    heading : float
        Radians.
    spacing, slack : float
        Length of a cell, and largest distance of the actor from the cell's beginning, in metres.
    fill : float
        Share of the cells that have an actor.
    reach : float
        Metres ahead of the camera up to which actors are shown.
    """

    make: Maker
    x: float
    spread: float
    speed: float
    heading: float
    spacing: float
    slack: float
    fill: float
    reach: float


STREAMS = (
    Stream(Car, -3.45, 0.15, -9.0, AWAY, 34.0, 20.0, 0.75, 150.0),
    Stream(Car, 4.32, 0.08, 0.0, AHEAD, 6.4, 1.0, 0.6, 78.0),
    Stream(Car, -7.45, 0.08, 0.0, AWAY, 6.4, 1.0, 0.6, 78.0),
    Stream(Cyclist, 2.55, 0.2, 4.6, AHEAD, 23.0, 14.0, 0.7, 90.0),
    Stream(Cyclist, -5.75, 0.15, -4.9, AWAY, 38.0, 24.0, 0.6, 90.0),
    Stream(Pedestrian, 6.75, 0.2, 1.35, AHEAD, 13.0, 11.0, 0.52, 85.0),
    Stream(Pedestrian, 7.75, 0.25, -1.25, AWAY, 17.0, 14.0, 0.52, 85.0),
    Stream(Pedestrian, -10.0, 0.25, -1.4, AWAY, 13.0, 11.0, 0.5, 85.0),
    Stream(Pedestrian, -11.0, 0.25, 1.2, AHEAD, 19.0, 15.0, 0.5, 85.0),
)
# Cars ahead in the camera's lane: mean distance, largest change of it, both in m, and period in s.
# People cross the street between them.
LEADERS = ((19.0, 4.0, 23.0), (70.0, 8.0, 37.0))


MOVING = (0, 3, 4)  # streams that people who cross the street must avoid


@dataclass(frozen=True)
class Party:
    """People who cross: to the right (way 1) or left (-1), number, m/s, begin in seconds."""

    way: float
    size: int
    pace: float
    begin: float


class Traffic:
    """All actors on the street; their positions depend only on the time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._member = lru_cache(maxsize=256)(self._invite)
        self._party = lru_cache(maxsize=16)(self._gather)
        self._walker = lru_cache(maxsize=64)(self._make_walker)
        self._leaders = [Car(rng(seed, 106, k), AHEAD) for k in range(len(LEADERS))]
        self._turns = [float(rng(seed, 107, k).uniform(0, 2 * np.pi)) for k in range(len(LEADERS))]

    def at(self, seconds: float) -> list[Actor]:
        """Return the actors in front of the camera, the farthest first."""
        actors = [*self._driving(seconds), *self._crossing(seconds)]
        for number, stream in enumerate(STREAMS):
            actors += self._members(number, stream, seconds)
        return sorted(actors, key=lambda actor: -actor.distance)

    def _members(self, number: int, stream: Stream, seconds: float) -> Iterator[Actor]:
        shift = (stream.speed - SPEED) * seconds  # of the stream relative to the camera
        first = int(np.floor((-BEHIND - stream.slack - shift) / stream.spacing))
        last = int(np.floor((stream.reach - shift) / stream.spacing))
        for cell in range(first, last + 1):
            member = self._member(number, cell)
            if member is None:
                continue
            model, x, offset = member
            z = cell * stream.spacing + offset + shift
            if -BEHIND < z < stream.reach:
                track_id = _number(number, cell)
                yield Actor(track_id, model, x, z, abs(stream.speed) * seconds)

    def _invite(self, number: int, cell: int) -> tuple[Model, float, float] | None:
        """Return the model in a cell of a stream, its x and its offset in the cell, or None."""
        stream = STREAMS[number]
        generator = rng(self._seed, 108, number, cell)
        if generator.random() >= stream.fill:
            return None
        x = stream.x + float(generator.uniform(-1, 1)) * stream.spread
        offset = float(generator.uniform(0, stream.slack))
        if stream.make is Car and stream.speed == 0:  # no parking near a zebra crossing
            beside = (cell * stream.spacing + offset - crossing_at(0)) % CROSSING
            if min(beside, CROSSING - beside) < 6:
                return None
        return stream.make(generator, stream.heading), x, offset

    def _gap(self, leader: int, seconds: float) -> float:
        mean, swing, period = LEADERS[leader]
        turn = 2 * np.pi * seconds / period + self._turns[leader]
        return float(mean + swing * np.sin(turn))

    def _driving(self, seconds: float) -> Iterator[Actor]:
        for leader, car in enumerate(self._leaders):
            z = self._gap(leader, seconds)
            yield Actor(_number(len(STREAMS), leader), car, 0.1 * leader, z, 0.0)

    def _crossing(self, seconds: float) -> Iterator[Actor]:
        """Yield people who wait at the kerb, cross between two cars and walk on."""
        travelled = SPEED * seconds
        first = int((travelled - BEHIND) // CROSSING) - 1
        for place in range(first, first + 3):
            z = crossing_at(place) - travelled
            party = self._party(place)
            if party is None or not -BEHIND < z < 105:
                continue
            for member in range(party.size):
                walked = party.pace * (seconds - party.begin) - 0.8 * member
                across = float(np.clip(walked, 0, WALK))
                after = max(0.0, walked - WALK)
                heading = AHEAD if after else party.way * np.pi / 2
                yield Actor(
                    _number(len(STREAMS) + 1 + member, place),
                    self._walker(place, member, heading),
                    party.way * (across - WALK / 2) + WALK_MIDDLE,
                    z + 0.8 * member + after,
                    max(walked, 0.0),
                )

    def _make_walker(self, place: int, member: int, heading: float) -> Model:
        return Pedestrian(rng(self._seed, 109, place, member), heading)

    def _gather(self, place: int) -> Party | None:
        """Return people who cross at a place when no vehicle is near; None if there is no time."""
        generator = rng(self._seed, 110, place)
        way, size = float(generator.choice((-1, 1))), int(generator.integers(1, 3))
        pace = float(generator.uniform(1.5, 1.9))
        arrival = crossing_at(place) / SPEED
        for early in range(24, 56):
            party = Party(way, size, pace, arrival - early / 4)
            if self._clear(place, party):
                return party
        return None

    def _clear(self, place: int, party: Party) -> bool:
        """Return whether people can cross without a collision; vehicles do not react to them."""
        for half_metre in range(int(2 * WALK) + 1):
            walked = half_metre / 2
            seconds = party.begin + walked / party.pace
            x = party.way * (walked - WALK / 2) + WALK_MIDDLE
            z = crossing_at(place) - SPEED * seconds
            vehicles = [*self._driving(seconds)]
            for number in MOVING:
                vehicles += self._members(number, STREAMS[number], seconds)
            if abs(x) < 2 and z < 12:
                return False
            if any(abs(v.x - x) < 1.9 and abs(v.z - z) < 2 + v.model.length / 2 for v in vehicles):
                return False
        return True


def _number(stream: int, cell: int) -> int:
    """Return a number that is unique to this cell of this stream."""
    return (2 * cell if cell >= 0 else -2 * cell - 1) * 16 + stream
