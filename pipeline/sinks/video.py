"""Annotated video: H.264 in MP4, with the source's timestamps and audio."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from pipeline.errors import SinkError
from pipeline.frame import Image
from pipeline.sinks.audio import AudioTracks
from pipeline.sinks.base import Result
from pipeline.sources.base import DEFAULT_FPS, Source

BT601 = 6  # colour matrix, a code point of ISO/IEC 23091-2; the one OpenCV converts with
KEYFRAME_SECONDS = 1
FRAGMENT_SECONDS = Fraction(1, 2)
SYNC_SECONDS = 1.0
# No B-frames: a fifth less CPU time for an eighth more bytes, and packets leave in the order they
# are shown. Key frames are set by time, so the encoder's own limit is put out of the way.
ENCODER = {"bf": "0", "rc-lookahead": "5", "g": "1000000"}
# While it is written, the file is a row of fragments that each can be played; closing makes it a
# plain MP4. `delay_moov` and `use_editlist` keep the time at which each track begins.
MUXER = {
    "movflags": "hybrid_fragmented+delay_moov",
    "frag_duration": str(round(FRAGMENT_SECONDS * av.time_base)),
    "use_editlist": "1",
    "avoid_negative_ts": "disabled",
    # Sound that pauses may not keep the picture in memory.
    "max_interleave_delta": str(av.time_base),
}


class VideoSink:
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
    preset : str
        Speed of libx264, "ultrafast" to "veryslow".
    crf : int
        Quality of libx264, 0 (best) to 51.
    threads : int
        Of the encoder; 0 for half the cores: the network needs the others, and threads that
        wait for a core cost the encoder more than they win.

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
        self._options = {**ENCODER, "preset": preset, "crf": str(crf)}
        self._threads = threads or max(len(os.sched_getaffinity(0)) // 2, 1)
        self._file: _SyncedFile | None = None
        self._output: OutputContainer
        self._warnings: list[str] = []
        self._audio: AudioTracks | None = None
        self._held: av.Packet | None = None
        self._last_key: int | None = None
        self._closed = False

    @property
    def warnings(self) -> list[str]:
        """One line for everything missing from the output that did not end the run."""
        return self._warnings + (self._audio.warnings if self._audio is not None else [])

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
            if self._file is None:
                self._open(result.frame.image, result.frame.pts)
            self._encode(result.frame.image, result.frame.pts - self._origin)
        except (OSError, FFmpegError) as error:
            raise self._abandon(error) from error
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file; does nothing if no frame was written or writing has failed.

        Raises
        ------
        SinkError
            If the end cannot be written. What was written before can be played.
        """
        if self._file is None or self._closed:
            return
        try:
            self._mux(self._stream.encode(None))
            if self._held is not None:
                self._write(self._held, self._step)
            if self._audio is not None:
                self._audio.finish(self._end)
            self._output.close()
            self._file.sync()
            self._file.close()
        except (OSError, FFmpegError) as error:
            raise self._abandon(error) from error
        self._closed = True

    def _open(self, image: Image, first_pts: int) -> None:
        info = self._source.info
        self._time_base = info.time_base
        self._origin = min(info.origin, first_pts)
        fps = info.fps or DEFAULT_FPS
        self._step = max(round(1 / (fps * info.time_base)), 1)
        height, width = image.shape[:2]
        self._size = width, height
        width, height = _even(width), _even(height)
        self._yuv = np.empty((height * 3 // 2, width), np.uint8)
        # x264 keeps a copy of its own, so that one frame serves for all.
        self._frame = av.VideoFrame(width, height, "yuv420p")
        file = _SyncedFile(self._path)
        # Where a track begins is stored in the movie's time scale: make it that of the pictures.
        options = {**MUXER, "movie_timescale": str(_track_timescale(info.time_base))}
        self._output = av.open(file, "w", format="mp4", container_options=options)
        self._file = file
        stream = self._output.add_stream("libx264", rate=fps, options=self._options)
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.thread_count = self._threads
        context.time_base = stream.time_base = info.time_base
        context.sample_aspect_ratio = info.sample_aspect
        context.color_range = ColorRange.MPEG
        context.colorspace = BT601
        context.color_primaries = info.primaries
        context.color_trc = info.transfer
        self._stream = stream
        if info.path is not None:
            zero = self._origin * self._time_base
            try:
                self._audio = AudioTracks(info.path, self._output, zero)
            except FFmpegError as error:
                self._warnings.append(f"{info.path}: audio cannot be read: {error.strerror}")

    def _encode(self, image: Image, pts: int) -> None:
        cv2.cvtColor(self._fit(image), cv2.COLOR_BGR2YUV_I420, dst=self._yuv)
        begin = 0
        for plane in self._frame.planes:  # `from_numpy_buffer` needs a height divisible by 4
            height, width = plane.height, plane.width
            rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(height, plane.line_size)
            end = begin + height * width
            rows[:, :width] = self._yuv.reshape(-1)[begin:end].reshape(height, width)
            begin = end
        self._frame.pts = pts
        self._frame.time_base = self._time_base
        is_key = (
            self._last_key is None or (pts - self._last_key) * self._time_base >= KEYFRAME_SECONDS
        )
        self._frame.pict_type = PictureType.I if is_key else PictureType.NONE
        if is_key:
            self._last_key = pts
        self._mux(self._stream.encode(self._frame))

    def _fit(self, image: Image) -> Image:
        """Return the picture in the size of the first one, made even."""
        width, height = self._size
        if image.shape[:2] != (height, width):
            rows, columns = image.shape[:2]
            scale = min(width / columns, height / rows)
            size = max(round(columns * scale), 1), max(round(rows * scale), 1)
            x, y = (width - size[0]) // 2, (height - size[1]) // 2
            canvas = np.zeros((height, width, 3), np.uint8)
            canvas[y : y + size[1], x : x + size[0]] = cv2.resize(image, size)
            image = canvas
        if width % 2 or height % 2:
            padded = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            return cast(Image, padded)
        return image

    def _mux(self, packets: list[av.Packet]) -> None:
        """Write packets one late, when the next one tells how long they are shown."""
        for packet in packets:
            held, self._held = self._held, packet
            if held is not None:
                self._write(held, (packet.pts or 0) - (held.pts or 0))

    def _write(self, packet: av.Packet, duration: int) -> None:
        packet.duration = duration
        self._end = ((packet.pts or 0) + duration) * self._time_base
        if self._audio is not None:
            self._audio.write_until(self._end)
        self._output.mux(packet)

    def _abandon(self, error: Exception) -> SinkError:
        """Leave the file as it is on disk, and say why."""
        self._closed = True
        # PyAV writes no trailer to a file that is closed already. A trailer that fails half way
        # would take what can be played with it.
        if self._file is not None:
            self._file.close()
            self._output.close()
        if self._audio is not None:
            self._audio.close()
        reason = getattr(error, "strerror", None) or str(error)
        return SinkError(f"{self.name}: cannot be written: {reason}")


class _SyncedFile:
    """A file for the muxer, whose errors appear at once and whose contents survive a power cut."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.closed = False
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._synced_at = time.monotonic()

    def write(self, data: bytes) -> int:
        """Write all of the data."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()
        return len(data)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fdatasync(self._descriptor)
        self._synced_at = time.monotonic()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


def _even(size: int) -> int:
    return size + size % 2


def _track_timescale(time_base: Fraction) -> int:
    """Return the time scale FFmpeg's MP4 muxer gives a track: a multiple, at least 10,000."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale
