"""Read the GPS of GoPro (gpmd), Google (camm) and BlackVue by mapillary_tools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.errors import PackageMissing
from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix

if TYPE_CHECKING:
    from mapillary_tools.geo import Point
    from mapillary_tools.telemetry import GPSPoint

# CAMM counts seconds since the GPS epoch, 1980-01-06, without leap seconds.
GPS_EPOCH = 315_964_800
LEAP_SECONDS = 18  # since 2017
# Some cameras count from 1970 instead, as ExifTool's author found: 2020 then, 2030 otherwise.
SINCE_1970 = 1_577_836_800


def read_data_tracks(path: Path) -> list[TimedFix]:
    """Return the fixes of a file, in seconds of its clock; empty for one without such a track.

    Raises
    ------
    PackageMissing
        If mapillary_tools is not installed.
    GpsError
        If the track is damaged.
    OSError
        If the file cannot be read.
    """
    try:
        from mapillary_tools.blackvue_parser import extract_blackvue_info
        from mapillary_tools.camm.camm_parser import extract_camm_info
        from mapillary_tools.gpmf.gpmf_parser import extract_gopro_info
    except ImportError as error:
        raise PackageMissing(
            f"GPS of GoPro, CAMM and BlackVue needs mapillary_tools: pip install"
            f" 'squeezedrive[gps]', or in a checkout pip install -e '.[gps]' ({error})"
        ) from None
    try:
        with path.open("rb") as file:
            gopro = extract_gopro_info(file)
            file.seek(0)
            camm = extract_camm_info(file) if gopro is None else None
            file.seek(0)
            blackvue = extract_blackvue_info(file) if gopro is None and camm is None else None
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise whatever its parsers meet, TypeError as well
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GpsError(f"{path}: its GPS is damaged: {reason}") from None
    if camm is not None:
        return _of_camm([*(camm.mini_gps or []), *(camm.gps or [])])
    found = gopro or blackvue
    return _of_gopro((found and found.gps) or [])


def _of_gopro(points: Sequence[GPSPoint]) -> list[TimedFix]:
    fixes: list[TimedFix] = []
    stamp: float | None = None  # UTC of the packet, which its points share
    since = 0.0  # time of its first point
    for point in points:
        if point.epoch_time != stamp:
            stamp, since = point.epoch_time, point.time
        utc = None if stamp is None else stamp + point.time - since
        lost = point.fix is not None and point.fix.value == 0
        fix = GpsFix(point.lat, point.lon, point.alt, point.ground_speed, point.angle, utc)
        fixes.append((point.time, None if lost else fix))
    return fixes


def _of_camm(points: Sequence[Point]) -> list[TimedFix]:
    from mapillary_tools.telemetry import CAMMGPSPoint

    fixes: list[TimedFix] = []
    for point in points:
        if not isinstance(point, CAMMGPSPoint):  # of type 5, which has only a position
            fixes.append((point.time, GpsFix(point.lat, point.lon, point.alt)))
            continue
        east, north = point.velocity_east, point.velocity_north
        speed = math.hypot(east, north)
        fix = GpsFix(
            point.lat,
            point.lon,
            point.alt,
            speed,
            math.degrees(math.atan2(east, north)) % 360 if speed else None,
            _utc(point.time_gps_epoch),
        )
        fixes.append((point.time, fix if point.gps_fix_type else None))
    return fixes


def _utc(seconds: float) -> float | None:
    if seconds <= 0:
        return None
    return seconds if seconds >= SINCE_1970 else seconds + GPS_EPOCH - LEAP_SECONDS
