"""Colours in YUV, the format of video."""

from __future__ import annotations

from typing import Literal

Matrix = Literal["bt601", "bt709"]

# Parts of red and of blue in luma; the rest is green (ITU-R BT.601 and BT.709).
WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def to_yuv(colour: tuple[int, int, int], matrix: Matrix, full_range: bool) -> tuple[int, int, int]:
    """Return luma, Cb and Cr of a colour, 0 to 255 each.

    Parameters
    ----------
    colour : tuple of int
        Blue, green and red, 0 to 255.
    matrix : str
        "bt601" or "bt709".
    full_range : bool
        Whether luma has the values 0 to 255 and not 16 to 235; chroma likewise.
    """
    kr, kb = WEIGHTS[matrix]
    blue, green, red = colour
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    black, steps, chroma_steps = (0, 255, 255) if full_range else (16, 219, 224)
    values = (
        black + luma * steps / 255,
        128 + cb * chroma_steps / 255,
        128 + cr * chroma_steps / 255,
    )
    y, u, v = (min(max(round(value), 0), 255) for value in values)
    return y, u, v
