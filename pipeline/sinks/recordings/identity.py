"""Copy the metadata of a recording into an output made from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from squeezedrive.pipeline.core.identity import Chapter
from squeezedrive.pipeline.core.moments import format_moment, parse_moment
from squeezedrive.pipeline.core.source import SourceInfo

if TYPE_CHECKING:
    from av.container.core import Chapter as ContainerChapter  # a type, of which nothing runs

# Said of the file, not of the recording; what is true of the output FFmpeg writes by itself, and
# its pictures are upright.
OF_THE_FILE = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate"}
)
# By FFmpeg's names in MP4, and by those that QuickTime and whatever is Apple's look for.
QUICKTIME = {
    "location": "com.apple.quicktime.location.ISO6709",
    "make": "com.apple.quicktime.make",
    "model": "com.apple.quicktime.model",
}
CREATED = "creation_time"
LOCAL_CREATED = "com.apple.quicktime.creationdate"  # in the camera's time zone
TICK = Fraction(1, 1_000_000)  # of the times of chapters


def describe_output(info: SourceInfo, began: Fraction | None, zero: int) -> dict[str, str]:
    """Return the metadata of an output, by FFmpeg's names.

    All that the source says of its recording comes along, place, make and model also by QuickTime's
    names. Times of creation are those of 0:00 in the output.

    Parameters
    ----------
    info : SourceInfo
        Of the source.
    began : Fraction or None
        When the source's clock was at 0, in seconds since 1970; None for an output without a time
        of creation.
    zero : int
        The time of the source, in units of its time base, that is 0:00 in the output.
    """
    said = {
        key: text
        for key, text in info.identity.metadata.items()
        if key.lower() not in OF_THE_FILE and not key.endswith("-eng")  # FFmpeg adds these
    }
    for key, name in QUICKTIME.items():
        if key in said:
            said.setdefault(name, said[key])
    before = parse_moment(said.pop(CREATED, ""))
    if began is not None:
        created = began + zero * info.time_base
        said[CREATED] = format_moment(created, 6)
        if LOCAL_CREATED in said and before is not None:
            said[LOCAL_CREATED] = _moved(said[LOCAL_CREATED], created - before)
    return said


def chapters_between(
    chapters: Sequence[Chapter], zero: Fraction, length: Fraction
) -> list[ContainerChapter]:
    """Return the chapters of an output as `set_chapters` takes them.

    Parameters
    ----------
    chapters : sequence of Chapter
        Those of the source.
    zero : Fraction
        The time of the source, in seconds, that is 0:00 in the output.
    length : Fraction
        Of the output, in seconds.
    """
    shown: list[ContainerChapter] = []
    for chapter in chapters:
        begin, end = max(chapter.begin - zero, Fraction(0)), min(chapter.end - zero, length)
        if begin < end:
            shown.append(
                {
                    "id": len(shown),
                    "start": round(begin / TICK),
                    "end": round(end / TICK),
                    "time_base": TICK,
                    "metadata": {"title": chapter.title},
                }
            )
    return shown


def _moved(text: str, seconds: Fraction) -> str:
    """Move a time like 2026-11-25T10:11:12+0100 ahead; return as it is what is none."""
    pattern = "%Y-%m-%dT%H:%M:%S%z"
    try:
        moment = datetime.strptime(text, pattern)
    except ValueError:
        return text
    return (moment + timedelta(seconds=float(seconds))).strftime(pattern)
