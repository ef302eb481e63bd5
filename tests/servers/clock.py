"""A picture that shows the time it was made, as black and white squares.

No libraries: the RTSP server runs in the system's Python, which has none of the project's.
"""

from __future__ import annotations

import time
from typing import Any

BITS = 24  # milliseconds of `time.monotonic`, which all processes share: four and a half hours
SQUARES = BITS + 2  # with a margin on either side


def now() -> int:
    """Return the time as a picture shows it, in milliseconds."""
    return int(time.monotonic() * 1000) % (1 << BITS)


def luma(moment: int, width: int, height: int) -> bytes:
    """Return a grey picture (height, width) with a moment along its top."""
    square = width // SQUARES
    row = b"\x80" * square
    for bit in range(BITS):
        row += (b"\xeb" if moment >> bit & 1 else b"\x10") * square
    row = row.ljust(width, b"\x80")
    return row * square + b"\x80" * (width * (height - square))


def moment_of(image: Any) -> int:
    """Read the moment back from a picture (height, width, 3)."""
    square = image.shape[1] // SQUARES
    middle = square // 2
    bits = [image[middle, (bit + 1) * square + middle].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


def age(image: Any) -> float:
    """Return for how many seconds a picture has been on its way."""
    return (now() - moment_of(image)) % (1 << BITS) / 1000
