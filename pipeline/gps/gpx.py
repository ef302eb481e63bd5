"""Read tracks in GPX files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix
from squeezedrive.pipeline.core.moments import seconds_since_1970

PAUSE = 1.0  # seconds, at most, for which the last fix of a part of a track holds


def read_gpx(path: Path) -> list[TimedFix]:
    """Return the points of all tracks of a file that have a time, in seconds since 1970.

    Speed and course are read from GPX 1.0, and from any extension with these names.

    Raises
    ------
    GpsError
        If it is not a GPX file or has no such point.
    OSError
        If it cannot be read.
    """
    import gpxpy

    try:
        content = gpxpy.parse(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise
    except Exception as error:  # gpxpy raises also what its conversions of numbers and times do
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GpsError(f"{path}: expected a GPX file: {reason}") from None
    parts: list[list[TimedFix]] = []
    for points in (part.points for track in content.tracks for part in track.segments):
        fixes: list[TimedFix] = []
        for point in points:
            if point.time is None:
                continue
            further = _extensions(point)
            speed = further.get("speed") if point.speed is None else point.speed
            course = further.get("course") if point.course is None else point.course
            utc = float(seconds_since_1970(point.time))
            fix = GpsFix(point.latitude, point.longitude, point.elevation, speed, course, utc)
            fixes.append((utc, fix))
        parts += [fixes] if fixes else []
    if not parts:
        raise GpsError(f"{path}: expected a track whose points have times, got none")
    parts.sort(key=lambda part: part[0][0])
    for part, following in pairwise(parts):
        end, begin = part[-1][0], following[0][0]
        if begin > end:
            part.append((min(end + PAUSE, (end + begin) / 2), None))
    return [timed for part in parts for timed in part]


def _extensions(point: object) -> dict[str, float]:
    import gpxpy.gpx

    assert isinstance(point, gpxpy.gpx.GPXTrackPoint)
    found: dict[str, float] = {}
    for element in (inner for extension in point.extensions for inner in extension.iter()):
        name = str(element.tag).rpartition("}")[2]
        try:
            found[name] = float(element.text or "")
        except ValueError:
            continue
    return found
