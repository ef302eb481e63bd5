"""Where one picture of a batch lies on the GPU, and its path into the network's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels, PreprocessKernel
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.engines.backends.video_decoder import ColourMatrix
from squeezedrive.kernels.fit import Fit

Picture = NDArray[np.uint8] | NvPicture


@dataclass(frozen=True, eq=False)
class InputPath:
    """How pictures of one size and kind get into the network's input.

    Attributes
    ----------
    fit : Fit
        Where they go.
    matrix : str or None
        Colour matrix of pictures that the GPU has decoded; None for pictures of the host.
    kernel : Preprocess
        Puts them there. From the host it gets the rows of the crop only, so for it the picture
        begins there.
    """

    fit: Fit
    matrix: ColourMatrix | None
    kernel: PreprocessKernel

    @property
    def rows(self) -> slice:
        """Which rows of a picture the network sees."""
        return slice(self.fit.crop[1], self.fit.crop[3])


def make_path(
    kernels: ImageKernels, size: tuple[int, int], matrix: ColourMatrix | None
) -> InputPath:
    """Prepare for pictures of a size (width, height); see `InputPath`."""
    fit = seen = kernels.make_fit(size)
    if matrix is None:
        x0, top, x1, bottom = fit.crop
        seen = replace(fit, source_size=(size[0], bottom - top), crop=(x0, 0, x1, bottom - top))
    return InputPath(fit, matrix, kernels.preprocessor(seen, matrix))


class InputSlot:
    """A picture's row of the network's input, and the memory that it is filled from.

    Parameters
    ----------
    target : device array (1, 3, height, width)
        The row.
    settle : callable
        Waits for all that has been enqueued; called before memory is exchanged for more.

    Attributes
    ----------
    path : InputPath or None
        How the picture gets into the network's input; None while there is no picture.
    host : uint8 array (rows, width, 3) or None
        The pixels to be copied to `address`, pinned; None for a picture that the GPU has decoded.
    """

    def __init__(self, gpu: GpuContext, target: Any, settle: Callable[[], None]) -> None:
        self.path: InputPath | None = None
        self.host: Any = None
        self._gpu = gpu
        self._target = target
        self._settle = settle
        # Pinned host memory and device memory, which only ever grow.
        self._pinned: Any = None
        self._device: Any = None
        self._source: Any = None
        self._decoded: NvPicture | None = None

    def take(self, picture: Picture, path: InputPath) -> None:
        """Copy a picture into memory that the GPU reads by itself; the one before has been read.

        Of a picture of the host, the rows that the network sees are copied. One that the GPU has
        decoded stays where it is, and is kept until the next one, so that its memory is not used
        again too early.
        """
        if isinstance(picture, NvPicture):
            self.host = None
            self._decoded, self._source = picture, (picture.luma, picture.chroma)
        else:
            pixels = picture[path.rows]
            if path is not self.path:
                self.forget()
                self._make_room(pixels.shape)
            np.copyto(self.host, pixels)
        self.path = path

    @property
    def address(self) -> int:
        """Where `host` has to be copied."""
        return int(self._device)

    def preprocess(self, stream: int) -> None:
        """Enqueue what fills the row, on a stream given by its handle."""
        assert self.path is not None
        self.path.kernel.enqueue(self._source, self._target, stream)

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes of the network in pixels of the picture."""
        assert self.path is not None
        return self.path.fit.to_source(boxes)

    def forget(self) -> None:
        """Let go of the picture, which has been read, but not of the memory."""
        self.path = self.host = self._source = self._decoded = None

    def free(self) -> None:
        """Release the memory."""
        self.forget()
        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            pinned.base.free()
        if self._device is not None:
            device, self._device = self._device, None
            device.free()

    def _make_room(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape))
        if self._device is None or size > self._pinned.nbytes:
            self._settle()
            self.free()
            driver = self._gpu.driver
            self._pinned = driver.pagelocked_empty((size,), np.uint8)
            self._device = driver.mem_alloc(size)
        self.host = self._pinned[:size].reshape(shape)
        self._source = self._gpu.array(self._device, (1, *shape), np.uint8)
