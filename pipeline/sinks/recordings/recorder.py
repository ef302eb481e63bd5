"""Annotated video as a vehicle needs it: segments, and clips of events."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from av.error import FFmpegError

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import Result, Sink
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel
from squeezedrive.pipeline.sinks.recordings.clips import Clips
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture, Encoder, EncoderOptions
from squeezedrive.pipeline.sinks.recordings.events import Event, EventDetector
from squeezedrive.pipeline.sinks.recordings.mp4 import Mp4File
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sinks.recordings.series import Series
from squeezedrive.pipeline.sinks.recordings.writer import Recorded, Writer

TIDY_SECONDS = 10.0
# A camera does not wait for the disk, and a vehicle that is switched off waits two seconds.
LIVE_CLOSE_SECONDS = 1.5
FILE_PATIENCE_SECONDS = 10.0


class RecordingSink(Sink):
    """Encodes pictures once and writes them to segments, clips of events, or one whole file.

    Segments follow each other without a gap, begin with a key frame at 0:00 and can each be played
    alone. They and the clips are written in a thread of their own; if they cannot be, the run goes
    on, and frames that are missing are counted. A whole file that cannot be written ends the run,
    as with `VideoSink`.

    Parameters
    ----------
    archive : Archive
        Names segments and clips, and deletes old ones.
    source : Source
        Where the frames come from; its `info` is read at the first frame.
    options : EncoderOptions
        How to encode.
    whole : Path or None
        A file that all pictures go to; it is replaced if it exists.
    segments : Segments or None
        When a new segment begins; None for no segments.
    events : EventDetector or None
        What gets a clip; None for no clips.

    Attributes
    ----------
    name : str
        The whole file, or a pattern that all files match.
    frames_written : int
        Frames encoded so far.
    """

    def __init__(
        self,
        archive: Archive,
        source: Source,
        options: EncoderOptions,
        whole: Path | None = None,
        segments: Segments | None = None,
        events: EventDetector | None = None,
    ) -> None:
        self.name = archive.video_pattern if whole is None else str(whole)
        self.frames_written = 0
        self._archive = archive
        self._source = source
        self._options = options
        self._whole_path = whole
        self._when = segments
        self._events = events
        self._tags: deque[tuple[SegmentLabel | None, Event | None]] = (
            deque()
        )  # of frames in the encoder
        self._encoder: Encoder | None = None
        self._whole: Mp4File | None = None
        self._segments: Series[EncodedPicture] = Series(
            "the recording", archive, self._open, archive.next_segment
        )
        self._clips: Clips | None = None
        self._writer: Writer | None = None
        self._newest: SegmentLabel | None = None  # segment of the last frame
        self._segment: SegmentLabel | None = None  # segment of the last picture written
        self._tidied_at = time.monotonic()
        self._closed = False
        self._writer_closed = False
        self._warnings: list[str] = []

    @property
    def lost(self) -> int:
        """Frames that could not be written to a segment or clip they belong to."""
        clips = 0 if self._clips is None else self._clips.series.lost
        return (0 if self._writer is None else self._writer.lost) + self._segments.lost + clips

    @property
    def warnings(self) -> list[str]:
        """One line for everything missing from the outputs that did not end the run."""
        lines = list(self._warnings)
        if self._writer is not None and self._writer.lost:
            lost = self._writer.lost
            lines.append(f"{self.name}: {lost} frames are not in it: the disk was too slow")
        for part in (self._whole, self._segments, self._clips):
            lines += [] if part is None else part.warnings
        return lines

    def write(self, result: Result) -> None:
        """Encode the picture of a result.

        Raises
        ------
        SinkError
            If the whole file cannot be created or written, or the encoder refuses.
        """
        if self._closed:
            raise SinkError(f"{self.name}: is closed")
        frame = result.frame
        try:
            if self._encoder is None:
                self._encoder = Encoder(self._source.info, frame, self._options)
                self._begin(self._encoder, frame.pts)
            segment = None if self._when is None else self._when.at(frame)
            event = None if self._events is None else self._events.at(result)
            is_start = segment is not self._newest or (
                event is not None and event.begin == frame.pts  # it goes on in a new clip
            )
            self._newest = segment
            self._tags.append((segment, event))
            for picture in self._encoder.encode(frame.image, frame.pts, key=is_start):
                self._pass_on(picture)
        except FFmpegError as error:
            raise self._abandon(error) from error
        except SinkError:
            self._closed = True
            raise
        self.frames_written += 1

    def close(self) -> None:
        """Finish the files; those that the disk does not take in time stay as they are.

        Raises
        ------
        SinkError
            If the end of the whole file cannot be written.
        """
        encoder, self._encoder = self._encoder, None
        try:
            if encoder is not None and not self._closed:
                for picture in encoder.flush():
                    self._pass_on(picture)
                if self._whole is not None:
                    self._whole.close()
        except FFmpegError as error:
            raise self._abandon(error) from error
        finally:
            self._closed = True
            self._close_writer()

    def _begin(self, encoder: Encoder, first_pts: int) -> None:
        info = self._source.info
        self._template = encoder.stream
        if self._whole_path is not None:
            zero = min(info.origin, first_pts)
            self._whole = Mp4File(self._whole_path, encoder.stream, info, zero)
        if self._events is not None:
            self._clips = Clips(self._archive, self._open, info.time_base, self._events.before)
        if self._when is not None or self._clips is not None:
            patience = 0.0 if info.live else FILE_PATIENCE_SECONDS
            self._writer = Writer(self._record, self._finish, patience)

    def _open(self, path: Path, first: EncodedPicture) -> Mp4File:
        return Mp4File(path, self._template, self._source.info, first.pts, self._archive.room)

    def _pass_on(self, picture: EncodedPicture) -> None:
        segment, event = self._tags.popleft()
        if self._writer is not None:
            self._writer.put(Recorded(picture, segment, event))
        if self._whole is not None:
            self._whole.write(picture)

    def _abandon(self, error: FFmpegError) -> SinkError:
        self._closed = True
        if self._whole is not None:
            return self._whole.abandon(error)
        return SinkError(f"{self.name}: cannot be encoded: {error.strerror}")

    def _close_writer(self) -> None:
        writer = self._writer
        if writer is None or self._writer_closed:
            return
        self._writer_closed = True
        live = self._source.info.live
        if not writer.close(LIVE_CLOSE_SECONDS if live else FILE_PATIENCE_SECONDS):
            self._warnings.append(f"{self.name}: ends early: the disk does not answer")

    # In the writer's thread:

    def _record(self, item: Recorded) -> None:
        if time.monotonic() - self._tidied_at >= TIDY_SECONDS:
            self._archive.tidy()
            self._tidied_at = time.monotonic()
        picture = item.picture
        if item.segment is not None:
            if item.segment is not self._segment:
                self._segment = item.segment
                self._segments.begin(item.segment, self._archive.video)
            self._segments.write(picture, picture.is_key)
        if self._clips is not None:
            self._clips.write(picture, item.event)

    def _finish(self) -> None:
        self._segments.close()
        if self._clips is not None:
            self._clips.close()
