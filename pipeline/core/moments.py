"""Moments of civil time, as text and in seconds since 1970."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)


def parse_moment(text: str) -> Fraction | None:
    """Parse a time in ISO 8601, UTC without a zone, to seconds since 1970; None for other text."""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return seconds_since_1970(moment)


def exactly(seconds: float) -> Fraction:
    """Return seconds as somebody wrote them: 1.6 as 8/5, which no float is."""
    return Fraction(str(seconds))


def seconds_since_1970(moment: datetime) -> Fraction:
    """Return the seconds since 1970 of a time, UTC if it has no zone."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return Fraction((moment - EPOCH) // MICROSECOND, 1_000_000)


def format_moment(seconds: Fraction | float, decimals: int = 3) -> str:
    """Format seconds since 1970 in ISO 8601, UTC, with 1 to 6 decimals."""
    moment = EPOCH + round(seconds * 10**decimals) * 10 ** (6 - decimals) * MICROSECOND
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[: 20 + decimals] + "Z"
