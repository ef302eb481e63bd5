"""Fit pictures of any size into the network's input, and map its boxes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

FitMode = Literal["band", "letterbox", "stretch"]


class RowPicture(Protocol):
    """A picture that is not BGR, and makes BGR of those of its rows that are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and 3."""

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Return the rows from `top` up to, not including, `bottom` as BGR."""


HostPicture = NDArray[np.uint8] | RowPicture


def rows_of(picture: HostPicture, top: int, bottom: int) -> NDArray[np.uint8]:
    """Return rows of a picture as BGR: uint8 (bottom - top, width, 3)."""
    if isinstance(picture, np.ndarray):
        return picture[top:bottom]
    return picture.rows(top, bottom)


@dataclass(frozen=True)
class Fit:
    """A rectangle of the source picture and the rectangle of the network's input it is scaled to.

    Attributes
    ----------
    source_size, input_size : tuple of int
        Width and height in pixels.
    crop, target : tuple of int
        x0, y0, x1, y1 in pixels of the source and of the network's input; x1 and y1 are the first
        column and row outside, as in a slice.
    beyond : bool
        Whether boxes may go beyond the crop, to the edges of the picture: see `kernels.head.Head`.

    Raises
    ------
    ValueError
        If a rectangle is empty or not inside its picture.
    """

    source_size: tuple[int, int]
    input_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    beyond: bool = False

    def __post_init__(self) -> None:
        for (width, height), (x0, y0, x1, y1) in (
            (self.source_size, self.crop),
            (self.input_size, self.target),
        ):
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise ValueError(
                    f"expected a rectangle inside a picture of {width}x{height}, got "
                    f"{x0}, {y0}, {x1}, {y1}"
                )

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert boxes from pixels of the network's input to pixels of the source picture.

        Coordinates are scaled without a shift of half a pixel, x_source = x0 + (x - tx) sw / tw,
        as those of the training targets were. Boxes are clipped to the first and last pixel of
        the crop, as the network sees nothing outside of it; with `beyond` to those of the picture.

        Parameters
        ----------
        boxes : float32 array (n, 4)
            Corners x1, y1, x2, y2 in pixels of the input.

        Returns
        -------
        float32 array (n, 4)
        """
        if not len(boxes):
            return boxes
        offset, scale = self._transform
        first, last, edge = self._limits
        scaled = np.minimum(np.maximum((boxes - offset) / scale, first), last)
        # An object cut off by the edge ends on the input's last pixel. The scale alone would map
        # that pixel a little before the last pixel of a larger crop.
        return np.where(boxes >= edge, last, scaled)

    def to_network(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert boxes (n, 4) from pixels of the source picture to pixels of the input, unclipped.

        This is the inverse of `to_source` for boxes inside the crop.
        """
        offset, scale = self._transform
        return boxes * scale + offset

    # Both are cached: every picture needs them, and making an array takes longer than using it.
    @cached_property
    def _limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return where boxes begin and end at most (4,), and from where on they end there.

        The latter, in pixels of the input, is its last one; infinite where the picture goes on.
        """
        x0, y0, x1, y1 = (0, 0, *self.source_size) if self.beyond else self.crop
        first = np.array([x0, y0, x0, y0], np.float32)
        last = np.array([x1 - 1, y1 - 1, x1 - 1, y1 - 1], np.float32)
        ends = np.array(self.crop[2:]) == (x1, y1)
        edge = np.where(ends, np.array(self.input_size) - 1, np.inf)
        return first, last, np.tile(edge, 2).astype(np.float32)

    @cached_property
    def _transform(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return offset and scale (4,) of x_network = x_source scale + offset."""
        x0, y0, x1, y1 = self.crop
        tx0, ty0, tx1, ty1 = self.target
        sx = (tx1 - tx0) / (x1 - x0)
        sy = (ty1 - ty0) / (y1 - y0)
        offset = np.array([tx0 - x0 * sx, ty0 - y0 * sy] * 2, np.float32)
        return offset, np.array([sx, sy] * 2, np.float32)

    def preprocess(
        self, picture: HostPicture, fill: tuple[int, int, int], out: NDArray[np.uint8]
    ) -> None:
        """Write a picture into the network's input: crop, scale, fill the borders.

        Of a picture that is not BGR yet, the rows of the crop become so and no others. The mean is
        subtracted by the network itself.

        Parameters
        ----------
        picture : uint8 array (height, width, 3), or RowPicture
            The source picture, BGR.
        fill : tuple of int
            Blue, green and red of the borders: the mean of the training pictures, so that the
            network sees zeros there.
        out : uint8 array (height, width, 3), C-contiguous
            The result overwrites it.

        Raises
        ------
        ValueError
            If an array does not have the size that this fit was made for.
        """
        for name, pixels, (width, height) in (
            ("picture", picture, self.source_size),
            ("network input", out, self.input_size),
        ):
            dtype = pixels.dtype if isinstance(pixels, np.ndarray) else np.dtype(np.uint8)
            if pixels.shape != (height, width, 3) or dtype != np.uint8:
                raise ValueError(
                    f"expected a {name} of shape {(height, width, 3)} and type uint8, got "
                    f"{pixels.shape} and {dtype}"
                )
        x0, y0, x1, y1 = self.crop
        tx0, ty0, tx1, ty1 = self.target
        cv2.resize(
            rows_of(picture, y0, y1)[:, x0:x1],
            (tx1 - tx0, ty1 - ty0),
            dst=out[ty0:ty1, tx0:tx1],
            interpolation=cv2.INTER_LINEAR,
        )
        # NumPy copies rows some sixty times as fast as it repeats a pixel.
        row = np.full(out.shape[1:], fill, np.uint8)
        out[:ty0] = row
        out[ty1:] = row
        out[ty0:ty1, :tx0] = row[:tx0]
        out[ty0:ty1, tx1:] = row[tx1:]


