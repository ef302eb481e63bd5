"""Encode pictures as H.264 packets, with the source's timestamps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from squeezedrive.kernels.colours import Matrix
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.planes import CODES, YuvPicture, yuv_of
from squeezedrive.pipeline.core.source import DEFAULT_FPS, SourceInfo
from squeezedrive.pipeline.sinks.recordings.codec import open_encoder

KEYFRAME_SECONDS = 1


@dataclass(frozen=True)
class EncodedPicture:
    """One picture as H.264, of which any number of files can take a copy."""

    data: bytes
    pts: int  # when it is shown, on the source's clock, in units of its time base
    duration: int  # for how long, likewise
    is_key: bool  # whether a file can begin with it
    repeats: bool = False  # whether it is the one before again, see `Encoder`


class Encoder:
    """Encode pictures one after another, without rounding their timestamps.

    Pictures in YUV are encoded as they are, if they have the size and colours of the first one; all
    others are converted. Pictures of odd size get their last column or row twice, as the format
    needs even sizes; pictures that change in size are fitted into the first one's. The first
    picture is a key frame, and then one a second. MP4 cannot say how long a picture is shown if
    that is for hours; where none comes for so long, the last one is repeated.

    Parameters
    ----------
    info : SourceInfo
        Of the source the frames come from.
    first : Frame
        The frame that will be encoded first; it says how large all are, and in which colours.
    options : VideoConfig
        How to encode.

    Attributes
    ----------
    stream : VideoStream
        What a file has to know of its packets, for `OutputContainer.add_stream_from_template`.

    Raises
    ------
    FFmpegError
        From everything, if the encoder refuses.
    """

    def __init__(self, info: SourceInfo, first: Frame, options: VideoConfig) -> None:
        self._time_base = info.time_base
        self._zero = first.pts
        fps = info.fps or DEFAULT_FPS
        self._step = max(round(1 / (fps * info.time_base)), 1)
        height, width = first.picture.shape[:2]
        self._size = width, height
        width, height = width + width % 2, height + height % 2
        yuv = first.yuv
        self._matrix: Matrix = "bt601" if yuv is None else yuv.matrix
        self._full_range = yuv is not None and yuv.full_range
        # The last one; encoders keep a copy of their own.
        self._frame: av.VideoFrame | None = None

        def describe(stream: VideoStream) -> None:
            context = stream.codec_context
            context.width, context.height = width, height
            context.pix_fmt = "yuv420p"
            context.thread_count = options.threads or max(len(os.sched_getaffinity(0)) // 2, 1)
            context.time_base = stream.time_base = info.time_base
            context.sample_aspect_ratio = info.sample_aspect
            context.color_range = ColorRange.JPEG if self._full_range else ColorRange.MPEG
            context.colorspace = CODES[self._matrix]
            context.color_primaries = info.primaries
            context.color_trc = info.transfer
            context.flags |= Flags.global_header  # MP4 keeps the parameters apart from the packets

        self._container, self.stream = open_encoder(options, fps, describe)
        self._held: av.Packet | None = None
        self._last_key: int | None = None
        self._last: int | None = None  # pts of the last picture
        # MP4 counts in 2**31 units at most, which are finer than the source's if those are coarse.
        units = max(info.time_base.denominator, 20_000)
        self._longest = max(int(2**30 / (units * info.time_base)), 1)
        self._repeated: set[int] = set()  # pts of the repeated pictures that are being encoded

    def encode(self, frame: Frame, key: bool = False) -> list[EncodedPicture]:
        """Encode the picture of a frame; return those that are ready, which are some before it.

        Parameters
        ----------
        frame : Frame
            Shown after the one before.
        key : bool
            Whether it has to be a key frame.
        """
        pts = frame.pts
        repeated = self._repeat_until(pts)
        due = self._last_key is None or (pts - self._last_key) * self._time_base >= KEYFRAME_SECONDS
        if due or key:
            self._last_key = pts
        self._frame = self._yuv(frame).frame
        return repeated + self._encoded(pts, PictureType.I if due or key else PictureType.NONE)

    def _yuv(self, frame: Frame) -> YuvPicture:
        """Return the picture of a frame in the size and colours of the first one's."""
        yuv = frame.yuv
        wanted = self._size, self._matrix, self._full_range
        if yuv is not None:
            height, width, _ = yuv.shape
            if ((width, height), yuv.matrix, yuv.full_range) == wanted:
                return yuv
        return yuv_of(self._fit(frame.to_bgr()), self._matrix, self._full_range)

    def _encoded(self, pts: int, kind: PictureType) -> list[EncodedPicture]:
        """Encode the last frame, to be shown at `pts`."""
        assert self._frame is not None
        self._frame.pts = pts - self._zero
        self._frame.time_base = self._time_base
        self._frame.pict_type = kind
        return self._timed(self.stream.encode(self._frame))

    def _repeat_until(self, pts: int) -> list[EncodedPicture]:
        """Encode the last picture again and again, so that the next one can follow at `pts`."""
        pictures: list[EncodedPicture] = []
        while self._last is not None and pts - self._last > self._longest:
            self._last += self._longest
            self._repeated.add(self._last)
            pictures += self._encoded(self._last, PictureType.NONE)
        self._last = pts
        return pictures

    def flush(self) -> list[EncodedPicture]:
        """Return the pictures that are not ready yet; none can be encoded any more."""
        pictures = self._timed(self.stream.encode(None))
        if self._held is not None:
            pictures.append(self._picture(self._held, self._step))
            self._held = None
        return pictures

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

    def _timed(self, packets: list[av.Packet]) -> list[EncodedPicture]:
        """Return packets one later, when the next one gives their duration."""
        pictures = []
        for packet in packets:
            held, self._held = self._held, packet
            if held is not None:
                pictures.append(self._picture(held, (packet.pts or 0) - (held.pts or 0)))
        return pictures

    def _picture(self, packet: av.Packet, duration: int) -> EncodedPicture:
        pts = (packet.pts or 0) + self._zero
        repeats = pts in self._repeated
        self._repeated.discard(pts)
        return EncodedPicture(bytes(packet), pts, duration, packet.is_keyframe, repeats)
