"""Annotated video: H.264 in MP4, as one file, or in segments and clips of events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from av.error import FFmpegError

from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.sinks.recordings.clock import RecordingClock
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture, Encoder
from squeezedrive.pipeline.sinks.recordings.mp4 import Mp4File
from squeezedrive.pipeline.sinks.recordings.parts import Parts, Split


@dataclass(frozen=True)
class _Files:
    """What is open once the first frame is there."""

    encoder: Encoder
    whole: Mp4File | None
    parts: Parts | None

    def write(self, picture: EncodedPicture) -> None:
        if self.parts is not None:
            self.parts.write(picture)
        if self.whole is not None:
            self.whole.write(picture)


class RecordingSink(Sink):
    """Encode pictures once as H.264 and write them to MP4 files that browsers play.

    Every frame has the duration and the timestamp it has in the source, without rounding: in a
    whole file counted from `SourceInfo.origin`, in segments and clips from their first frame.
    Audio tracks of the source file are carried over, see `AudioTracks`. If the process is killed,
    or power is lost, every file can be played up to a second or so before that moment.

    A whole file that cannot be written ends the run; segments and clips do not, see `Parts`.

    Parameters
    ----------
    source : Source
        Where the frames come from; its `info` is read at the first frame.
    options : VideoConfig
        How to encode.
    whole : Path or None
        A file, ending in .mp4, that all pictures go to; it is replaced if it exists, at the first
        frame.
    split : Split or None
        Which segments and clips they go to, with `whole` or without.

    Attributes
    ----------
    name : str
        The whole file, or a pattern that all files match.
    frames_written : int
        Frames encoded so far.

    Raises
    ------
    ValueError
        If there is neither a whole file nor segments or clips.
    """

    draws = takes_yuv = True

    def __init__(
        self,
        source: Source,
        options: VideoConfig,
        whole: Path | None = None,
        split: Split | None = None,
    ) -> None:
        if whole is not None:
            self.name = str(whole)
        elif split is not None:
            self.name = split.archive.video_pattern
        else:
            raise ValueError("expected a whole file, or segments or clips, got neither")
        self.frames_written = 0
        self._source = source
        self._options = options
        self._whole = whole
        self._split = split
        self._clock = RecordingClock(source) if split is None else split.clock
        self._files: _Files | None = None
        self._closed = False

    @property
    def lost(self) -> int:
        """Frames that could not be written to a segment or clip they belong to."""
        parts = None if self._files is None else self._files.parts
        return 0 if parts is None else parts.lost

    @property
    def warnings(self) -> list[str]:
        """One line for everything missing from the outputs that did not end the run."""
        opened = () if self._files is None else (self._files.whole, self._files.parts)
        return [line for part in opened if part is not None for line in part.warnings]

    def write(self, result: FrameResult) -> None:
        """Encode the picture of a result.

        Raises
        ------
        SinkError
            If the whole file cannot be created or written, or the encoder refuses. What was
            written before can be played.
        """
        if self._closed:
            raise SinkError(f"{self.name}: is closed")
        frame = result.frame
        self._clock.see(frame)
        try:
            if self._files is None:
                self._files = self._open(frame)
            files = self._files
            is_start = files.parts is not None and files.parts.assign(result)
            for picture in files.encoder.encode(frame, key=is_start):
                files.write(picture)
        except FFmpegError as error:
            raise self._abandon(error) from error
        except SinkError:
            self._closed = True
            raise
        self.frames_written += 1

    def close(self) -> None:
        """Finish the files; those parts that the disk does not take in time stay as they are.

        Raises
        ------
        SinkError
            If the end of the whole file cannot be written. What was written before can be played.
        """
        files, failed = self._files, self._closed
        self._closed = True
        if files is None:
            return
        try:
            if not failed:
                for picture in files.encoder.flush():
                    files.write(picture)
                if files.whole is not None:
                    files.whole.close()
        except FFmpegError as error:
            raise self._abandon(error) from error
        finally:
            if files.parts is not None:
                files.parts.close()

    def _open(self, first: Frame) -> _Files:
        info = self._source.info
        encoder = Encoder(info, first, self._options)
        whole = parts = None
        if self._whole is not None:
            zero, began = min(info.origin, first.pts), self._clock.began
            whole = Mp4File(self._whole, encoder.stream, self._source, zero, began)
        if self._split is not None:
            parts = Parts(self.name, self._split, encoder.stream, self._source)
        return _Files(encoder, whole, parts)

    def _abandon(self, error: FFmpegError) -> SinkError:
        self._closed = True
        if self._files is not None and self._files.whole is not None:
            return self._files.whole.abandon(error)
        return SinkError(f"{self.name}: cannot be encoded: {error.strerror}")
