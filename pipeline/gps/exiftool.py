"""Read the GPS of any camera that ExifTool knows, if that program is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix
from squeezedrive.pipeline.core.moments import parse_moment

PROGRAM = "exiftool"
TIMEOUT = 300.0  # seconds; it reads all of a file
TAGS = (
    "SampleTime", "GPSLatitude", "GPSLongitude", "GPSAltitude", "GPSSpeed", "GPSSpeedRef",
    "GPSTrack", "GPSDateTime",
)  # fmt: skip
UNITS = {"K": 1 / 3.6, "M": 0.44704, "N": 1852 / 3600}  # metres a second of km/h, mph, knots


def is_installed() -> bool:
    """Return whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def read_by_exiftool(path: Path, begin: float) -> list[TimedFix]:
    """Return the fixes that ExifTool finds in a file, in seconds of its clock; empty if none.

    If it reports no times within the recording, the first fix is taken to be from `begin`.

    Raises
    ------
    GpsError
        If the program is not installed or fails.
    """
    if not is_installed():
        raise GpsError(
            "source.gps: expected the program exiftool on the path, found none; Debian has it as"
            " libimage-exiftool-perl"
        )
    # -ee3: also read data among the pictures; -G3: name the sample of each value.
    command = [PROGRAM, "-ee3", "-G3", "-n", "-json", *(f"-{tag}" for tag in TAGS)]
    try:
        done = subprocess.run(
            [*command, str(path.absolute())],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        (record,) = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise GpsError(f"{path}: exiftool cannot read it: {error}") from None
    samples: dict[str, dict[str, Any]] = {}
    for key, value in record.items():
        sample, _, tag = key.rpartition(":")
        if sample.startswith("Doc"):
            samples.setdefault(sample, {})[tag] = value
    timed = [(one.get("SampleTime"), _fix(one)) for one in samples.values()]
    utc = [fix.utc for _, fix in timed if fix is not None and fix.utc is not None]
    fixes: list[TimedFix] = []
    for time, fix in timed:
        if fix is not None and isinstance(time, (int, float)):
            fixes.append((float(time), fix))
        elif fix is not None and fix.utc is not None:
            fixes.append((begin + fix.utc - utc[0], fix))
    return fixes


def _fix(sample: dict[str, Any]) -> GpsFix | None:
    def number(tag: str) -> float | None:
        value = sample.get(tag)
        return float(value) if isinstance(value, (int, float)) else None

    lat, lon, speed = number("GPSLatitude"), number("GPSLongitude"), number("GPSSpeed")
    if lat is None or lon is None:
        return None
    # 2026:11:25 10:11:12.5Z
    moment = re.sub(r"^(\d+):(\d+):", r"\1-\2-", str(sample.get("GPSDateTime", "")))
    whole, _, rest = moment.rstrip("Z").partition(".")
    utc = parse_moment(whole)
    if utc is not None and rest.isdecimal():
        utc += Fraction(int(rest), 10 ** len(rest))
    unit = UNITS.get(str(sample.get("GPSSpeedRef", "K")), UNITS["K"])
    return GpsFix(
        lat,
        lon,
        number("GPSAltitude"),
        None if speed is None else speed * unit,
        number("GPSTrack"),
        None if utc is None else float(utc),
    )
