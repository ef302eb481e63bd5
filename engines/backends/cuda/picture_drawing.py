"""Drawing over pictures in the GPU's memory, on their way to the host."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.stream import CopyStream
from squeezedrive.kernels.overlay import VALUES, Overlay


class PictureKernel(Protocol):
    """`kernels.cuda.draw.DrawKernel`."""

    def enqueue(
        self,
        source: tuple[Any, Any],
        width: int,
        drawing: tuple[int, Any, Any],
        target: Any,
        stream: int,
    ) -> None:
        """Draw over NV12 planes into three planes, one behind the other."""


class PictureDrawer:
    """Draws over pictures and brings them to the host; made with the context current.

    Only what an encoder takes crosses the bus: 1.5 bytes a pixel, through pinned memory.
    One call at a time, each from any thread, with the context current.
    """

    def __init__(self, gpu: GpuContext, kernel: PictureKernel) -> None:
        self._gpu = gpu
        self._kernel = kernel
        self._copies: Any = CopyStream(gpu)
        self._steps = _Mirror(gpu, np.int32, (VALUES,))
        self._coverage = _Mirror(gpu, np.uint8)
        self._pixels = _Mirror(gpu, np.uint8)

    def draw(self, luma: Any, chroma: Any, width: int, overlay: Overlay) -> NDArray[np.uint8]:
        """Return luma, Cb and Cr with the overlay drawn over them, in memory of their own.

        Parameters
        ----------
        luma, chroma : device arrays, uint8 (1, height, pitch), (1, height / 2, pitch)
            NV12, complete; they stay as they are.
        width : int
            In pixels; width and height are even.
        overlay : Overlay
            What is drawn.

        Returns
        -------
        uint8 array (height x width x 3 / 2,)
            The three planes, one behind the other.

        Raises
        ------
        GpuLost, GpuMemoryError
            See `GpuContext`.
        """
        size = luma.shape[1] * width * 3 // 2
        steps, stream = overlay.steps, self._copies.stream
        self._steps.send(steps, stream)
        self._coverage.send(overlay.coverage, stream)
        self._pixels.make_room(size)
        drawing = len(steps), self._steps.device, self._coverage.device
        target = self._pixels.device[:size]
        self._kernel.enqueue((luma, chroma), width, drawing, target, int(stream.handle))
        self._gpu.driver.memcpy_dtoh_async(
            self._pixels.host[:size], int(self._pixels.allocation), stream
        )
        self._copies.wait()
        pixels: NDArray[np.uint8] = self._pixels.host[:size].copy()
        return pixels

    def free(self) -> None:
        """Release everything; nothing can be drawn afterwards."""
        for mirror in (self._steps, self._coverage, self._pixels):
            mirror.free()
        self._copies = None


class _Mirror:
    """Pinned memory of the host and as much on the GPU, which only ever grow."""

    def __init__(self, gpu: GpuContext, dtype: DTypeLike, row: tuple[int, ...] = ()) -> None:
        self._gpu = gpu
        self._dtype, self._row = dtype, row
        self.host: Any = None
        self.allocation: Any = None
        self.device: Any = None

    def make_room(self, rows: int) -> None:
        """Make room for this number of rows; the content is lost if the memory has to grow."""
        if self.device is not None and len(self.host) >= rows:
            return
        self.free()
        rows = 1 << max(rows - 1, 1).bit_length()  # texts differ in size: rarely reallocated
        self.host = self._gpu.driver.pagelocked_empty((rows, *self._row), self._dtype)
        self.allocation = self._gpu.driver.mem_alloc(self.host.nbytes)
        self.device = self._gpu.array(self.allocation, self.host.shape, self._dtype)

    def send(self, values: NDArray[Any], stream: Any) -> None:
        """Enqueue the copy of rows to the GPU; earlier copies have to be complete."""
        self.make_room(len(values))
        if len(values):
            self.host[: len(values)] = values
            self._gpu.driver.memcpy_htod_async(
                int(self.allocation), self.host[: len(values)], stream
            )

    def free(self) -> None:
        """Release both."""
        self.device = None
        if self.host is not None:
            host, self.host = self.host, None
            host.base.free()
        if self.allocation is not None:
            allocation, self.allocation = self.allocation, None
            allocation.free()
