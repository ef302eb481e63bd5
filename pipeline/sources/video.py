"""Video files and network streams."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av

from squeezedrive.engines.backends.video_decoder import DecoderRefused, OpenDecoder
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.identity import Identity
from squeezedrive.pipeline.core.source import (
    DEFAULT_FPS,
    Source,
    SourceInfo,
    SourceKind,
    SourceOptions,
    VideoPart,
)
from squeezedrive.pipeline.sources.clock import read_clock
from squeezedrive.pipeline.sources.decoder import AnyFrame, Decoder
from squeezedrive.pipeline.sources.device import DeviceFrame, DeviceTrack
from squeezedrive.pipeline.sources.hdr import TRANSFERS, UNSPECIFIED
from squeezedrive.pipeline.sources.identity import read_identity
from squeezedrive.pipeline.sources.names import STDIN, shown
from squeezedrive.pipeline.sources.picture import display_matrix, picture_of, swaps_axes
from squeezedrive.pipeline.sources.timestamps import Timestamps
from squeezedrive.pipeline.sources.tracks import describe_choice

# A video that ends by more than this before the duration it states has been cut off.
CUT_OFF = Fraction(1, 2)  # seconds
MAX_JUMPS = 20  # of the clock, reported one by one
MAX_ASPECT = 4  # of a pixel, width over height or height over width


class VideoSource(Source):
    """The video of a file or stream that FFmpeg reads.

    The first frame is decoded when the source is opened, so that `info` is final: rotation,
    colours and a stream's first timestamp are known from then on.

    Timestamps and their time base are the container's, so a variable frame rate stays what it is;
    see `Continuity` for clocks that jump, `Timestamps` for those that are missing. Formats without
    timestamps, such as raw H.264, count frames: their time base is 1/fps. Live, as with JPEG
    pictures over HTTP, the time at which a frame arrives takes its place, in microseconds.

    Damaged frames are counted as "corrupt" and left out; see `Decoder.frames`.

    `frame_id` counts from the first frame of the file. After `options.start` it is computed from
    the time and the average frame rate, which is exact at a constant rate only. In a part of a file
    it is exact, see `plan_parts`; time too is counted from the beginning of the file.

    A URL is a live "stream", except where http leads to a file of known duration: that is a
    "file" without a path, of which no frame is lost. So is a pipe, which is waited for as long as
    somebody may write to it.

    Parameters
    ----------
    location : str
        Path of a file or FIFO, "-" for a pipe at standard input, or a URL.
    options : SourceOptions
        How to open it.
    track : DeviceTrack, optional
        Decodes in place of FFmpeg; see `on_device`.

    Raises
    ------
    SourceError
        If there is no video in it that can be read.
    SourceTimeout
        If a stream does not answer in time.
    """

    def __init__(
        self, location: str, options: SourceOptions, track: DeviceTrack | None = None
    ) -> None:
        super().__init__()
        self._name = shown(location)
        self._location = location
        self._options = options
        self._frame_id = -1  # of the last frame decoded
        self._pts = 0  # of the last frame passed on
        self._jumped_at: int | None = None  # pts at which the last jump of the clock was closed
        self._size = ""
        self._size_changed = False
        self._decoder = Decoder(location, options, track)
        try:
            self._clock = clock = read_clock(self._decoder, location, options)
            if options.track_index is None:
                choice = describe_choice(self._decoder.container, self._decoder.stream)
                if choice is not None:
                    self.report.warn(f"{self._name}: {choice}")
            if clock.untimed and clock.fps is not None and not clock.live:
                fps = f"{float(clock.fps):g}"
                self.report.warn(
                    f"{self._name}: has no timestamps, taken as {fps} frames/s (--fps)"
                )
            if not (clock.live or clock.untimed):
                self._decoder.mend_clock(1 / (clock.fps or DEFAULT_FPS))
            self._timestamps = Timestamps(clock.step, round(1 / clock.time_base), self.report)
            self._skip = math.ceil(Fraction(str(options.start)) / clock.time_base)
            if options.part is not None and options.part.number > 1:
                self._decoder.skip_to(options.part.begin)
            elif self._skip and not clock.untimed:
                self._decoder.skip_to(clock.zero + self._skip)
            self._frames = self._good_frames()
            self._first = next(self._frames, None)
            self._first_at = time.monotonic()
            start = self._decoder.stream.start_time
            if clock.live and self._first and self._first.pts is None and start is not None:
                self._first.pts = start - clock.step  # RTSP has times from the second one on
            self.info = self._describe(location, self._first)
        except BaseException:
            self._decoder.close()
            raise

    def read(self) -> Frame | None:
        """Return the next good frame, or None at the end."""
        first, self._first = self._first, None
        try:
            decoded = first or next(self._frames, None)
        except DecoderRefused as error:
            raise SourceError(f"{self._name}: {error}; --decode cpu does without it") from None
        if decoded is None:
            return None
        # The first frame of a file is there when it is asked for, that of a stream has waited.
        clock = self._clock
        waited = clock.live and first is not None
        captured_at = self._first_at if waited else time.monotonic()
        frame_id = self._frame_id
        if clock.live:
            pts = round(captured_at / clock.time_base) if clock.untimed else decoded.pts
            self._pts = self._timestamps.mend(pts, frame_id, captured_at)
        else:
            self._pts = frame_id if clock.untimed else self._timestamps.mend(decoded.pts, frame_id)
        picture = (
            decoded.picture
            if isinstance(decoded, DeviceFrame)
            else picture_of(decoded, is_square=self.info.pixel_aspect == 1)
        )
        self._watch_size(f"{picture.shape[1]}x{picture.shape[0]}")
        return Frame(
            self._options.source_id,
            frame_id,
            self._pts,
            self.info.time_base,
            captured_at,
            picture,
            self.info.pixel_aspect,
        )

    def on_device(self, open_decoder: OpenDecoder) -> VideoSource:
        """Return this source, which nothing was read from yet, with a decoder on the device.

        This one is closed then.

        Raises
        ------
        DecoderRefused
            If there is no decoder for this video; this source can still be read.
        """
        if self._decoder.is_url:
            raise DecoderRefused("it is read over a network")
        if self._decoder.is_pipe:
            raise DecoderRefused("it comes through a pipe")
        if self.info.pixel_aspect != 1:
            raise DecoderRefused("its pixels are not square")
        if not isinstance(self._first, av.VideoFrame):
            raise DecoderRefused("it has no frames")
        track = DeviceTrack(self._decoder.stream, self._first, open_decoder)
        moved = type(self)(self._location, self._options, track)
        if moved._first is None:
            moved.close()
            raise DecoderRefused("the device finds no frames in it")
        self.close()
        return moved

    def interrupt(self) -> None:
        """End the wait for a pipe now and for good; other waits end with their time-out."""
        self._decoder.interrupt()

    def close(self) -> None:
        """Close the file, pipe or connection."""
        self._frames.close()
        self._decoder.close()

    def _good_frames(self) -> Generator[AnyFrame, None, None]:
        clock = self._clock
        part = self._options.part
        before: int | None = None if self._skip and not clock.untimed else 0
        if part is not None:
            before = part.first
        for position, frame in enumerate(self._decoder.frames()):
            if clock.untimed and position < self._skip:
                continue
            if frame is None:
                self.report.skipped["corrupt"] += 1
                continue
            if part is not None and _is_after(frame, part):
                missing = part.frames - position
                if missing > 0:  # dropped by the decoder without a word
                    self.report.skipped["corrupt"] += missing
                return
            if before is None:  # how many frames there are before those that are read
                begin = self._decoder.stream.start_time or 0
                ahead = ((frame.pts or begin) - begin) * clock.time_base
                before = round(ahead * (clock.fps or DEFAULT_FPS)) - position
            self._frame_id = before + position
            self._watch_clock(frame.pts)
            yield frame
        self._check_end()

    def _watch_clock(self, pts: int | None) -> None:
        """Report the jumps of the clock that were closed up to a frame."""
        jumps = self._decoder.jumps
        while jumps and (pts is None or jumps[0][0] <= pts):
            at, seconds = jumps.pop(0)
            if self._jumped_at is not None and at <= self._jumped_at:
                continue  # comes again where damage made the file be read again
            self._jumped_at = at
            self.report.jumps += 1
            if self.report.jumps <= MAX_JUMPS:
                where = "ahead" if seconds > 0 else "back"
                self.report.warn(
                    f"{self._name}: the clock jumps {where} by {abs(float(seconds)):.2f} s"
                    f" at frame {self._frame_id}, closed"
                )

    def _check_end(self) -> None:
        clock = self._clock
        if self.report.jumps > MAX_JUMPS:
            self.report.warn(f"{self._name}: the clock jumps {self.report.jumps} times, closed")
        # The length in the file's header is wrong if its clock jumps.
        if clock.end is None or self._frame_id < 0 or self._decoder.has_jumped:
            return
        end = (self._pts + clock.step - clock.zero) * clock.time_base
        if clock.of_all_tracks and clock.end - (self._decoder.latest - clock.begin) <= CUT_OFF:
            return
        if clock.end - end > CUT_OFF:
            of = f" of {clock.frames}" if clock.frames is not None else ""
            self.report.warn(
                f"{self._name}: the video ends early, at {float(end):.2f} of"
                f" {float(clock.end):.2f} s, after frame {self._frame_id + 1}{of};"
                " the file may be cut off"
            )

    def _describe(self, location: str, first: AnyFrame | None) -> SourceInfo:
        clock, stream, start = self._clock, self._decoder.stream, self._options.start
        container = self._decoder.container
        if first is None and clock.end is not None and start >= clock.end:
            raise SourceError(
                f"{self._name}: expected a start before its end at {float(clock.end):g} s,"
                f" got {start:g} s"
            )
        is_pipe = self._decoder.is_pipe
        if first is None and is_pipe:
            raise SourceError(
                f"{self._name}: has no frames that can be read from a pipe; an MP4 with its index"
                " at the end, as cameras write it, has to be read as a file"
            )
        kind: SourceKind = "file"
        path = None if self._decoder.is_url or is_pipe else Path(location)
        if is_pipe and container.streams.audio:
            self.report.warn(f"{self._name}: its sound is left out: a pipe can be read only once")
        origin = clock.zero + self._skip
        if clock.live:
            kind = "stream"
            if clock.untimed:
                origin = round(self._first_at / clock.time_base)
            elif first is not None and first.pts is not None:
                origin = first.pts
        width, height = stream.codec_context.width, stream.codec_context.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            self.report.warn(
                f"{self._name}: its pixels are said to be {aspect.numerator}:{aspect.denominator},"
                " which no camera has; taken as square"
            )
            aspect = Fraction(1)
        primaries = transfer = 1
        if first is not None:
            width, height = first.width, first.height
            if isinstance(first, av.VideoFrame) and swaps_axes(display_matrix(first)):
                width, height, aspect = height, width, 1 / aspect
            if first.color_trc in TRANSFERS:
                hdr = TRANSFERS[first.color_trc]
                self.report.warn(f"{self._name}: is HDR ({hdr}), shown and written as plain SDR")
            elif UNSPECIFIED not in (first.color_primaries, first.color_trc):
                primaries, transfer = first.color_primaries, first.color_trc
        frames = clock.frames
        if self._options.part is not None:
            frames = self._options.part.frames
        elif frames is not None:
            frames = max(frames - max(self._frame_id, 0), 0)
        return SourceInfo(
            name=self._name,
            kind=kind,
            width=width,
            height=height,
            fps=clock.fps,
            frames=frames,
            time_base=clock.time_base,
            origin=origin,
            path=path,
            location=None if clock.live or is_pipe else self._decoder.url,
            track=stream.index,
            inputs=() if path is None else (path,),
            stem=_output_stem(location) if path or is_pipe else Path(kind),
            sample_aspect=aspect,
            primaries=primaries,
            transfer=transfer,
            identity=Identity() if clock.live else read_identity(container, clock.begin),
        )

    def _watch_size(self, size: str) -> None:
        if self._size and size != self._size and not self._size_changed:
            self._size_changed = True
            self.report.warn(
                f"frame size changes from {self._size} to {size} at frame {self._frame_id}"
            )
        self._size = size


def _is_after(frame: AnyFrame, part: VideoPart) -> bool:
    return frame.pts is not None and part.end is not None and frame.pts >= part.end


def _output_stem(location: str) -> Path:
    """Return where outputs lie: beside a file, or in the current folder for /dev/stdin."""
    path = Path("stdin" if location == STDIN else location)
    return (Path(path.name) if path.parts[:2] == ("/", "dev") else path).with_suffix("")
