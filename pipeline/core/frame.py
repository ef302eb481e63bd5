"""The record that travels through all stages with a picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import DevicePicture
from squeezedrive.kernels.overlay import Overlay
from squeezedrive.pipeline.core.gps import GpsFix
from squeezedrive.pipeline.core.planes import YuvPicture, from_planes

Image = NDArray[np.uint8]  # (height, width, 3), BGR


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return width and height in which a picture has square pixels, neither of them reduced.

    `aspect` is the width of a stored pixel over its height.
    """
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)


@dataclass(frozen=True)
class Frame:
    """One picture of a source, and its time.

    Attributes
    ----------
    source_id : int
        Which source of the run it came from, counted from 0.
    frame_id : int
        Position in the source, counted from 0 at the first frame the source would show; frames
        that could not be decoded keep their number.
    pts : int
        Presentation timestamp in units of `time_base`, as the source gave it.
    time_base : Fraction
        Seconds per unit of `pts`.
    captured_at : float
        `time.monotonic()` when the picture had arrived, in seconds.
    picture : uint8 array (height, width, 3), YuvPicture or DevicePicture
        The picture as it came, upright: BGR, C-contiguous; or YUV as FFmpeg decoded it; or on the
        back end's device, if its decoder made it there. The frame owns it: no source writes to it
        again, and the render stage draws into it.
    aspect : Fraction
        Width of a pixel over its height, when the picture is shown.
    has_gps : bool
        Whether the recording has a track of positions.
    gps : GpsFix or None
        Where the picture was taken; None where the receiver had no fix.
    """

    source_id: int
    frame_id: int
    pts: int
    time_base: Fraction
    captured_at: float
    picture: Image | YuvPicture | DevicePicture
    aspect: Fraction = Fraction(1)
    has_gps: bool = False
    gps: GpsFix | None = None

    @cached_property
    def image(self) -> Image:
        """The picture as BGR on the host, to be drawn into; made when first asked for."""
        if isinstance(self.picture, np.ndarray):
            return self.picture
        return (self._fetched or self.picture).to_host()

    @property
    def yuv(self) -> YuvPicture | None:
        """The picture as YUV, to be drawn into and encoded.

        None if it came in another form, or if `image` was asked for, which may be drawn into.
        """
        if "image" in self.__dict__:
            return None
        return self.picture if isinstance(self.picture, YuvPicture) else self._fetched

    @property
    def on_device(self) -> DevicePicture | None:
        """The picture on the device, unless it was fetched from there."""
        kept = isinstance(self.picture, np.ndarray | YuvPicture) or "image" in self.__dict__
        return None if kept or self._fetched is not None else self.picture  # type: ignore[return-value]

    def fetch(self, overlay: Overlay) -> None:
        """Fetch a picture that is `on_device` as `yuv`, with an overlay drawn over it there."""
        picture = self.on_device
        assert picture is not None
        self.__dict__["_drawn"] = from_planes(picture.to_planes(overlay), picture.matrix)

    @property
    def _fetched(self) -> YuvPicture | None:
        found: YuvPicture | None = self.__dict__.get("_drawn")
        return found

    def to_bgr(self) -> Image:
        """Return the current picture in BGR, to be read only.

        Unlike `image` it is not kept, and the picture can still be drawn into and encoded as YUV.
        Any thread may ask for it.
        """
        return self.image if self.yuv is None else self.yuv.to_host()

    @property
    def seconds(self) -> float:
        """Presentation time in seconds on the source's own clock."""
        return float(self.pts * self.time_base)
