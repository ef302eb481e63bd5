"""The dashcam: it projects points of the street into the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEAR = 0.4  # metres; closer points are drawn at this distance
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera behind a windscreen that looks straight down the road.

    The street is measured in metres from the ground under the camera: x to the right, y up, z
    forward. Pixel coordinates count from the centre of the top left pixel. The camera does not
    roll or yaw; its pitch is a shift of the horizon, so that house walls stay upright.

    Attributes
    ----------
    width, height : int
        Size of the picture in pixels.
    eye : float
        Height above the road in metres.
    """

    width: int
    height: int
    eye: float = 1.55

    @cached_property
    def focal(self) -> float:
        """Focal length in pixels: 65 degrees across at 16:9, 80 at the aspect of KITTI."""
        degrees = np.clip(65 + 10 * (self.width / self.height - 16 / 9), 45, 85)
        return float(self.width / 2 / np.tan(np.radians(degrees / 2)))

    @cached_property
    def centre_x(self) -> float:
        """Column of the vanishing point."""
        return (self.width - 1) / 2

    @cached_property
    def horizon(self) -> float:
        """Row of the horizon."""
        return 0.465 * self.height

    def project(self, points: Floats) -> Floats:
        """Return the pixels (..., 2) of points (..., 3).

        A point closer than `NEAR` or behind the camera is moved to `NEAR`. Long objects consist of
        lines along the road, and the visible part of such a line does not change by that.
        """
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        return np.stack(
            (
                self.centre_x + points[..., 0] * scale,
                self.horizon + (self.eye - points[..., 1]) * scale,
            ),
            axis=-1,
        )
