"""A picture that shows the time at which it was made, as black and white squares.

Imports no libraries: the RTSP server runs in the system's Python, without the project's packages.
"""

from __future__ import annotations

import time
from typing import Any

# For milliseconds of `time.monotonic`, which all processes share; repeats after 4.6 hours.
BITS = 24
SQUARES = BITS + 2  # with a margin of one square on either side


def now() -> int:
    """Return the time in milliseconds, as a picture shows it."""
    return int(time.monotonic() * 1000) % (1 << BITS)


def luma(moment: int, width: int, height: int) -> bytes:
    """Return a grey picture (height, width) that shows a moment along its top."""
    square = width // SQUARES
    row = b"\x80" * square
    for bit in range(BITS):
        row += (b"\xeb" if moment >> bit & 1 else b"\x10") * square
    row = row.ljust(width, b"\x80")
    return row * square + b"\x80" * (width * (height - square))


def moment_of(image: Any) -> int:
    """Return the moment that a picture (height, width, 3) shows."""
    square = image.shape[1] // SQUARES
    middle = square // 2
    bits = [image[middle, (bit + 1) * square + middle].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


def age(image: Any) -> float:
    """Return the age of a picture in seconds."""
    return (now() - moment_of(image)) % (1 << BITS) / 1000
