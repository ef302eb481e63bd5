"""GPS positions, and where a recording was at any time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from squeezedrive.pipeline.core.moments import format_moment

LONGEST_GAP = 10.0  # seconds between two fixes between which positions are interpolated
EDGE = 1.0  # seconds for which a fix holds where there is none before it, or after it
BASE = 0.5  # seconds to either side over which a missing speed or course is measured
LEAST_MOVE = 1.0  # metres; below, a course measured from two positions says nothing
HIGHEST = 100e3  # metres above sea level, the border of space
FASTEST = 1000.0  # metres a second, three times a jet's speed
LATEST = 4_102_444_800.0  # 2100-01-01, in seconds since 1970
EARTH = 6_371_008.8  # metres, mean radius (IUGG)


@dataclass(frozen=True)
class GpsFix:
    """A position in WGS 84.

    Attributes
    ----------
    lat, lon : float
        Degrees, north and east positive.
    altitude : float or None
        Metres above sea level.
    speed : float or None
        Metres a second over ground.
    course : float or None
        Degrees from true north, clockwise, 0 to 360.
    utc : float or None
        When, by the receiver, in seconds since 1970.
    """

    lat: float
    lon: float
    altitude: float | None = None
    speed: float | None = None
    course: float | None = None
    utc: float | None = None

    @property
    def is_possible(self) -> bool:
        """Whether it is a place on earth."""
        return abs(self.lat) <= 90 and abs(self.lon) <= 180  # neither is NaN

    def without_impossible(self) -> GpsFix:
        """Return the fix without those of its further values that only damage explains."""
        return replace(
            self,
            altitude=_within(self.altitude, -HIGHEST, HIGHEST),
            speed=_within(self.speed, 0.0, FASTEST),
            course=_within(self.course, -360.0, 360.0),
            utc=_within(self.utc, 0.0, LATEST),
        )

    def record(self) -> dict[str, Any]:
        """Return the fix as a record for JSON; None for what is not known."""
        return {
            "lat": round(self.lat, 7),
            "lon": round(self.lon, 7),
            "alt": None if self.altitude is None else round(self.altitude, 1),
            "speed": None if self.speed is None else round(self.speed, 2),
            "course": None if self.course is None else round(self.course, 1) % 360,
            "utc": None if self.utc is None else format_moment(self.utc),
        }


# Seconds of some clock, and the fix at that time; None where the receiver had none.
TimedFix = tuple[float, GpsFix | None]


class GpsTrack:
    """The positions of a recording, by the time of its source's clock.

    Between two fixes that are at most `LONGEST_GAP` apart, positions lie on the great circle;
    speed, altitude and UTC are interpolated, the course on the shorter way round. Where a receiver
    had no fix there is none, but each fix holds for up to `EDGE`. A speed or course that the
    receiver does not give is measured from the positions around.

    Parameters
    ----------
    fixes : sequence of TimedFix
        In seconds of the source's clock, in any order.
    origin : str
        What they were read from, for messages.

    Attributes
    ----------
    fixes : list of TimedFix
        In the order of time, with the missing speeds and courses that could be measured.
    """

    def __init__(self, fixes: Sequence[TimedFix], origin: str) -> None:
        possible = [
            (t, f and f.without_impossible()) for t, f in fixes if f is None or f.is_possible
        ]
        ordered = sorted(possible, key=lambda timed: timed[0])
        self.origin = origin
        self._times = [time for time, _ in ordered]
        self.fixes = [(t, self._completed(k, f, ordered)) for k, (t, f) in enumerate(ordered)]

    @property
    def is_empty(self) -> bool:
        """Whether there is no fix at all."""
        return all(fix is None for _, fix in self.fixes)

    def at(self, seconds: float) -> GpsFix | None:
        """Return where the recording was at a time of the source's clock; None if not known."""
        index = bisect_right(self._times, seconds) - 1
        begin, before = self.fixes[index] if index >= 0 else (-math.inf, None)
        end, after = self.fixes[index + 1] if index + 1 < len(self.fixes) else (math.inf, None)
        if seconds == begin:
            return before
        if before is not None and after is not None and end - begin <= LONGEST_GAP:
            return _between(before, after, (seconds - begin) / (end - begin))
        if before is not None and seconds - begin <= EDGE:
            return _moved(before, seconds - begin)
        if after is not None and end - seconds <= EDGE:
            return _moved(after, seconds - end)
        return None

    def span(self, begin: float, end: float) -> list[TimedFix]:
        """Return the fixes from `begin` to just before `end`; None marks a time without one."""
        return self.fixes[bisect_left(self._times, begin) : bisect_left(self._times, end)]

    def _completed(
        self, index: int, fix: GpsFix | None, ordered: Sequence[TimedFix]
    ) -> GpsFix | None:
        if fix is None or (fix.speed is not None and fix.course is not None):
            return fix
        time = ordered[index][0]
        first = last = index
        while first > 0 and time - self._times[first] < BASE and ordered[first - 1][1] is not None:
            first -= 1
        end = len(ordered) - 1
        while last < end and self._times[last] - time < BASE and ordered[last + 1][1] is not None:
            last += 1
        (begin, a), (stop, b) = ordered[first], ordered[last]
        if a is None or b is None or not 0 < stop - begin <= 2 * LONGEST_GAP:
            return fix
        moved = distance(a, b)
        measured = bearing(a, b) if moved >= LEAST_MOVE else None
        return replace(
            fix,
            speed=moved / (stop - begin) if fix.speed is None else fix.speed,
            course=measured if fix.course is None else fix.course,
        )


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None  # not NaN either


