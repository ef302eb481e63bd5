"""The interface of the kernels before and after the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import ColourMatrix
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit


class PreprocessKernel(Protocol):
    """`kernels.cuda.preprocess.Preprocessor`, made for one `Fit`."""

    def enqueue(self, source: Any, target: Any, stream: int) -> None:
        """Crop, scale and normalise pictures (B, H, W, 3) into (B, 3, height, width)."""


class DetectKernel(Protocol):
    """`kernels.cuda.detect.DetectKernels`, with a workspace of its own."""

    def enqueue(self, output: Any, result: Any, stream: int) -> None:
        """Decode, select and suppress into a result of fixed size."""

    def update(self) -> None:
        """Apply new parameters to the next repetition of recorded work of `enqueue`."""

    def result_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the result of this number of pictures."""

    def unpack(self, result: NDArray[Any]) -> tuple[Detections, list[int]]:
        """Read a result on the host into memory of its own.

        Returns the detections of all pictures, one after the other, and how many each has.
        """


@dataclass(frozen=True)
class ImageKernels:
    """Functions that make the kernels before and after the network.

    Attributes
    ----------
    make_fit : callable
        Takes (width, height) of a picture, returns how it is put into the network's input.
    preprocessor : callable
        Takes a `Fit` and the colour matrix of NV12 pictures, None for BGR; returns the kernel.
    detector : callable
        Takes the most pictures at a time; returns a detector with a workspace of its own.
    input_shape, output_shape : tuple of int
        Of one picture: (3, height, width) and (channels, rows, columns).
    result_type : np.dtype
        Of the detector's result.
    """

    make_fit: Callable[[tuple[int, int]], Fit]
    preprocessor: Callable[[Fit, ColourMatrix | None], PreprocessKernel]
    detector: Callable[[int], DetectKernel]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    result_type: np.dtype[Any]
