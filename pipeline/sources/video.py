"""Video files and network streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.format import Flags

from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.sources import redact
from pipeline.sources.base import Kind, SourceInfo, SourceOptions, SourceReport
from pipeline.sources.decoder import Decoder
from pipeline.sources.picture import UNSPECIFIED, PictureConverter, display_matrix, swaps_axes
from pipeline.sources.timestamps import Timestamps

DEFAULT_FPS = Fraction(25)
# A video that ends by more than this before the duration it states has been cut off.
CUT_OFF = Fraction(1, 2)  # seconds


class VideoSource:
    """The video of a file or stream that FFmpeg reads.

    The first frame is decoded when the source is opened, so that `info` is final: rotation,
    colours and a stream's first timestamp are known from then on.

    Timestamps and their time base are the container's, so a variable frame rate stays what it is;
    see `Timestamps` for those that are missing or run backwards. Formats without timestamps, such
    as raw H.264, count frames: their time base is 1/fps.

    Damaged frames are counted as "corrupt" and left out; see `Decoder.frames`.

    `frame_id` counts from the first frame of the file. After `options.start` it is computed from
    the time and the average frame rate, which is exact at a constant rate only.

    A URL is a live "stream", except where http leads to a file of known duration: that is a
    "file" without a path, of which no frame is lost.

    Parameters
    ----------
    location : str
        Path of a file, or a URL.
    options : SourceOptions
        How to open it.

    Raises
    ------
    SourceError
        If there is no video in it that can be read.
    SourceTimeout
        If a stream does not answer in time.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        self.report = SourceReport()
        self._name = redact(location)
        self._options = options
        self._convert = PictureConverter().convert
        self._frame_id = -1
        self._pts = 0
        self._size: tuple[int, int] | None = None
        self._decoder = Decoder(location, options)
        try:
            self._prepare_time()
            self._frames = self._good_frames()
            self._first = next(self._frames, None)
            self.info = self._describe(location, self._first)
        except BaseException:
            self._decoder.close()
            raise

    def read(self) -> Frame | None:
        """Return the next good frame, or None at the end."""
        decoded, self._first = self._first or next(self._frames, None), None
        if decoded is None:
            return None
        captured_at = time.monotonic()
        frame_id = self._frame_id
        self._pts = frame_id if self._untimed else self._timestamps.mend(decoded.pts, frame_id)
        image = self._convert(decoded)
        height, width = image.shape[:2]
        if self._size not in (None, (width, height)):
            was = "{}x{}".format(*self._size or ())
            self.report.warn(f"frame size changes from {was} to {width}x{height} at {frame_id=}")
        self._size = width, height
        return Frame(
            self._options.source_id, frame_id, self._pts, self.info.time_base, captured_at, image
        )

    def close(self) -> None:
        """Close the file or connection."""
        self._frames.close()
        self._decoder.close()

    def _prepare_time(self) -> None:
        """Find out rate, time base and zero, and go to where reading starts."""
        container, stream, options = self._decoder.container, self._decoder.stream, self._options
        self._untimed = bool(container.format.flags & Flags.no_timestamps.value)
        if self._untimed:
            self._fps = options.fps or stream.guessed_rate or DEFAULT_FPS
            self._time_base = 1 / self._fps
            self._zero = 0
            fps = f"{float(self._fps):g}"
            self.report.warn(f"{self._name}: has no timestamps, taken as {fps} frames/s (--fps)")
        else:
            self._fps = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
            self._time_base = stream.time_base or Fraction(1, av.time_base)
            # 0:00 is where the container starts, for FFmpeg and players: maybe with its audio.
            zero = Fraction(container.start_time or 0, av.time_base)
            self._zero = round(zero / self._time_base)
        tick = self._time_base
        self._timestamps = Timestamps(round(1 / (self._fps * tick)), round(1 / tick), self.report)
        self._skip = round(Fraction(options.start) / tick)
        if self._skip and not self._untimed:
            self._decoder.skip_to(self._zero + self._skip)

    def _good_frames(self) -> Iterator[av.VideoFrame]:
        stream = self._decoder.stream
        begin = self._zero if stream.start_time is None else stream.start_time
        skipped_ahead: int | None = None  # frames before the first one that is read
        for position, frame in enumerate(self._decoder.frames()):
            if self._untimed:
                skipped_ahead = 0
                if position < self._skip:
                    continue
            if frame is None:
                self.report.skipped["corrupt"] += 1
                continue
            if skipped_ahead is None:
                skipped_ahead = 0
                if self._skip and frame.pts is not None:
                    ahead = round((frame.pts - begin) * self._time_base * self._fps)
                    skipped_ahead = max(ahead - position, 0)
            self._frame_id = skipped_ahead + position
            yield frame
        self._check_end()

    def _check_end(self) -> None:
        seconds = self._duration()
        if seconds is None or self._frame_id < 0:
            return
        end = (self._pts - self._zero) * self._time_base + 1 / self._fps
        if seconds - end > CUT_OFF:
            at, of = float(end), float(seconds)
            self.report.warn(
                f"{self._name}: the video ends early, at {at:.2f} of {of:.2f} s"
                f" (frame {self._frame_id + 1}{self._of_frames()}); the file may be cut off"
            )

    def _describe(self, location: str, first: av.VideoFrame | None) -> SourceInfo:
        stream, seconds = self._decoder.stream, self._duration()
        start = self._options.start
        if first is None and seconds is not None and start >= seconds:
            raise SourceError(
                f"{self._name}: expected a start before its end at {float(seconds):g} s,"
                f" got {start:g} s"
            )
        kind: Kind = "file"
        origin = self._zero + self._skip
        if self._decoder.is_url and not (location.lower().startswith("http") and seconds):
            kind = "stream"
            if first is not None and first.pts is not None:
                origin = first.pts
        width, height = stream.codec_context.width, stream.codec_context.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        primaries = transfer = 1
        if first is not None:
            width, height = first.width, first.height
            if swaps_axes(display_matrix(first)):
                width, height, aspect = height, width, 1 / aspect
            if first.color_primaries != UNSPECIFIED and first.color_trc != UNSPECIFIED:
                primaries, transfer = first.color_primaries, first.color_trc
        frames = self._count(seconds)
        if frames is not None:
            frames = max(frames - max(self._frame_id, 0), 0)
        return SourceInfo(
            name=self._name,
            kind=kind,
            width=width,
            height=height,
            fps=self._fps,
            frames=frames,
            time_base=self._time_base,
            origin=origin,
            path=None if self._decoder.is_url else Path(location),
            sample_aspect=aspect,
            primaries=primaries,
            transfer=transfer,
        )
