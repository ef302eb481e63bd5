"""Read files of NMEA 0183 sentences from receivers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timezone
from pathlib import Path

from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix

KNOT = 1852 / 3600  # metres a second
LOST = 1.0  # seconds, at most, for which the last fix holds after the receiver has lost it


def read_nmea(path: Path) -> list[TimedFix]:
    """Return the fixes of a file, in seconds since 1970.

    RMC sentences give time, position, speed and course; a GGA of the same time before them adds
    the altitude. Text before a sentence in its line is skipped, and so are damaged lines.

    Raises
    ------
    GpsError
        If there is no fix with a date.
    OSError
        If it cannot be read.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        fixes = parse_nmea(file)
    if all(fix is None for _, fix in fixes):
        raise GpsError(f"{path}: expected NMEA with RMC sentences that have a fix, got none")
    return fixes


def parse_nmea(lines: Iterable[str]) -> list[TimedFix]:
    """Return the fixes in lines of text as `read_nmea` does, but none where there is none."""
    import pynmea2

    fixes: list[TimedFix] = []
    altitudes: dict[time, float] = {}
    for line in lines:
        text = line[line.find("$") :].strip() if "$" in line else ""
        if text[3:6] not in ("RMC", "GGA"):
            continue
        try:
            sentence = pynmea2.parse(text.split("[")[0].strip())
            if isinstance(sentence, pynmea2.GGA):
                _note_altitude(sentence, altitudes)
            elif isinstance(sentence, pynmea2.RMC):
                _add(sentence, altitudes, fixes)
        except (ValueError, TypeError, AttributeError, IndexError):  # it is damaged
            continue
    return fixes


def _note_altitude(sentence: object, altitudes: dict[time, float]) -> None:
    import pynmea2

    assert isinstance(sentence, pynmea2.GGA)
    if sentence.is_valid and isinstance(sentence.altitude, float):
        altitudes.clear()  # of the second before
        altitudes[sentence.timestamp] = sentence.altitude


def _add(sentence: object, altitudes: dict[time, float], fixes: list[TimedFix]) -> None:
    import pynmea2

    assert isinstance(sentence, pynmea2.RMC)
    day, moment = sentence.datestamp, sentence.timestamp
    if sentence.status != "A":
        if fixes and fixes[-1][1] is not None:
            last = fixes[-1][0]
            lost = last + LOST
            if isinstance(moment, time):  # of the day of the last fix
                at = datetime.combine(datetime.fromtimestamp(last, timezone.utc), moment)
                lost = at.timestamp() if last < at.timestamp() < lost else lost
            fixes.append((lost, None))
        return
    if not isinstance(day, date) or not isinstance(moment, time):
        return
    if not (sentence.lat and sentence.lon and sentence.lat_dir and sentence.lon_dir):
        return
    utc = datetime.combine(day, moment.replace(tzinfo=None), timezone.utc).timestamp()
    speed, course = sentence.spd_over_grnd, sentence.true_course
    fix = GpsFix(
        sentence.latitude,
        sentence.longitude,
        altitudes.get(moment),
        speed * KNOT if isinstance(speed, float) else None,
        course if isinstance(course, float) else None,
        utc,
    )
    fixes.append((utc, fix))
