"""Decoding of a video track by a back end's device instead of FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from squeezedrive.engines.backends.video_decoder import (
    Codec,
    DecoderRefused,
    DevicePicture,
    OpenDecoder,
    Plane,
)
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.sources.hdr import TRANSFERS
from squeezedrive.pipeline.sources.picture import (
    MATRICES,
    UPRIGHT,
    convert,
    display_matrix,
    tag_colours,
)

CODECS: dict[str, Codec] = {"h264": "h264", "hevc": "hevc"}
NO_PTS = -(1 << 63)  # AV_NOPTS_VALUE


@dataclass
class DeviceFrame:
    """A picture on the device, with the attributes of `av.VideoFrame` that the sources use."""

    pts: int | None
    duration: int
    picture: DevicePicture
    width: int
    height: int
    color_primaries: int
    color_trc: int
    dts: int | None = None
    is_corrupt: bool = False
    interlaced_frame: bool = False


class DeviceTrack:
    """Decodes packets like `av.VideoStream.decode`, with the same timestamps.

    FFmpeg still reads the file, so that nothing of time changes: the packet's pts goes into the
    device's decoder and comes out with the picture.

    Parameters
    ----------
    stream : av.VideoStream
        The track.
    first : av.VideoFrame
        Its first frame, decoded by FFmpeg.
    open_decoder : OpenDecoder
        What the back end offers.

    Raises
    ------
    DecoderRefused
        If it is a kind of video that is better left to FFmpeg.
    """

    def __init__(
        self, stream: av.VideoStream, first: av.VideoFrame, open_decoder: OpenDecoder
    ) -> None:
        self._first = first
        tag_colours(first)
        self._colourspace = first.colorspace
        codec = stream.codec_context.name
        for refused, reason in (
            (codec not in CODECS, f"the codec is {codec}, not h264 or hevc"),
            (first.format.name != "yuv420p", f"the pixels are {first.format.name}, not yuv420p"),
            (self._colourspace not in MATRICES, "the colours are neither BT.601 nor BT.709"),
            (first.color_trc in TRANSFERS, "it is HDR"),
            (first.width % 2 or first.height % 2, f"its size is {first.width}x{first.height}"),
            (first.interlaced_frame, "it is interlaced"),
            (tuple(np.sign(display_matrix(first))) != UPRIGHT, "it has to be turned or mirrored"),
        ):
            if refused:
                raise DecoderRefused(reason)
        self._filter = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        self._duration = first.duration
        self._timed = False
        matrix = MATRICES[self._colourspace]
        self._decoder = open_decoder(CODECS[codec], matrix, self._to_bgr)

    def decode(self, packet: av.Packet | None) -> list[DeviceFrame]:
        """Return the frames that are ready after a packet; None asks for the last ones.

        Raises
        ------
        DecoderRefused
            If the device fails.
        """
        ready: list[tuple[int, DevicePicture]] = []
        for part in self._filter.filter(packet):
            if part.pts is None and not self._timed:  # FFmpeg's decoders make up for that
                raise DecoderRefused("its packets have no timestamps")
            self._timed = True
            pts = NO_PTS if part.pts is None else part.pts
            self._duration = part.duration or self._duration
            ready += self._decoder.decode(bytes(part), pts)
        if packet is None:
            ready += self._decoder.flush()
        first = self._first
        return [
            DeviceFrame(
                pts=None if pts == NO_PTS else pts,
                duration=self._duration,
                picture=picture,
                width=picture.shape[1],
                height=picture.shape[0],
                color_primaries=first.color_primaries,
                color_trc=first.color_trc,
            )
            for pts, picture in ready
        ]

    def close(self) -> None:
        """Release the decoder."""
        self._decoder.close()

    def _to_bgr(self, luma: Plane, chroma: Plane) -> Image:
        """Convert as the pictures that FFmpeg decodes, which have U and V in planes."""
        planes = [luma.ravel(), chroma[:, 0::2].ravel(), chroma[:, 1::2].ravel()]
        packed = np.concatenate(planes).reshape(-1, luma.shape[1])
        frame = av.VideoFrame.from_ndarray(packed, format="yuv420p")
        frame.colorspace = self._colourspace
        return convert(frame)
