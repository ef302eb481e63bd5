"""Name the segments and clips of a recording, and delete the oldest."""

from __future__ import annotations

import heapq
import itertools
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from squeezedrive.pipeline.sinks.disk import MakeRoom

GIGABYTE = 10**9
LOCK_SECONDS = 1.0  # a thread that hangs in the file system may not hold up the others
NUMBER_AND_TIME = r"\.(?P<number>\d{6,})\.(?P<time>\d{8}T\d{6}Z)"


@dataclass(frozen=True)
class SegmentLabel:
    """The number and time in the name of a segment or clip.

    The number goes on where earlier runs ended, so that the order is right even if the clock is
    not.
    """

    number: int
    time: str  # when its first frame was taken, UTC, as 20261125T101112Z; see `RecordingClock`
    what: str = ""  # of a clip: what is in it


def utc(seconds: float) -> str:
    """Write a time, in seconds since 1970, as it stands in names."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


@dataclass
class _Group:
    """Files that are deleted together: a clip, or a segment with its detections."""

    number: int
    time: str
    is_clip: bool
    paths: list[Path] = field(default_factory=list)
    size: int = 0


class Archive:
    """Name new files of a recording, and delete the oldest.

    Files of earlier runs with the same output count as well; what has another name is never
    touched, nor a file that is being written.

    Parameters
    ----------
    video : Path
        The output that was asked for, ride.mp4. Segments are named
        ride.000001.20261125T101112Z.mp4, clips ride.event.000001.20261125T101112Z.pedestrian.mp4.
    jsonl : Path, optional
        The file of detections that was asked for, of which segments are named likewise; None for
        ride.jsonl.
    keep : float, optional
        Most that all files together may take, in GB.

    Attributes
    ----------
    index : Path
        Where the clips are listed, ride.events.jsonl.
    segment_numbers, clip_numbers : iterator of int
        Of those to come.
    room : callable or None
        Deletes the oldest file to make room on a full disk, see `making_room`; None if nothing may
        be deleted.
    """

    def __init__(self, video: Path, jsonl: Path | None = None, keep: float | None = None) -> None:
        self._video = video
        self._jsonl = jsonl or video.with_suffix(".jsonl")
        self._limit = None if keep is None else keep * GIGABYTE
        self._lock = threading.Lock()
        self._busy: set[Path] = set()
        self._deleted: set[str] = set()
        self.index = video.with_name(f"{video.stem}.events.jsonl")
        self.room: MakeRoom | None = None if keep is None else self._make_room
        segments, clips = self._scan()
        self.segment_numbers = itertools.count(segments[-1].number + 1 if segments else 1)
        self.clip_numbers = itertools.count(clips[-1].number + 1 if clips else 1)

    def video(self, label: SegmentLabel) -> Path:
        """Name the video of a segment."""
        return _numbered(self._video, label)

    def jsonl(self, label: SegmentLabel) -> Path:
        """Name the detections of a segment."""
        return _numbered(self._jsonl, label)

    @property
    def video_pattern(self) -> str:
        """A pattern for the shell that all videos of the recording match, clips as well."""
        return str(self._video.with_name(f"{self._video.stem}.*{self._video.suffix}"))

    @property
    def jsonl_pattern(self) -> str:
        """A pattern for the shell that all files of detections match."""
        return str(self._jsonl.with_name(f"{self._jsonl.stem}.*{self._jsonl.suffix}"))

    def clip(self, label: SegmentLabel) -> Path:
        """Name a clip."""
        base = self._video
        what = re.sub(r"[^\w-]+", "_", label.what)
        return base.with_name(
            f"{base.stem}.event.{label.number:06}.{label.time}.{what}{base.suffix}"
        )

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        locked = self._lock.acquire(timeout=LOCK_SECONDS)
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()

    def protect(self, path: Path) -> None:
        """Keep a file from being deleted while it is written."""
        self._busy.add(path.absolute())

    def release(self, path: Path) -> None:
        """Allow that a file is deleted, as it is no longer written."""
        self._busy.discard(path.absolute())

    def tidy(self) -> None:
        """Delete the oldest files until the rest takes no more than it may."""
        if self._limit is None:
            return
        with self._locked() as locked:
            if not locked:
                return
            segments, clips = self._scan()
            total = sum(group.size for group in segments + clips)
            for group in self._oldest_first(segments, clips):
                if total <= self._limit:
                    break
                if self._delete(group):
                    total -= group.size

    def take_deleted(self) -> set[str]:
        """Return the names of the clips deleted since the last call."""
        with self._locked() as locked:
            if not locked:
                return set()
            deleted, self._deleted = self._deleted, set()
            return deleted

    def _make_room(self) -> bool:
        with self._locked() as locked:
            return locked and any(map(self._delete, self._oldest_first(*self._scan())))

    def _oldest_first(self, segments: list[_Group], clips: list[_Group]) -> Iterator[_Group]:
        # Numbers order the files of a kind; between the two kinds there is only the clock.
        for group in heapq.merge(segments, clips, key=lambda group: group.time):
            if self._busy.isdisjoint(group.paths):
                yield group

    def _delete(self, group: _Group) -> bool:
        """Delete the files of a group; say whether that has made room."""
        deleted = False
        for path in group.paths:
            with suppress(OSError):  # somebody else's now, or gone: then the next one has to go
                path.unlink()
                deleted = True
                if group.is_clip:
                    self._deleted.add(path.name)
        return deleted

    def _scan(self) -> tuple[list[_Group], list[_Group]]:
        """Find the segments and the clips, each in the order of their numbers."""
        groups: dict[tuple[bool, int], _Group] = {}
        wanted = [
            (False, self._video, ""),
            (False, self._jsonl, ""),
            (True, self._video, r"\.event"),
        ]
        for is_clip, base, kind in wanted:
            what = r"\.[\w-]+" if is_clip else ""
            pattern = re.compile(
                f"{re.escape(base.stem)}{kind}{NUMBER_AND_TIME}{what}{re.escape(base.suffix)}"
            )
            folder = base.absolute().parent
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    match = pattern.fullmatch(entry.name)
                    if match is None or not entry.is_file(follow_symlinks=False):
                        continue
                    number = int(match["number"])
                    group = groups.setdefault(
                        (is_clip, number), _Group(number, match["time"], is_clip)
                    )
                    group.paths.append(folder / entry.name)
                    with suppress(FileNotFoundError):  # it has just been renamed
                        group.size += entry.stat(follow_symlinks=False).st_size
        ordered = [groups[key] for key in sorted(groups)]
        return [g for g in ordered if not g.is_clip], [g for g in ordered if g.is_clip]


def _numbered(base: Path, label: SegmentLabel) -> Path:
    return base.with_name(f"{base.stem}.{label.number:06}.{label.time}{base.suffix}")
