"""The settings of a street: size, rate, length and seed."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from fractions import Fraction

from squeezedrive.pipeline.core.errors import SourceError

PREFIX = "street:"
KEYS = ("size", "fps", "seconds", "frames", "seed")
LARGEST = 8192  # pixels a side


@dataclass(frozen=True)
class StreetSpec:
    """The settings of a street.

    Attributes
    ----------
    width, height : int
        Size of the picture in pixels.
    fps : Fraction
        Frames per second.
    frames : int
        Number of frames.
    seed : int
        Chooses one of many streets.
    """

    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(30)
    frames: int = 300
    seed: int = 0


def _wrong(key: str, expected: str, came: str) -> SourceError:
    return SourceError(f"street: {key} should be {expected}, got {came!r}")


def _positive(key: str, text: str, expected: str, largest: int) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise _wrong(key, expected, text) from None
    if not 0 < value <= largest:
        raise _wrong(key, expected, text)
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else [0, 0]
    if not all(16 <= side <= LARGEST for side in sides):
        raise _wrong("size", f"WIDTHxHEIGHT with sides of 16 to {LARGEST} pixels", text)
    return sides[0], sides[1]


def _whole(key: str, text: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
        raise _wrong(key, f"a whole number of at least {least}", text)
    return int(text)


def _pairs(text: str) -> dict[str, str]:
    """Split `key=value,key=value` and check the keys."""
    values: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)
            raise SourceError(
                f"street: unknown key {key!r}, expected {', '.join(KEYS)}; "
                f"did you mean {near[0] if near else KEYS[0]!r}?"
            )
        if not equals:
            raise SourceError(f"street: expected {key}=VALUE, got {item!r}")
        if key in values:
            raise SourceError(f"street: {key} is given twice, {values[key]!r} and {value!r}")
        values[key] = value
    return values


def parse_street(spec: str) -> StreetSpec:
    """Read a street from its name, as in `street:size=1280x720,fps=30000/1001,seconds=10,seed=1`.

    Parameters
    ----------
    spec : str
        `street:` and any of the keys size, fps, seconds or frames, and seed, separated by commas.
        The defaults are 1280x720, 30 fps, 10 seconds and seed 0. `fps` may be a ratio or a decimal.

    Raises
    ------
    SourceError
        If a key is unknown or given twice, or if a value is wrong for its key.
    """
    if not spec.startswith(PREFIX):
        raise SourceError(
            f"expected a street such as street:size=1280x720,seconds=10, got {spec!r}"
        )
    values = _pairs(spec[len(PREFIX) :])
    if "seconds" in values and "frames" in values:
        raise SourceError("street: seconds and frames both set the length; give only one of them")
    width, height = _size(values.get("size", "1280x720"))
    fps = _positive("fps", values.get("fps", "30"), "a rate such as 30, 12.5 or 30000/1001", 1000)
    fps = fps.limit_denominator(1001)  # turns 29.97002997 into 30000/1001
    if "frames" in values:
        frames = _whole("frames", values["frames"], 1)
    else:
        expected = "a length in seconds, more than 0"
        frames = round(fps * _positive("seconds", values.get("seconds", "10"), expected, 10**9))
    seed = _whole("seed", values.get("seed", "0"), 0)
    return StreetSpec(width, height, fps, max(1, frames), seed)
