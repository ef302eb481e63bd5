"""Make pictures with square pixels for the network, and convert the boxes back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import cv2

from squeezedrive.engines.backends.video_decoder import DevicePicture
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit, stretch
from squeezedrive.pipeline.core.frame import Frame, Image, shown_size
from squeezedrive.pipeline.core.planes import YuvPicture


def squared(frame: Frame) -> Image | YuvPicture | DevicePicture:
    """Return the picture as it is shown, in square pixels.

    One that has them is returned as it is. Others are never on the device.
    """
    if frame.aspect == 1:
        return frame.picture
    height, width = frame.image.shape[:2]
    size = shown_size(width, height, frame.aspect)
    return cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def stored(found: Detections, frame: Frame) -> Detections:
    """Return what was found in a picture of `squared`, in pixels of the picture as it is stored."""
    if frame.aspect == 1:
        return found
    height, width = frame.picture.shape[:2]
    return replace(found, boxes=_fit(width, height, frame.aspect).to_source(found.boxes))


@lru_cache(16)
def _fit(width: int, height: int, aspect: Fraction) -> Fit:
    return stretch((width, height), shown_size(width, height, aspect))
