"""Draw on pictures in any form: BGR, YUV, or on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import cv2
import numpy as np

from squeezedrive.engines.backends.video_decoder import DevicePicture
from squeezedrive.kernels.colours import to_yuv
from squeezedrive.kernels.overlay import Overlay
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.core.planes import YuvPicture

Colour = tuple[int, int, int]  # BGR, 0 to 255
PutText = Callable[[Image, Colour], None]
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2; x2 and y2 are the first column and row outside


class Canvas(ABC):
    """A picture to draw on.

    Attributes
    ----------
    width, height : int
        In pixels.
    """

    width: int
    height: int

    @abstractmethod
    def fill(self, area: Rect, colour: Colour) -> None:
        """Fill the part of a rectangle that lies inside the picture."""

    @abstractmethod
    def write(
        self, area: Rect, plate: Colour, opacity: float, ink: Colour, put_text: PutText
    ) -> None:
        """Fill a rectangle inside the picture with a translucent colour, and put text on it.

        `put_text` gets pixels of the rectangle's size, and the ink as a value of such pixels.
        """


class PixelCanvas(Canvas):
    """A picture whose own pixels are changed at once."""

    def write(
        self, area: Rect, plate: Colour, opacity: float, ink: Colour, put_text: PutText
    ) -> None:
        """Fill a rectangle and put text on it."""
        with self.pixels(area) as pixels:
            _fill(pixels, self.own(plate), opacity)
            put_text(pixels, self.own(ink))

    @abstractmethod
    @contextmanager
    def pixels(self, area: Rect) -> Iterator[Image]:
        """Provide a rectangle inside the picture as an array to draw into, in its own colours."""

    @abstractmethod
    def own(self, colour: Colour) -> Colour:
        """Return a colour as a value in the arrays of `pixels`."""


def canvas_of(picture: Image | YuvPicture) -> Canvas:
    """Return the canvas for a picture."""
    return YuvCanvas(picture) if isinstance(picture, YuvPicture) else BgrCanvas(picture)


class BgrCanvas(PixelCanvas):
    """A picture of uint8 (height, width, 3), BGR."""

    def __init__(self, image: Image) -> None:
        self.height, self.width = image.shape[:2]
        self._image = image

    def fill(self, area: Rect, colour: Colour) -> None:
        """Fill a rectangle."""
        x1, y1, x2, y2 = area
        if x1 < x2 and y1 < y2:
            cv2.rectangle(self._image, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)

    @contextmanager
    def pixels(self, area: Rect) -> Iterator[Image]:
        """Provide a rectangle to draw into, as BGR."""
        x1, y1, x2, y2 = area
        yield self._image[y1:y2, x1:x2]

    def own(self, colour: Colour) -> Colour:
        """Return the colour itself."""
        return colour


class YuvCanvas(PixelCanvas):
    """A picture in YUV 4:2:0.

    Of four pixels, the upper left one gives the colour: the result is as if it were drawn in BGR
    and then converted, while the rest of the picture stays as it was decoded.
    """

    def __init__(self, picture: YuvPicture) -> None:
        self.height, self.width, _ = picture.shape
        self._planes = picture.planes_to_draw()
        self._colours = picture.matrix, picture.full_range

    def fill(self, area: Rect, colour: Colour) -> None:
        """Fill a rectangle."""
        x1, y1, x2, y2 = (max(edge, 0) for edge in area)
        luma, cb, cr = self._planes
        y, u, v = self.own(colour)
        luma[y1:y2, x1:x2] = y
        rows, columns = _sampled(y1, y2), _sampled(x1, x2)
        cb[rows, columns] = u
        cr[rows, columns] = v

    @contextmanager
    def pixels(self, area: Rect) -> Iterator[Image]:
        """Provide a rectangle to draw into, as luma, Cb and Cr, all of full resolution."""
        x1, y1, x2, y2 = area
        luma, cb, cr = self._planes
        whole = slice(y1, y2), slice(x1, x2)
        half = _sampled(y1, y2), _sampled(x1, x2)
        # Chroma of the other pixels is not kept, so it may have any value.
        drawn = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
        sampled = drawn[y1 % 2 :: 2, x1 % 2 :: 2]
        drawn[..., 0] = luma[whole]
        sampled[..., 1] = cb[half]
        sampled[..., 2] = cr[half]
        yield drawn
        luma[whole] = drawn[..., 0]
        cb[half] = sampled[..., 1]
        cr[half] = sampled[..., 2]

    def own(self, colour: Colour) -> Colour:
        """Return luma, Cb and Cr of a colour."""
        return _to_yuv(colour, *self._colours)


class OverlayCanvas(Canvas):
    """A picture on a device, which draws everything when the picture is fetched.

    Attributes
    ----------
    overlay : Overlay
        What has been drawn so far.
    """

    def __init__(self, picture: DevicePicture) -> None:
        self.height, self.width, _ = picture.shape
        self.overlay = Overlay()
        self._matrix = picture.matrix

    def fill(self, area: Rect, colour: Colour) -> None:
        """Fill a rectangle."""
        self.overlay.fill(area, self._own(colour))

    def write(
        self, area: Rect, plate: Colour, opacity: float, ink: Colour, put_text: PutText
    ) -> None:
        """Fill a rectangle, and keep how much of each pixel the text on it covers."""
        x1, y1, x2, y2 = area
        covered = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
        put_text(covered, (255, 255, 255))
        colours = self._own(plate), self._own(ink)
        self.overlay.write(area, colours[0], opacity, colours[1], covered[..., 0])

    def _own(self, colour: Colour) -> Colour:
        return _to_yuv(colour, self._matrix, False)


def _fill(area: Image, colour: Colour, opacity: float) -> None:
    """Fill a picture with a translucent colour."""
    below = area.copy()
    area[:] = colour
    cv2.addWeighted(below, 1.0 - opacity, area, opacity, 0.0, area)


_to_yuv = cache(to_yuv)  # a run has a handful of colours


def _sampled(first: int, end: int) -> slice:
    """Return the chroma samples of the even ones of these pixels."""
    return slice((first + 1) // 2, (end + 1) // 2)
