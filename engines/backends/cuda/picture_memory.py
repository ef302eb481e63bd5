"""Memory on the GPU for decoded pictures, which any thread may release."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.picture_drawing import PictureDrawer
from squeezedrive.engines.backends.cuda.stream import CopyStream
from squeezedrive.engines.backends.video_decoder import ToBgr
from squeezedrive.kernels.overlay import Overlay

Layout = tuple[int, int]  # rows, and bytes from one to the next


@dataclass(frozen=True)
class Planes:
    """Luma and chroma of an NV12 picture, each in an allocation of its own.

    Attributes
    ----------
    luma, chroma : Numba device arrays, uint8 (1, height, pitch), (1, (height + 1) // 2, pitch)
        What `kernels.cuda.preprocess` takes.
    layouts : pair of (rows, pitch)
        Of luma and of chroma.
    allocations : pair of pycuda.driver.DeviceAllocation
    """

    luma: Any
    chroma: Any
    layouts: tuple[Layout, Layout]
    allocations: tuple[Any, Any]

    def free(self) -> None:
        """Release the memory, with the context current."""
        for allocation in self.allocations:
            allocation.free()


class PictureMemory:
    """A pool of planes, and the pinned memory through which they come to the host.

    Planes may be given back by any thread, in which no context has to be current, also after
    `close`: the last of them releases everything.
    """

    def __init__(self, gpu: GpuContext) -> None:
        self._gpu = gpu
        # The garbage collector may give planes back in a thread that is taking some.
        self._lock = threading.RLock()
        self._spare: list[Planes] = []
        self._taken = 0
        self._closed = False
        self._fetching = threading.Lock()
        self._pinned: Any = None
        self._drawer: PictureDrawer | None = None
        with gpu.current():
            self._filler: Any = CopyStream(gpu)
            self._fetcher: Any = CopyStream(gpu)

    @property
    def stream(self) -> int:
        """Handle of the stream on which `fill` copies."""
        return int(self._filler.stream.handle)

    def take(self, luma: Layout, chroma: Layout) -> Planes:
        """Return planes of these layouts, from the pool if it has any.

        Raises
        ------
        GpuMemoryError
            If there is not enough memory.
        """
        with self._lock, self._gpu.current():
            while self._spare:
                planes = self._spare.pop()
                if planes.layouts == (luma, chroma):
                    break
                planes.free()
            else:
                planes = self._allocate(luma, chroma)
            self._taken += 1
            return planes

    def give_back(self, planes: Planes) -> None:
        """Return planes to the pool; nothing may read them any more."""
        with self._lock:
            self._taken -= 1
            self._spare.append(planes)
            if self._closed:
                self._release()

    def fill(self, planes: Planes, addresses: tuple[int, int]) -> None:
        """Copy pixels of the same layouts within the GPU, and wait for the copy.

        Raises
        ------
        GpuLost
            If the copy takes too long.
        """
        with self._gpu.current():
            for target, source, (rows, pitch) in zip(
                planes.allocations, addresses, planes.layouts, strict=True
            ):
                self._gpu.driver.memcpy_dtod_async(
                    int(target), source, rows * pitch, self._filler.stream
                )
            self._filler.wait()

    def fetch(self, planes: Planes, width: int, to_bgr: ToBgr) -> NDArray[np.uint8]:
        """Return the picture on the host, as BGR (height, width, 3).

        The copy goes through pinned memory, at the speed of the bus, and other streams go on
        meanwhile.

        Raises
        ------
        GpuLost, GpuMemoryError
            See `GpuContext`.
        """
        with self._fetching:
            on_host = []
            with self._gpu.current():
                pinned = self._staging(sum(rows * pitch for rows, pitch in planes.layouts))
                for source, (rows, pitch) in zip(planes.allocations, planes.layouts, strict=True):
                    plane, pinned = pinned[: rows * pitch], pinned[rows * pitch :]
                    self._gpu.driver.memcpy_dtoh_async(plane, int(source), self._fetcher.stream)
                    on_host.append(plane.reshape(rows, pitch))
                self._fetcher.wait()
            luma, chroma = on_host
            return to_bgr(luma[:, :width], chroma[:, : width + width % 2])

    def draw(self, planes: Planes, width: int, overlay: Overlay) -> NDArray[np.uint8]:
        """Return the picture on the host with an overlay drawn over it; see `PictureDrawer.draw`.

        Raises
        ------
        KernelRefused
            If the drawing kernel cannot be compiled or loaded.
        GpuLost, GpuMemoryError
            See `GpuContext`.
        """
        from squeezedrive.kernels.cuda.draw import DrawKernel

        with self._fetching, self._gpu.current():
            if self._drawer is None:
                self._drawer = PictureDrawer(self._gpu, DrawKernel())
            return self._drawer.draw(planes.luma, planes.chroma, width, overlay)

    def close(self) -> None:
        """Release the memory that no picture uses; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._release()

    def _staging(self, size: int) -> Any:
        """Return pinned memory of at least this number of bytes."""
        if self._pinned is None or self._pinned.nbytes < size:
            if self._pinned is not None:
                pinned, self._pinned = self._pinned, None
                pinned.base.free()
            self._pinned = self._gpu.driver.pagelocked_empty((size,), np.uint8)
        return self._pinned

    def _allocate(self, luma: Layout, chroma: Layout) -> Planes:
        allocations: list[Any] = []
        try:
            for rows, pitch in (luma, chroma):
                allocations.append(self._gpu.driver.mem_alloc(rows * pitch))
        except BaseException:
            for allocation in allocations:
                allocation.free()
            raise
        arrays = [
            self._gpu.array(allocation, (1, *layout), np.uint8)
            for allocation, layout in zip(allocations, (luma, chroma), strict=True)
        ]
        return Planes(arrays[0], arrays[1], (luma, chroma), (allocations[0], allocations[1]))

    def _release(self) -> None:
        """Free the spare planes, and everything else once no planes are taken."""
        if self._gpu.lost:  # freeing may hang
            self._gpu.keep_forever(self)
            return
        with self._gpu.current():
            while self._spare:
                self._spare.pop().free()
            if self._taken:
                return
            if self._pinned is not None:
                pinned, self._pinned = self._pinned, None
                pinned.base.free()
            if self._drawer is not None:
                self._drawer.free()
            # PyCUDA releases a stream with its last reference, if the context is current.
            self._filler = self._fetcher = None
