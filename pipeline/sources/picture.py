"""Convert a decoded FFmpeg frame to an upright picture."""

from __future__ import annotations

from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.reformatter import ColorRange

from squeezedrive.kernels.colours import Matrix
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.core.planes import BT601, BT709, YuvPicture, bgr_of
from squeezedrive.pipeline.sources.hdr import BT2020, TRANSFERS, UNSPECIFIED, to_sdr

HD_LINES = 720
MATRICES: dict[int, Matrix] = {  # code points of ISO/IEC 23091-2
    BT709: "bt709",
    5: "bt601",
    BT601: "bt601",
}
UPRIGHT = (1, 0, 0, 1)  # signs of the display matrix


def picture_of(frame: av.VideoFrame, is_square: bool) -> Image | YuvPicture:
    """Return the picture of a frame: as it is if it can be drawn into and encoded so, else BGR.

    Parameters
    ----------
    frame : av.VideoFrame
        As FFmpeg decoded it.
    is_square : bool
        Whether its pixels are shown as squares.
    """
    tag_colours(frame)
    as_it_is = (
        is_square
        and frame.format.name in ("yuv420p", "yuvj420p")
        and frame.colorspace in MATRICES
        and frame.color_trc not in TRANSFERS
        and frame.width % 2 == frame.height % 2 == 0
        and all(plane.line_size > 0 for plane in frame.planes)  # not from the bottom up
        and tuple(np.sign(display_matrix(frame))) == UPRIGHT
    )
    if not as_it_is:
        return convert(frame)
    full_range = frame.format.name == "yuvj420p" or frame.color_range == ColorRange.JPEG
    return YuvPicture(frame, MATRICES[frame.colorspace], full_range)


def convert(frame: av.VideoFrame) -> Image:
    """Return a frame of any pixel format as an upright BGR picture, which owns its memory.

    What is of high dynamic range becomes SDR, see `to_sdr`.
    """
    tag_colours(frame)
    transfer = frame.color_trc
    if transfer in TRANSFERS:
        image = to_sdr(bgr_of(frame, "bgr48le"), transfer, frame.color_primaries)
    else:
        image = bgr_of(frame, "bgr24")
    return np.ascontiguousarray(turn_upright(image, display_matrix(frame)))


def tag_colours(frame: av.VideoFrame) -> None:
    """Give a frame that has no tag of its colour matrix the one that players take.

    swscale takes BT.601 then; here frames of 720 lines and more count as BT.709.
    """
    if frame.colorspace == UNSPECIFIED:
        if frame.color_trc in TRANSFERS:
            frame.colorspace = BT2020
        else:
            frame.colorspace = BT709 if frame.height >= HD_LINES else BT601


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
    """Return whether a display matrix exchanges width and height."""
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def turn_upright(image: Image, matrix: tuple[int, int, int, int]) -> Image:
    """Turn and mirror a picture as its display matrix requires."""
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
