"""Pictures in device memory into the network's input, in one pass over the pixels.

Crop, bilinear resize, mean, scale, channel order, layout and half precision at once: a pixel is
read once and the result is written once. The resize does, bit for bit, what `kernels.fit` does
with OpenCV on the CPU, so that a network sees the same pixels on both.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import cuda, from_dtype, types
from numpy.typing import NDArray

from squeezedrive.kernels.colours import WEIGHTS, Matrix
from squeezedrive.kernels.cuda.launch import Kernel
from squeezedrive.kernels.fit import Fit

BLOCK = (32, 8)  # threads: a warp writes 32 neighbouring pixels of a row

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_FULL = np.float32(255)


class Preprocessor:
    """Puts pictures of one size into the network's input.

    Holds nothing but constants, so several streams may share it.

    Parameters
    ----------
    fit : Fit
        Size of the pictures, and where they go.
    matrix : str or None
        None: packed pixels, BGR. "bt601", "bt709": NV12 with this colour matrix, which is luma, and
        chroma of half the resolution with U and V in turn, in limited range, as video decoders
        give it.
    mean : tuple of float
        Is subtracted from each channel; in the network's channel order, as in a profile.
    scale : float
        Is multiplied with the difference.
    channels : str
        The network's channel order, "BGR" or "RGB".
    fill : tuple of int
        Blue, green and red of what the picture does not cover.
    dtype : np.dtype
        float16 or float32: type of the network's input.

    Raises
    ------
    ValueError
        If `matrix`, `channels` or `dtype` is none of these.
    KernelRefused
        If the kernel cannot be compiled or loaded.
    """

    def __init__(
        self,
        fit: Fit,
        matrix: Matrix | None,
        mean: tuple[float, float, float],
        scale: float,
        channels: Literal["BGR", "RGB"],
        fill: tuple[int, int, int],
        dtype: np.dtype[Any],
    ) -> None:
        for name, given, known in (
            ("matrix", matrix, (None, "bt601", "bt709")),
            ("channels", channels, ("BGR", "RGB")),
            ("dtype", np.dtype(dtype).name, ("float16", "float32")),
        ):
            if given not in known:
                choices = ", ".join(map(str, known))
                raise ValueError(f"expected as {name} one of {choices}, got {given!r}")
        self.fit = fit
        self.dtype = np.dtype(dtype)
        swap = channels == "RGB"
        blue_first = mean[::-1] if swap else mean
        shades = [[m, f] for m, f in zip(blue_first, fill, strict=True)]
        x0, y0, x1, y1 = fit.crop
        tx0, ty0, tx1, ty1 = fit.target
        width, height = fit.input_size
        self._constants = (
            cuda.to_device(_taps((x0, x1), (tx0, tx1), width, hold_edge=True)),
            cuda.to_device(_taps((y0, y1), (ty0, ty1), height, hold_edge=False)),
            cuda.to_device(np.array(shades, np.float32)),
            np.float32(scale),
            np.int32(2 if swap else 0),
        )
        self._colours = None if matrix is None else cuda.to_device(_colours(matrix))
        function = resize_bgr if matrix is None else resize_nv12
        self._kernel = Kernel(function, *_argument_types(self.dtype, nv12=matrix is not None))

    def enqueue(self, source: Any, target: Any, stream: int) -> None:
        """Enqueue the preparation of one or more pictures, and return at once.

        Parameters
        ----------
        source : device array, or a pair of them
            BGR: uint8 (B, height, width, 3). NV12: luma, uint8 (B, height, pitch), and
            chroma, uint8 (B, (height + 1) // 2, pitch), each with its own pitch in bytes.
        target : device array (B, 3, input height, input width)
            Of this preprocessor's dtype; every value is written.
        stream : int
            Handle of a CUDA stream; 0 is the default stream.

        Raises
        ------
        ValueError
            If an array does not have the shape or type this preprocessor was made for.
        """
        width, height = self.fit.input_size
        batch = target.shape[0]
        _check("network input", target, (batch, 3, height, width), self.dtype)
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]), batch)
        columns, rows = self.fit.source_size
        if self._colours is None:
            _check("picture", source, (batch, rows, columns, 3), np.dtype(np.uint8))
            self._kernel.enqueue(grid, BLOCK, stream, source, *self._constants, target)
            return
        luma, chroma = source
        pitches = max(luma.shape[2], columns), max(chroma.shape[2], columns + columns % 2)
        _check("luma", luma, (batch, rows, pitches[0]), np.dtype(np.uint8))
        _check("chroma", chroma, (batch, (rows + 1) // 2, pitches[1]), np.dtype(np.uint8))
        self._kernel.enqueue(
            *(grid, BLOCK, stream, luma, chroma, self._colours, *self._constants, target)
        )


def _argument_types(dtype: np.dtype[Any], nv12: bool) -> tuple[Any, ...]:
    """Return the types of the arguments of `resize_bgr` or `resize_nv12`."""
    u1, i4, f4 = types.uint8, types.int32, types.float32
    # Pictures with any strides: views of parts, and rows with a pitch.
    pixels = (types.Array(u1, 3, "A"),) * 2 if nv12 else (types.Array(u1, 4, "A"),)
    colours = (f4[::1],) if nv12 else ()
    target = from_dtype(dtype)[:, :, :, ::1]
    return *pixels, *colours, i4[:, ::1], i4[:, ::1], f4[:, ::1], f4, i4, target


def _check(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise ValueError(
            f"expected a {name} of shape {shape} and type {dtype}, got "
            f"{tuple(array.shape)} and {array.dtype}"
        )


def _taps(
    crop: tuple[int, int], target: tuple[int, int], size: int, hold_edge: bool
) -> NDArray[np.int32]:
    """Return the source pixels and weights of each output pixel of an axis, as in OpenCV.

    Pixel i of n covers the source's i L/n to (i + 1) L/n; the two source pixels whose centres lie
    around its centre are mixed with weights in units of 1/2048. See `INTER_LINEAR` in OpenCV's
    resize.cpp. There a centre outside of the first or last pixel takes that pixel twice: with the
    weights 2048 and 0 on the horizontal axis (`hold_edge`), with those of the distance on the
    vertical one, which rounds differently.

    Returns
    -------
    int32 array (size, 4)
        Number of the first and of the second pixel and their weights. The first number is -1
        where the picture does not reach.
    """
    length, n = crop[1] - crop[0], target[1] - target[0]
    centre = ((np.arange(n) + 0.5) * (length / n) - 0.5).astype(np.float32)
    first = np.floor(centre).astype(np.int32)
    part = centre - first.astype(np.float32)
    if hold_edge:
        part[(first < 0) | (first >= length - 1)] = 0
    weights = np.rint(np.stack([1 - part, part]) * np.float32(2048))
    taps = np.full((size, 4), -1, np.int32)
    inside = taps[target[0] : target[1]]
    inside[:, 0] = crop[0] + first.clip(0, length - 1)
    inside[:, 1] = crop[0] + (first + 1).clip(0, length - 1)
    inside[:, 2:] = weights.T
    return taps


def _colours(matrix: Matrix) -> NDArray[np.float32]:
    """Return the factors of luma, V in red, U and V in green, U in blue for limited range.

    From ITU-R BT.601 and BT.709: red = Y + 2 (1 - kr) Cr, blue = Y + 2 (1 - kb) Cb,
    Y = kr red + kg green + kb blue; Y has 219 steps and Cb, Cr have 224.
    """
    kr, kb = WEIGHTS[matrix]
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    chroma = np.array([red, -blue * kb / kg, -red * kr / kg, blue]) * 255 / 224
    return np.array([255 / 219, *chroma], np.float32)


@cuda.jit(device=True)
def _mix(p00, p01, p10, p11, w_left, w_right, w_upper, w_lower):
    """Mix four pixels, 0 to 255, with the rounding of OpenCV's vectorised `resize`."""
    # Numba would compute in 64 bits what is not cast.
    upper = np.int32(w_left * np.int32(p00)) + np.int32(w_right * np.int32(p01))
    lower = np.int32(w_left * np.int32(p10)) + np.int32(w_right * np.int32(p11))
    upper = np.int32(w_upper * np.int32(upper >> 4)) >> 16
    lower = np.int32(w_lower * np.int32(lower >> 4)) >> 16
    return (np.int32(upper + lower) + 2) >> 2


@cuda.jit
def resize_bgr(picture, columns, rows, shades, scale, swap, target):
    """Compute the three channels of one pixel of the network's input; see `Preprocessor`.

    `shades` holds mean and fill of blue, green and red; `swap` is 2 if red comes first, else 0.
    """
    x, y = cuda.grid(2)
    image = cuda.blockIdx.z
    if y >= target.shape[2] or x >= target.shape[3]:
        return
    x0, x1, y0, y1 = columns[x, 0], columns[x, 1], rows[y, 0], rows[y, 1]
    for channel in range(3):
        if x0 < 0 or y0 < 0:
            value = shades[channel, 1]
        else:
            value = np.float32(
                _mix(
                    picture[image, y0, x0, channel],
                    picture[image, y0, x1, channel],
                    picture[image, y1, x0, channel],
                    picture[image, y1, x1, channel],
                    columns[x, 2],
                    columns[x, 3],
                    rows[y, 2],
                    rows[y, 3],
                )
            )
        target[image, abs(swap - channel), y, x] = (value - shades[channel, 0]) * scale


@cuda.jit(device=True)
def _byte(x):
    """Round to 0..255."""
    x = _ZERO if x < _ZERO else _FULL if x > _FULL else x
    return np.int32(x + _HALF)


@cuda.jit(device=True)
def _pixel(luma, chroma, image, y, x, colours):
    """Return blue, green and red of one pixel; four pixels share a sample of chroma."""
    light = colours[0] * (np.float32(luma[image, y, x]) - np.float32(16))
    even = x & ~1
    u = np.float32(chroma[image, y >> 1, even]) - np.float32(128)
    v = np.float32(chroma[image, y >> 1, even + 1]) - np.float32(128)
    blue = _byte(light + colours[4] * u)
    green = _byte(light + colours[2] * u + colours[3] * v)
    red = _byte(light + colours[1] * v)
    return blue, green, red


@cuda.jit
def resize_nv12(luma, chroma, colours, columns, rows, shades, scale, swap, target):
    """Compute the three channels of one pixel of the network's input; see `Preprocessor`.

    Each of the four pixels that are mixed is converted to BGR first, as on the CPU.
    """
    x, y = cuda.grid(2)
    image = cuda.blockIdx.z
    if y >= target.shape[2] or x >= target.shape[3]:
        return
    x0, x1, y0, y1 = columns[x, 0], columns[x, 1], rows[y, 0], rows[y, 1]
    blue, green, red = shades[0, 1], shades[1, 1], shades[2, 1]
    if x0 >= 0 and y0 >= 0:
        b00, g00, r00 = _pixel(luma, chroma, image, y0, x0, colours)
        b01, g01, r01 = _pixel(luma, chroma, image, y0, x1, colours)
        b10, g10, r10 = _pixel(luma, chroma, image, y1, x0, colours)
        b11, g11, r11 = _pixel(luma, chroma, image, y1, x1, colours)
        left, right, upper, lower = columns[x, 2], columns[x, 3], rows[y, 2], rows[y, 3]
        blue = np.float32(_mix(b00, b01, b10, b11, left, right, upper, lower))
        green = np.float32(_mix(g00, g01, g10, g11, left, right, upper, lower))
        red = np.float32(_mix(r00, r01, r10, r11, left, right, upper, lower))
    target[image, abs(swap - 0), y, x] = (blue - shades[0, 0]) * scale
    target[image, abs(swap - 1), y, x] = (green - shades[1, 0]) * scale
    target[image, abs(swap - 2), y, x] = (red - shades[2, 0]) * scale