def make_fit(
    kind: FitMode,
    source_size: tuple[int, int],
    input_size: tuple[int, int],
    centre: float,
    beyond: bool = False,
) -> Fit:
    """Return the fit of this kind; `centre` and `beyond` matter for "band" only.

    Raises
    ------
    ValueError
        If the kind is unknown, a size is not positive or `centre` is outside 0..1.
    """
    if min(*source_size, *input_size) < 1:
        raise ValueError(f"expected sizes of at least 1x1, got {source_size} and {input_size}")
    if kind == "band":
        return replace(band(source_size, input_size, centre), beyond=beyond)
    if kind == "letterbox":
        return letterbox(source_size, input_size)
    if kind == "stretch":
        return stretch(source_size, input_size)
    raise ValueError(f'expected the fit "band", "letterbox" or "stretch", got {kind!r}')


def band(source_size: tuple[int, int], input_size: tuple[int, int], centre: float) -> Fit:
    """Return the fit that takes a band of full width at the network's aspect ratio.

    The band's middle lies at the fraction `centre` of the picture's height, 0 at the top, unless
    it has to be moved to stay inside. A picture too wide for a band is letterboxed.
    """
    if not 0 <= centre <= 1:
        raise ValueError(f"expected the centre of the band as a fraction 0 to 1, got {centre}")
    width, height = source_size
    rows = max(1, round(width * input_size[1] / input_size[0]))
    if rows > height:
        return letterbox(source_size, input_size)
    top = min(max(0, round(centre * height - rows / 2)), height - rows)
    return Fit(source_size, input_size, (0, top, width, top + rows), (0, 0, *input_size))


def letterbox(source_size: tuple[int, int], input_size: tuple[int, int]) -> Fit:
    """Return the fit that shows the whole picture in its own aspect ratio, in the middle."""
    scale = min(input_size[0] / source_size[0], input_size[1] / source_size[1])
    width = max(1, round(source_size[0] * scale))
    height = max(1, round(source_size[1] * scale))
    x = (input_size[0] - width) // 2
    y = (input_size[1] - height) // 2
    return Fit(source_size, input_size, (0, 0, *source_size), (x, y, x + width, y + height))


def stretch(source_size: tuple[int, int], input_size: tuple[int, int]) -> Fit:
    """Return the fit that scales the whole picture to the whole input, as the authors' code does.

    Objects of a 16:9 picture become 1.83 times too flat in an input of 1248x384.
    """
    return Fit(source_size, input_size, (0, 0, *source_size), (0, 0, *input_size))
