"""The interface of video decoders whose pictures stay on a back end's device.

A back end with such a decoder provides it as the property `video_decoder`, an `OpenDecoder`. Its
slots accept in `preprocess` both a `DevicePicture` and a picture on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.overlay import Overlay

Codec = Literal["h264", "hevc"]
ColourMatrix = Literal["bt601", "bt709"]
Plane = NDArray[np.uint8]
ToBgr = Callable[[Plane, Plane], NDArray[np.uint8]]


class DecoderRefused(Exception):
    """The device cannot decode a video; the message gives the reason in a few words."""


class DevicePicture(Protocol):
    """A decoded picture, which owns its memory on the device as long as it is referenced.

    Attributes
    ----------
    shape : tuple of int
        Height, width and 3, as those of the picture on the host.
    matrix : str
        Colour matrix of its luma and chroma, which are of limited range.
    """

    shape: tuple[int, int, int]
    matrix: ColourMatrix

    def to_host(self) -> NDArray[np.uint8]:
        """Copy the picture to the host, as BGR."""

    def to_planes(self, overlay: Overlay) -> tuple[Plane, Plane, Plane]:
        """Copy the picture to the host as YUV, with an overlay drawn over it.

        The picture on the device stays as it is. Width and height have to be even.

        Returns
        -------
        luma : uint8 array (height, width)
        cb, cr : uint8 arrays (height / 2, width / 2)
        """


class VideoDecoder(Protocol):
    """Decodes the packets of one video track into pictures on the device."""

    def decode(self, data: bytes, pts: int) -> Sequence[tuple[int, DevicePicture]]:
        """Decode a packet in Annex B form; return the pictures that are ready, each with its pts.

        Raises
        ------
        DecoderRefused
            If the device cannot decode this video.
        """

    def flush(self) -> Sequence[tuple[int, DevicePicture]]:
        """Return the remaining pictures after the last packet."""

    def close(self) -> None:
        """Release the decoder; its pictures stay valid. It may be called more than once."""


# The arguments are the codec, the colour matrix of the track, and a function that converts luma
# (rows, columns) and interleaved chroma (rows / 2, columns) to BGR. Raises DecoderRefused if the
# device or a package is missing.
OpenDecoder = Callable[[Codec, ColourMatrix, ToBgr], VideoDecoder]
