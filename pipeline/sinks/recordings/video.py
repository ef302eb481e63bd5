"""Annotated video: H.264 in MP4, with the source's timestamps and audio."""

from __future__ import annotations

from pathlib import Path

from av.error import FFmpegError

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import Result, Sink
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.sinks.recordings.encoder import Encoder, EncoderOptions
from squeezedrive.pipeline.sinks.recordings.mp4 import Mp4File


class VideoSink(Sink):
    """Writes pictures as H.264 into an MP4 file that browsers play.

    Every frame has the duration and the timestamp it has in the source, counted from
    `SourceInfo.origin`, without rounding. Frames of odd size get their last column or row twice,
    as the format needs even sizes; frames that change in size are fitted into the first one's.
    Audio tracks of the source file are carried over, see `AudioTracks`.

    If the process is killed, or power is lost, the file can be played up to a second or so before
    that moment.

    Parameters
    ----------
    path : Path
        The file, ending in .mp4. It is replaced if it exists, at the first frame.
    source : Source
        Where the frames come from; its `info` is read at the first frame.
    preset, crf, threads
        As in `EncoderOptions`.

    Attributes
    ----------
    frames_written : int
        Frames encoded so far.
    """

    def __init__(
        self, path: Path, source: Source, preset: str = "veryfast", crf: int = 23, threads: int = 0
    ) -> None:
        self.name = str(path)
        self.frames_written = 0
        self._path = path
        self._source = source
        self._options = EncoderOptions(preset, crf, threads)
        self._encoder: Encoder | None = None
        self._file: Mp4File | None = None
        self._closed = False

    @property
    def warnings(self) -> list[str]:
        """One line for everything missing from the output that did not end the run."""
        return [] if self._file is None else self._file.warnings

    def write(self, result: Result) -> None:
        """Encode the picture of a result.

        Raises
        ------
        SinkError
            If the file cannot be created or written. What was written before can be played.
        """
        if self._closed:
            raise SinkError(f"{self.name}: is closed")
        try:
            if self._encoder is None or self._file is None:
                self._encoder, self._file = self._open(result.frame)
            for picture in self._encoder.encode(result.frame.image, result.frame.pts):
                self._file.write(picture)
        except FFmpegError as error:
            raise self._abandon(error) from error
        except SinkError:
            self._closed = True
            raise
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file; does nothing if no frame was written or writing has failed.

        Raises
        ------
        SinkError
            If the end cannot be written. What was written before can be played.
        """
        if self._encoder is None or self._file is None or self._closed:
            return
        self._closed = True
        try:
            for picture in self._encoder.flush():
                self._file.write(picture)
            self._file.close()
        except FFmpegError as error:
            raise self._abandon(error) from error

    def _open(self, first: Frame) -> tuple[Encoder, Mp4File]:
        info = self._source.info
        encoder = Encoder(info, first, self._options)
        return encoder, Mp4File(self._path, encoder.stream, info, min(info.origin, first.pts))

    def _abandon(self, error: FFmpegError) -> SinkError:
        self._closed = True
        if self._file is not None:
            return self._file.abandon(error)
        return SinkError(f"{self.name}: cannot be written: {error.strerror}")
