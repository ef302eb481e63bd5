"""Video decoders that leave pictures on a back end's device: what they look like to a source.

A back end that has one offers it as its attribute `video_decoder`, an `OpenDecoder`, and its
slots take a `DevicePicture` in `preprocess` as well as a picture of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Codec = Literal["h264", "hevc"]
ColourMatrix = Literal["bt601", "bt709"]
Plane = NDArray[np.uint8]
ToBgr = Callable[[Plane, Plane], NDArray[np.uint8]]


class DecoderRefused(Exception):
    """A video that cannot be decoded on the device; the message says why in a few words."""


class DevicePicture(Protocol):
    """A decoded picture in the device's memory, which it owns until it is forgotten.

    Attributes
    ----------
    shape : tuple of int
        Height, width and 3, as those of the picture on the host.
    """

    shape: tuple[int, int, int]

    def to_host(self) -> NDArray[np.uint8]:
        """Copy the picture to the host, as BGR."""


class VideoDecoder(Protocol):
    """Turns the packets of one video track into pictures on the device."""

    def decode(self, data: bytes, pts: int) -> Sequence[tuple[int, DevicePicture]]:
        """Take a packet in Annex B form; return the pictures that are ready, each with its pts.

        Raises
        ------
        DecoderRefused
            If the device cannot decode this video.
        """

    def flush(self) -> Sequence[tuple[int, DevicePicture]]:
        """Return the pictures that are still held after the last packet."""

    def close(self) -> None:
        """Release the decoder; its pictures stay. May be called more than once."""


# Codec, colour matrix of the track, and how a copy of luma (rows, columns) and interleaved chroma
# (rows / 2, columns) becomes BGR. Raises DecoderRefused if the device or a package is missing.
OpenDecoder = Callable[[Codec, ColourMatrix, ToBgr], VideoDecoder]
