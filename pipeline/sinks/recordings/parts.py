"""Write segments and clips of one recording in a separate thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from av.video.stream import VideoStream

from squeezedrive.pipeline.config import RecordConfig
from squeezedrive.pipeline.core.sink import STDOUT, FrameResult
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel
from squeezedrive.pipeline.sinks.recordings.clips import Clips
from squeezedrive.pipeline.sinks.recordings.clock import RecordingClock
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture
from squeezedrive.pipeline.sinks.recordings.events import Event, EventDetector
from squeezedrive.pipeline.sinks.recordings.mp4 import Mp4File
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sinks.recordings.series import Series
from squeezedrive.pipeline.sinks.recordings.writer import Recorded, Writer

TIDY_SECONDS = 10.0
# A camera does not wait for the disk, and a vehicle that is switched off waits two seconds.
LIVE_CLOSE_SECONDS = 1.5
FILE_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Split:
    """How a recording is split."""

    archive: Archive
    segments: Segments | None = None  # when a new one begins; None for no segments
    events: EventDetector | None = None  # what gets a clip; None for no clips
    clock: RecordingClock = field(default_factory=RecordingClock)  # dates all of it


def open_split(
    record: RecordConfig,
    source: Source,
    class_names: Sequence[str],
    paths: Mapping[str, Path],
    share: float,
) -> Split:
    """Return how the recording of a source is split.

    `paths` names its outputs by option; the video has a name even if it is not written. `share` is
    the part of `record.keep` that this source may take.
    """
    jsonl = paths.get("jsonl")
    archive = Archive(
        paths["output"],
        None if jsonl == STDOUT else jsonl,
        None if record.keep is None else record.keep * share,
    )
    clock = RecordingClock(source)
    segments = None if record.segment is None else Segments(archive, record.segment, clock)
    events = None
    if record.events:
        events = EventDetector(record.events, class_names, record.before, record.after, clock)
    return Split(archive, segments, events, clock)


class Parts:
    """Write encoded pictures to segments and clips of events.

    Segments follow each other without a gap, begin with a key frame at 0:00 and can each be played
    alone. Segments and clips are written in a thread; if they cannot be, the run goes on, and
    frames that are missing are counted.

    Parameters
    ----------
    name : str
        What the recording is called, for messages.
    split : Split
        What is written.
    stream : VideoStream
        The encoder's stream.
    source : Source
        Where the pictures come from.
    """

    def __init__(self, name: str, split: Split, stream: VideoStream, source: Source) -> None:
        archive, info, clock = split.archive, source.info, split.clock

        def open_file(path: Path, first: EncodedPicture) -> Mp4File:
            return Mp4File(path, stream, source, first.pts, clock.began, archive.room)

        def taken_at(picture: EncodedPicture) -> float:
            return clock.at(picture.pts * info.time_base)

        self._name = name
        self._split = split
        # Of the frames in the encoder:
        self._tags: deque[tuple[SegmentLabel | None, Event | None]] = deque()
        self._tag: tuple[SegmentLabel | None, Event | None] = (None, None)  # of the last written
        self._newest: SegmentLabel | None = None  # of the last frame
        self._segments: Series[EncodedPicture] = Series(
            "the recording", archive, open_file, archive.video, archive.segment_numbers, taken_at
        )
        self._clips: Clips | None = None
        if split.events is not None:
            before = split.events.before
            self._clips = Clips(archive, open_file, info.time_base, before, taken_at)
        self._tidied_at = time.monotonic()
        self._closed = False
        self._own_warnings: list[str] = []
        self._close_seconds = LIVE_CLOSE_SECONDS if info.live else FILE_PATIENCE_SECONDS
        patience = 0.0 if info.live else FILE_PATIENCE_SECONDS
        self._writer = Writer(self._record, self._finish, patience)

    @property
    def lost(self) -> int:
        """Frames that could not be written to a segment or clip they belong to."""
        clips = 0 if self._clips is None else self._clips.series.lost
        return self._writer.lost + self._segments.lost + clips

    @property
    def warnings(self) -> list[str]:
        """One line for everything that is missing."""
        lines = list(self._own_warnings)
        if self._writer.lost:
            lost = self._writer.lost
            lines.append(f"{self._name}: {lost} frames are not in it: the disk was too slow")
        lines += self._segments.warnings
        return lines if self._clips is None else lines + self._clips.warnings

    def assign(self, result: FrameResult) -> bool:
        """Decide which files show a frame, before it is encoded.

        Returns
        -------
        bool
            Whether one of them begins with this frame, which has to be a key frame then.
        """
        segments, events = self._split.segments, self._split.events
        segment = None if segments is None else segments.at(result.frame)
        event = None if events is None else events.at(result)
        is_start = segment is not self._newest or (
            event is not None and event.begin == result.frame.pts  # it goes on in a new clip
        )
        self._newest = segment
        self._tags.append((segment, event))
        return is_start

    def write(self, picture: EncodedPicture) -> None:
        """Write the next of the frames assigned, in its encoded form."""
        if not picture.repeats:
            self._tag = self._tags.popleft()
        segment, event = self._tag
        self._writer.put(Recorded(picture, segment, event))

    def close(self) -> None:
        """Finish the files; those that the disk does not take in time stay as they are."""
        if self._closed:
            return
        self._closed = True
        if not self._writer.close(self._close_seconds):
            self._own_warnings.append(f"{self._name}: ends early: the disk does not answer")

    # In the writer's thread:

    def _record(self, item: Recorded) -> None:
        if time.monotonic() - self._tidied_at >= TIDY_SECONDS:
            self._split.archive.tidy()
            self._tidied_at = time.monotonic()
        if item.segment is not None:
            self._segments.write(item.picture, item.segment, item.picture.is_key)
        if self._clips is not None:
            self._clips.write(item.picture, item.event)

    def _finish(self) -> None:
        self._segments.close()
        if self._clips is not None:
            self._clips.close()
