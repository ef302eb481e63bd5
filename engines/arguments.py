"""Values of command-line options that several verbs take."""

from __future__ import annotations

import argparse


def input_size(text: str) -> tuple[int, int]:
    """Read "WIDTHxHEIGHT", the size of the network's input in pixels.

    Raises
    ------
    ArgumentTypeError
        If it is not two multiples of 16.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, got {text!r}")
    size = int(width), int(height)
    if min(size) < 16 or any(n % 16 for n in size):
        raise argparse.ArgumentTypeError(f"expected multiples of 16, got {text}")
    return size
