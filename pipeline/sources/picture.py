"""From a decoded FFmpeg frame to an upright BGR picture."""

from __future__ import annotations

from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.sources.hdr import BT2020, TRANSFERS, UNSPECIFIED, to_sdr

BT709 = 1  # code point of ISO/IEC 23091-2
HD_LINES = 720


class PictureConverter:
    """Converts frames of any pixel format to BGR, and turns them the way they are shown.

    swscale applies the colour matrix and range the frame is tagged with. Where there is no tag
    it takes BT.601; here frames of 720 lines and more count as BT.709, as players have it. What is
    of high dynamic range becomes SDR, see `to_sdr`.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> Image:
        """Return a picture that owns its memory and is C-contiguous."""
        transfer = frame.color_trc
        if frame.colorspace == UNSPECIFIED:
            if transfer in TRANSFERS:
                frame.colorspace = BT2020
            elif frame.height >= HD_LINES:
                frame.colorspace = BT709
        # Without scaling, the interpolation only matters for chroma: bilinear costs no more than
        # point here. One thread: the other cores have the other stages to run.
        bgr = self._reformatter.reformat(
            frame,
            format="bgr48le" if transfer in TRANSFERS else "bgr24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        if transfer in TRANSFERS:
            codes = cast(NDArray[np.uint16], bgr.to_ndarray())
            image = to_sdr(codes, transfer, frame.color_primaries)
        else:
            image = cast(Image, bgr.to_ndarray())
        if bgr is frame:  # it was BGR already, and the decoder may still refer to it
            image = image.copy()
        return np.ascontiguousarray(turn_upright(image, display_matrix(frame)))


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the display transformation x' = a x + c y, y' = b x + d y.

    It is stored with phone videos; see `AV_FRAME_DATA_DISPLAYMATRIX` of FFmpeg. Only the signs
    and which entries dominate matter here: pictures are turned by right angles and mirrored.
    """
    # Not frame.side_data: the frame keeps that, and it the frame, whose pixels then wait for the
    # garbage collector, a hundred megabytes of them.
    data = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if not isinstance(data, SideData):
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(data), np.int32)
    return int(matrix[0]), int(matrix[1]), int(matrix[3]), int(matrix[4])


def swaps_axes(matrix: tuple[int, int, int, int]) -> bool:
    """Say whether a display matrix exchanges width and height."""
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def turn_upright(image: Image, matrix: tuple[int, int, int, int]) -> Image:
    """Return the picture as the display matrix wants it shown."""
    a, b, c, d = matrix
    if swaps_axes(matrix):
        upright = cv2.transpose(image)
        mirror_x, mirror_y = c < 0, b < 0
    else:
        upright = image
        mirror_x, mirror_y = a < 0, d < 0
    if mirror_x or mirror_y:
        upright = cv2.flip(upright, -1 if mirror_x and mirror_y else int(mirror_x), upright)
    return cast(Image, upright)
