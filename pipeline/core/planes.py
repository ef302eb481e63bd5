"""Pictures in YUV, as decoders give and encoders take them, without conversion to BGR."""

from __future__ import annotations

from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import Plane
from squeezedrive.kernels.colours import Matrix

YuvPlanes = tuple[Plane, Plane, Plane]
BT709, BT601 = 1, 6  # colour matrices, code points of ISO/IEC 23091-2
CODES: dict[Matrix, int] = {"bt709": BT709, "bt601": BT601}


class YuvPicture:
    """A picture of 8 bits in YUV 4:2:0, upright, of even width and height, in SDR.

    Parameters
    ----------
    frame : av.VideoFrame
        Its pixels, of format yuv420p or yuvj420p. A decoder may still refer to them.
    matrix : str
        Its colour matrix, "bt601" or "bt709".
    full_range : bool
        Whether luma has the values 0 to 255 and not 16 to 235.

    Attributes
    ----------
    shape : tuple of int
        Height, width and 3, as those of the picture in BGR.
    """

    def __init__(self, frame: av.VideoFrame, matrix: Matrix, full_range: bool) -> None:
        self.frame = frame
        self.matrix: Matrix = matrix
        self.full_range = full_range
        self.shape = (frame.height, frame.width, 3)

    def planes(self) -> YuvPlanes:
        """Return luma (height, width), Cb and Cr (height / 2, width / 2), to be read.

        They are views with padded rows, and valid until the picture is drawn into.
        """
        luma, cb, cr = (_view(plane) for plane in self.frame.planes)
        return luma, cb, cr

    def planes_to_draw(self) -> YuvPlanes:
        """Return the planes to be written to, as copies if the decoder still refers to them."""
        self.frame.make_writable()
        return self.planes()

    def copy(self) -> YuvPicture:
        """Return a picture with the same pixels in memory of its own."""
        return self._copy(0, self.shape[0])

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Return the rows from `top` up to, not including, `bottom` as BGR."""
        if (top, bottom) == (0, self.shape[0]):
            return self.to_host()
        above = top % 2  # two rows share those of chroma
        band = self._copy(top - above, bottom + bottom % 2)
        return band.to_host()[above : above + bottom - top]

    def to_host(self) -> NDArray[np.uint8]:
        """Return the picture as BGR (height, width, 3), which owns its memory."""
        return bgr_of(self.frame, "bgr24")

    def _copy(self, top: int, bottom: int) -> YuvPicture:
        """Return a copy of some rows, of which the first and their number are even."""
        made = _new_picture(self.shape[1], bottom - top, self.matrix, self.full_range)
        for source, target, share in zip(self.planes(), made.planes(), (1, 2, 2), strict=True):
            np.copyto(target, source[top // share : bottom // share])
        return made


def from_planes(planes: YuvPlanes, matrix: Matrix) -> YuvPicture:
    """Return a picture with pixels of its own, copied from planes of limited range."""
    height, width = planes[0].shape
    made = _new_picture(width, height, matrix, False)
    for target, plane in zip(made.planes(), planes, strict=True):
        np.copyto(target, plane)
    return made


def yuv_of(image: NDArray[np.uint8], matrix: Matrix, full_range: bool) -> YuvPicture:
    """Convert a BGR picture of even width and height to YUV in memory of its own."""
    if (matrix, full_range) != ("bt601", False):
        frame = VideoReformatter().reformat(
            av.VideoFrame.from_numpy_buffer(image, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601,
            dst_color_range=_range(full_range),
            interpolation=Interpolation.AREA,
            threads=1,
        )
        return YuvPicture(frame, matrix, full_range)
    # OpenCV knows only this matrix, and takes a third of the time.
    height, width = image.shape[:2]
    packed = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    made = _new_picture(width, height, matrix, full_range)
    begin = 0
    for plane in made.planes():
        end = begin + plane.size
        np.copyto(plane, packed[begin:end].reshape(plane.shape))
        begin = end
    return made


def bgr_of(frame: av.VideoFrame, form: str) -> NDArray[Any]:
    """Convert a frame to BGR with the colour matrix and range that it is tagged with.

    Parameters
    ----------
    frame : av.VideoFrame
        Of any format.
    form : str
        "bgr24" or "bgr48le".
    """
    # Without scaling, the interpolation only matters for chroma: bilinear costs no more than
    # point here. One thread: the other cores have the other stages to run.
    bgr = VideoReformatter().reformat(
        frame, format=form, interpolation=Interpolation.BILINEAR, threads=1
    )
    image: NDArray[Any] = bgr.to_ndarray()
    # The decoder may still refer to a frame that was BGR already; other frames have padded rows.
    return image.copy() if bgr is frame else np.ascontiguousarray(image)


def _new_picture(width: int, height: int, matrix: Matrix, full_range: bool) -> YuvPicture:
    frame = av.VideoFrame(width, height, "yuv420p")
    frame.colorspace = CODES[matrix]
    frame.color_range = _range(full_range)
    return YuvPicture(frame, matrix, full_range)


def _range(full: bool) -> ColorRange:
    return ColorRange.JPEG if full else ColorRange.MPEG


def _view(plane: av.video.plane.VideoPlane) -> Plane:
    rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
