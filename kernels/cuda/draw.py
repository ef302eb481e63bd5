"""Drawing over decoded pictures in device memory, on their way to an encoder.

One pass over the pixels: NV12 in, as the GPU's decoder gives it, what is drawn over it, and YUV
4:2:0 in three planes out, as encoders of the host take it. The source stays as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types

from squeezedrive.kernels.cuda.launch import Kernel
from squeezedrive.kernels.overlay import (
    BELOW,
    INK,
    NO_TEXT,
    OPACITY,
    OPAQUE,
    TEXT,
    X1,
    X2,
    Y1,
    Y2,
)

BLOCK = (32, 8)  # threads, each of which draws two by two pixels

_HALF = np.float32(0.5)
_OF_OPAQUE = np.float32(1 / OPAQUE)
_OF_255 = np.float32(1 / 255)


class DrawKernel:
    """Draws an `Overlay` over pictures of any size; holds nothing, so streams may share it.

    Raises
    ------
    KernelRefused
        If the kernel cannot be compiled or loaded.
    """

    def __init__(self) -> None:
        self._kernel = Kernel(draw_nv12, *_argument_types())

    def enqueue(
        self, source: tuple[Any, Any], width: int, drawing: tuple[int, Any, Any], target: Any,
        stream: int,
    ) -> None:  # fmt: skip
        """Enqueue the drawing over a picture, and return at once.

        Parameters
        ----------
        source : pair of device arrays
            Luma, uint8 (1, height, pitch), and chroma, uint8 (1, height / 2, pitch), each with its
            own pitch in bytes; the height is even.
        width : int
            Of the picture in pixels, even.
        drawing : (int, device array, device array)
            How many steps there are, `Overlay.steps` and `Overlay.coverage`; both arrays may be
            longer.
        target : device array, uint8 (height x width x 3 / 2,)
            Luma, Cb and Cr, one plane behind the other; every value is written.
        stream : int
            Handle of a CUDA stream; 0 is the default stream.

        Raises
        ------
        ValueError
            If the planes and the target do not fit each other.
        """
        luma, chroma = source
        height = luma.shape[1]
        if width % 2 or height % 2 or luma.shape[2] < width or chroma.shape[2] < width:
            raise ValueError(
                f"expected planes of even size, {width} or more bytes wide, got {luma.shape} and"
                f" {chroma.shape}"
            )
        if chroma.shape[1] != height // 2 or target.shape[0] != height * width * 3 // 2:
            raise ValueError(
                f"expected {height // 2} rows of chroma and {height * width * 3 // 2} bytes for"
                f" {width}x{height}, got {chroma.shape[1]} and {target.shape[0]}"
            )
        count, steps, coverage = drawing
        grid = (-(-width // (2 * BLOCK[0])), -(-height // (2 * BLOCK[1])), 1)
        self._kernel.enqueue(
            *(grid, BLOCK, stream, luma, chroma, np.int32(width), np.int32(count)),
            *(steps, coverage, target),
        )


def _argument_types() -> tuple[Any, ...]:
    """Return the types of the arguments of `draw_nv12`."""
    plane, i4 = types.Array(types.uint8, 3, "A"), types.int32
    return plane, plane, i4, i4, i4[:, ::1], types.uint8[::1], types.uint8[::1]


@cuda.jit(device=True)
def _toward(value, colour, share):
    """Move a value towards a colour, both 0 to 255, by a share of their distance, 0 to 1."""
    value = np.float32(value)
    return np.int32(value + (np.float32(colour) - value) * share + _HALF)


@cuda.jit(device=True)
def _drawn(value, steps, i, channel, covered):
    """Return a value of a pixel, with a step drawn over it; `covered` is that of its text."""
    value = _toward(value, steps[i, BELOW + channel], np.float32(steps[i, OPACITY]) * _OF_OPAQUE)
    if covered > 0:
        value = _toward(value, steps[i, INK + channel], np.float32(covered) * _OF_255)
    return value


@cuda.jit(device=True)
def _covered(x, y, steps, i, coverage):
    """Return how far a step's text covers a pixel, 0 to 255; -1 outside of the step."""
    if x < steps[i, X1] or x >= steps[i, X2] or y < steps[i, Y1] or y >= steps[i, Y2]:
        return np.int32(-1)
    if steps[i, TEXT] == NO_TEXT:
        return np.int32(0)
    row = np.int32((y - steps[i, Y1]) * np.int32(steps[i, X2] - steps[i, X1]))
    return np.int32(coverage[steps[i, TEXT] + row + x - steps[i, X1]])


@cuda.jit
def draw_nv12(luma, chroma, width, count, steps, coverage, target):
    """Draw all steps over two by two pixels; see `DrawKernel`."""
    column, row = cuda.grid(2)
    height = np.int32(luma.shape[1])
    x, y = np.int32(2 * column), np.int32(2 * row)
    if x >= width or y >= height:
        return
    y00, y01 = np.int32(luma[0, y, x]), np.int32(luma[0, y, x + 1])
    y10, y11 = np.int32(luma[0, y + 1, x]), np.int32(luma[0, y + 1, x + 1])
    u, v = np.int32(chroma[0, row, x]), np.int32(chroma[0, row, x + 1])
    for i in range(count):
        if x + 1 < steps[i, X1] or x >= steps[i, X2] or y + 1 < steps[i, Y1] or y >= steps[i, Y2]:
            continue
        covered = _covered(x, y, steps, i, coverage)
        if covered >= 0:
            y00 = _drawn(y00, steps, i, 0, covered)
            u = _drawn(u, steps, i, 1, covered)
            v = _drawn(v, steps, i, 2, covered)
        covered = _covered(x + 1, y, steps, i, coverage)
        if covered >= 0:
            y01 = _drawn(y01, steps, i, 0, covered)
        covered = _covered(x, y + 1, steps, i, coverage)
        if covered >= 0:
            y10 = _drawn(y10, steps, i, 0, covered)
        covered = _covered(x + 1, y + 1, steps, i, coverage)
        if covered >= 0:
            y11 = _drawn(y11, steps, i, 0, covered)
    first = y * width + x
    target[first] = y00
    target[first + 1] = y01
    target[first + width] = y10
    target[first + width + 1] = y11
    sample = height * width + row * (width >> 1) + column
    target[sample] = u
    target[sample + (height >> 1) * (width >> 1)] = v
