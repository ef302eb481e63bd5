"""Write clips that begin some seconds before an event, and the list of these clips."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from squeezedrive.engines.files import replacing
from squeezedrive.pipeline.core.moments import exactly
from squeezedrive.pipeline.sinks.disk import write_all
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel, utc
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture
from squeezedrive.pipeline.sinks.recordings.events import MOMENT_SECONDS, Event
from squeezedrive.pipeline.sinks.recordings.mp4 import Mp4File
from squeezedrive.pipeline.sinks.recordings.series import Series

log = logging.getLogger("squeezedrive")

MAX_BYTES = 64 * 2**20  # of pictures before an event, about a minute of a dashcam's


class Preroll:
    """The encoded pictures of the last seconds, from a key frame on.

    They take `MAX_BYTES` at most: what is too large for that begins later.

    Parameters
    ----------
    seconds : Fraction
        How far back a clip may want to begin.
    time_base : Fraction
        Seconds per unit of pts.

    Attributes
    ----------
    bytes : int
        What the pictures take.
    """

    def __init__(self, seconds: Fraction, time_base: Fraction) -> None:
        self.bytes = 0
        self._span = round(seconds / time_base)
        self._groups: deque[list[EncodedPicture]] = deque()  # each begins with a key frame

    def add(self, picture: EncodedPicture) -> None:
        """Add a picture, and drop what is too old for any clip."""
        if picture.is_key:
            self._groups.append([])
        if self._groups:  # otherwise its key frame has been dropped
            self._groups[-1].append(picture)
            self.bytes += len(picture.data)
        groups = self._groups
        while groups and (
            self.bytes > MAX_BYTES
            or (len(groups) > 1 and groups[1][0].pts <= picture.pts - self._span)
        ):
            self.bytes -= sum(len(old.data) for old in groups.popleft())

    def since(self, pts: int) -> list[EncodedPicture]:
        """Return the pictures from the last key frame up to `pts` on, or else all there are."""
        begun = [k for k, group in enumerate(self._groups) if group[0].pts <= pts]
        first = begun[-1] if begun else 0
        return [picture for group in list(self._groups)[first:] for picture in group]


@dataclass
class _Clip:
    """The clip that is being written; `start` is the pts of its first picture."""

    event: Event
    label: SegmentLabel
    start: int | None = None


class Clips:
    """Write a clip for every event, from the pictures encoded for the video.

    Parameters
    ----------
    archive : Archive
        Names the clips and their list.
    open_file : callable
        Opens a file that begins with a picture.
    time_base : Fraction
        Seconds per unit of pts.
    before : float
        Seconds that a clip begins before its event.
    taken_at : callable
        Dates a picture, in seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        open_file: Callable[[Path, EncodedPicture], Mp4File],
        time_base: Fraction,
        before: float,
        taken_at: Callable[[EncodedPicture], float],
    ) -> None:
        def open_clip(path: Path, picture: EncodedPicture) -> Mp4File:
            if self._clip is not None and self._clip.start is None:
                self._clip.start = picture.pts
            return open_file(path, picture)

        self.series: Series[EncodedPicture] = Series(
            "event clips", archive, open_clip, archive.clip, archive.clip_numbers, taken_at
        )
        self._archive = archive
        self._time_base = time_base
        self._preroll = Preroll(exactly(before) + MOMENT_SECONDS, time_base)
        self._clip: _Clip | None = None
        self._index_failed = False

    @property
    def warnings(self) -> list[str]:
        """One line for everything missing."""
        failed = [f"{self._archive.index}: some events could not be added"]
        return self.series.warnings + failed * self._index_failed

    def write(self, picture: EncodedPicture, event: Event | None) -> None:
        """Take the next picture, and the event whose clip shows it."""
        self._preroll.add(picture)
        pictures = [picture]
        if self._clip is None or event is not self._clip.event:
            self.close()
            if event is None:
                return
            label = SegmentLabel(next(self._archive.clip_numbers), utc(event.time), event.what)
            self._clip = _Clip(event, label)
            pictures = self._preroll.since(event.begin)
        for one in pictures:
            self.series.write(one, self._clip.label, one.is_key)

    def close(self) -> None:
        """Finish the clip and add its event to the list."""
        clip, self._clip = self._clip, None
        if clip is None:
            return
        self.series.close()
        event, path, start = clip.event, self.series.path, clip.start
        if path is None or start is None:
            path = start = None
        self._add_to_index(
            {
                "clip": None if path is None else path.name,
                "events": event.conditions,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time)),
                "clip_start": None if start is None else float(start * self._time_base),
                "first": float(event.first * self._time_base),
                "last": float(event.last * self._time_base),
                "best_score": None if event.best_score is None else round(event.best_score, 4),
            }
        )

    def _add_to_index(self, line: dict[str, Any]) -> None:
        index, deleted = self._archive.index, self._archive.take_deleted()
        try:
            if deleted:
                _drop_lines(index, deleted)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(index, flags, 0o666)
            size = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, json.dumps(line).encode() + b"\n", self._archive.room)
            except OSError:
                os.ftruncate(descriptor, size)  # half a line is none
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._index_failed:
                log.warning("%s: an event cannot be added: %s", index, error.strerror)
            self._index_failed = True


def _drop_lines(index: Path, clips: set[str]) -> None:
    """Take clips that are gone off the list, which would grow without end."""
    try:
        lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    names = [json.dumps(clip) for clip in clips]
    kept = [line for line in lines if not any(name in line for name in names)]
    with replacing(index) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
