"""What a media file holds about its recording: title, time, chapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class Chapter:
    """A part of a recording that has a title; times in seconds of the source's clock."""

    begin: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class Identity:
    """What distinguishes a recording from others; empty for one that is still being made.

    Attributes
    ----------
    metadata : mapping of str to str
        The file's metadata by FFmpeg's names: "title", "location", "make" and so on.
    began : Fraction or None
        When the source's clock was at 0, in seconds since 1970: by the file's time of creation,
        which is the time at which the container starts. None where it has none.
    chapters : tuple of Chapter
        Its chapters.
    side_tracks : int
        How many tracks of subtitles and data it has.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    began: Fraction | None = None
    chapters: tuple[Chapter, ...] = ()
    side_tracks: int = 0
