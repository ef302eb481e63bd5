"""Sun, haze, and random patterns for surfaces."""

from __future__ import annotations

from math import exp

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.street.camera import Floats

SUN = np.array((0.42, 0.74, -0.53))  # unit vector to the sun: high, behind the camera, right
HAZE = np.array((222.0, 214.0, 204.0))  # BGR at infinite distance
VEIL = float(HAZE.mean())  # the haze as a grey, which is enough in some places
VISIBILITY = 260.0  # metres at which haze hides 63 %


def shade(normals: Floats) -> Floats:
    """Return the brightness (n,) of surfaces with outward unit normals (n, 3)."""
    brightness: Floats = 0.42 + 0.42 * np.maximum(normals @ SUN, 0) + 0.13 * (1 + normals[:, 1])
    return brightness


def haze(distance: float) -> float:
    """Return the share of haze, 0 to 1, in a colour seen from a distance in metres."""
    return 1 - exp(-max(distance, 0.0) / VISIBILITY)


def rng(seed: int, *key: int) -> np.random.Generator:
    """Return the random generator for a seed and keys, which may be negative."""
    return np.random.default_rng([seed, *(2 * k if k >= 0 else -2 * k - 1 for k in key)])


def cloudiness(
    generator: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 4
) -> NDArray[np.float32]:
    """Return smooth noise (height, width) in about -1 to 1 that repeats at its lower edge.

    Parameters
    ----------
    generator : np.random.Generator
        Source of the random numbers.
    shape : tuple of int
        Height and width in pixels.
    cell : float
        Size of the largest lumps in pixels; each further octave halves size and strength.
    octaves : int
        Number of sizes of lumps to add up.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows = max(1, round(height * 2**octave / cell))
        columns = max(1, round(width * 2**octave / cell))
        if rows > height or columns > width:
            break
        grid = generator.uniform(-1, 1, (rows, columns)).astype(np.float32)
        pad = 2
        wrapped = np.pad(grid, pad, mode="wrap")
        size = (round(width * (1 + 2 * pad / columns)), round(height * (1 + 2 * pad / rows)))
        large = cv2.resize(wrapped, size, interpolation=cv2.INTER_CUBIC)
        top, left = (size[1] - height) // 2, (size[0] - width) // 2
        total += large[top : top + height, left : left + width] * np.float32(0.5**octave)
    return total
