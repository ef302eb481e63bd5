"""Read what a media file says of its recording."""

from __future__ import annotations

from fractions import Fraction

from av.container import InputContainer

from squeezedrive.pipeline.core.identity import Chapter, Identity
from squeezedrive.pipeline.core.moments import parse_moment


def read_identity(container: InputContainer, begin: Fraction) -> Identity:
    """Return what a file says; `begin` is where it starts, in seconds of its clock."""
    created = parse_moment(container.metadata.get("creation_time", ""))
    chapters = []
    for chapter in container.chapters():
        base = chapter["time_base"] or Fraction(1)
        title = chapter["metadata"].get("title", "")
        chapters.append(Chapter(chapter["start"] * base, chapter["end"] * base, title))
    return Identity(
        metadata=dict(container.metadata),
        began=None if created is None else created - begin,
        chapters=tuple(chapters),
        side_tracks=len(container.streams.subtitles) + len(container.streams.data),
    )