def distance(a: GpsFix, b: GpsFix) -> float:
    """Return the metres between two positions, along the great circle (haversine formula)."""
    phi, psi = math.radians(a.lat), math.radians(b.lat)
    across = math.radians(b.lon - a.lon)
    h = math.sin((psi - phi) / 2) ** 2 + math.cos(phi) * math.cos(psi) * math.sin(across / 2) ** 2
    return 2 * EARTH * math.asin(min(math.sqrt(h), 1.0))


def bearing(a: GpsFix, b: GpsFix) -> float:
    """Return the course at `a` of the great circle to `b`, in degrees from true north."""
    phi, psi = math.radians(a.lat), math.radians(b.lat)
    across = math.radians(b.lon - a.lon)
    east = math.sin(across) * math.cos(psi)
    north = math.cos(phi) * math.sin(psi) - math.sin(phi) * math.cos(psi) * math.cos(across)
    return math.degrees(math.atan2(east, north)) % 360


def _between(a: GpsFix, b: GpsFix, share: float) -> GpsFix:
    """Interpolate between two fixes, `share` of the way from the first."""
    # On the chord between the two points, for which date line and poles are no special cases. The
    # fixes are so near each other that the speed along the arc is even enough.
    x, y, z = ((1 - share) * p + share * q for p, q in zip(_vector(a), _vector(b), strict=True))
    course = a.course
    if a.course is not None and b.course is not None:
        turn = (b.course - a.course + 180) % 360 - 180
        course = (a.course + share * turn) % 360
    return GpsFix(
        math.degrees(math.atan2(z, math.hypot(x, y))),
        math.degrees(math.atan2(y, x)),
        _mixed(a.altitude, b.altitude, share),
        _mixed(a.speed, b.speed, share),
        course,
        _mixed(a.utc, b.utc, share),
    )


def _vector(fix: GpsFix) -> tuple[float, float, float]:
    phi, theta = math.radians(fix.lat), math.radians(fix.lon)
    return math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi)


def _mixed(a: float | None, b: float | None, share: float) -> float | None:
    return a if a is None or b is None else a + share * (b - a)


def _moved(fix: GpsFix, seconds: float) -> GpsFix:
    return fix if fix.utc is None else replace(fix, utc=fix.utc + seconds)
