"""A batch of pictures on its way through the GPU: memory, a stream, and the steps in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.cuda.context import NON_BLOCKING, Gpu
from engines.cuda.executor import Executor
from engines.cuda.graph import Graph
from engines.cuda.nvdec import NvPicture
from engines.decoding import Matrix
from kernels.detections import Detections
from kernels.fit import Fit


class Preprocess(Protocol):
    """`kernels.cuda.preprocess.Preprocessor`, made for one `Fit`."""

    def enqueue(self, source: Any, target: Any, stream: Any) -> None:
        """Crop, scale and normalise pictures (B, H, W, 3) into (B, 3, height, width)."""


class Detect(Protocol):
    """`kernels.cuda.detect.Detector`, with a workspace of its own."""

    def enqueue(self, output: Any, result: Any, stream: Any) -> None:
        """Decode, select and suppress into a result of fixed size."""

    def result_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the result of so many pictures."""

    def unpack(self, result: NDArray[Any]) -> list[Detections]:
        """Read a result that has come to the host."""


@dataclass(frozen=True)
class Recipe:
    """What a chain does with pictures.

    Attributes
    ----------
    make_fit : callable
        Takes (width, height) of a picture, returns how it is put into the network's input.
    preprocessor : callable
        Takes a `Fit` and the colour matrix of NV12 pictures, None for BGR; returns the kernel.
    detector : callable
        Returns a detector with a workspace of its own.
    input_shape, output_shape : tuple of int
        Of one picture: (3, height, width) and (channels, rows, columns).
    result_type : np.dtype
        Of the detector's result.
    """

    make_fit: Callable[[tuple[int, int]], Fit]
    preprocessor: Callable[[Fit, Matrix | None], Preprocess]
    detector: Callable[[], Detect]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    result_type: np.dtype[Any]


class Chain:
    """Takes a fixed number of equally large pictures through the GPU, again and again.

    Everything is enqueued on one stream; only `collect` waits. One step at a time may be called,
    each from any thread, with the context current (`Gpu.current`).

    Parameters
    ----------
    gpu : Gpu
        Where.
    executor : Executor
        The network.
    recipe : Recipe
        What happens before and after the network.
    batch : int
        How many pictures, 1 to `executor.max_batch`.

    Attributes
    ----------
    stream : pycuda.driver.Stream
        On which everything is enqueued.
    """

    def __init__(self, gpu: Gpu, executor: Executor, recipe: Recipe, batch: int = 1) -> None:
        self._gpu = gpu
        self._recipe = recipe
        self.batch = batch
        self.stream: Any = None
        self._uploaded: Any = None
        self._finished: Any = None
        self._streams = threading.local()
        self._fit: Fit | None = None
        self._cleanup = ExitStack()
        self._pictures = _Buffers(gpu)
        self._preprocess: Any = None
        self._detector: Any = None
        self._network: Any = None
        self._source: Any = None
        self._matrix: Matrix | None = None
        self._adopted: NvPicture | None = None
        self._graph: Graph | None = None
        try:
            self._allocate(executor)
        except BaseException:
            self.close()
            raise

    def _allocate(self, executor: Executor) -> None:
        gpu, recipe, batch = self._gpu, self._recipe, self.batch
        driver = gpu.driver
        # PyCUDA's streams and events have no method that frees them: their last reference has to
        # go while the context is current. So they are attributes and never anything else.
        self._cleanup.callback(self._forget)
        self.stream = driver.Stream(NON_BLOCKING)
        timing = driver.event_flags.DISABLE_TIMING
        self._uploaded, self._finished = driver.Event(timing), driver.Event(timing)
        self._cleanup.callback(self._pictures.free)

        def array(shape: tuple[int, ...], dtype: Any) -> tuple[int, Any]:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            allocation = driver.mem_alloc(size)
            self._cleanup.callback(allocation.free)
            return int(allocation), gpu.array(allocation, shape, dtype)

        input_address, self._input = array((batch, *recipe.input_shape), executor.input_type)
        output_address, self._output = array((batch, *recipe.output_shape), executor.output_type)
        self._detector = recipe.detector()
        shape = self._detector.result_shape(batch)
        self._result_address, self._result = array(shape, recipe.result_type)
        self._found = driver.pagelocked_empty(shape, recipe.result_type)
        self._cleanup.callback(self._found.base.free)
        self._network = executor.new_context()
        self._cleanup.callback(self._network.close)
        self._network.bind(input_address, output_address, batch)
        gpu.synchronize()

    def load(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Copy pictures into memory that the GPU reads by itself.

        Only the rows that the network sees are copied.

        Parameters
        ----------
        pictures : sequence of uint8 arrays (height, width, 3)
            BGR, `batch` of them, all of one size.

        Raises
        ------
        ValueError
            If they are not.
        """
        shape = pictures[0].shape
        if len(pictures) != self.batch or any(
            p.shape != shape or p.dtype != np.uint8 or p.ndim != 3 or shape[2] != 3
            for p in pictures
        ):
            raise ValueError(
                f"expected {self.batch} pictures (height, width, 3) of uint8 and of one size, got"
                f" {', '.join(f'{p.dtype} {p.shape}' for p in pictures)}"
            )
        self._gpu.wait(self._uploaded)
        if not self._prepared_for(shape, None):
            self._prepare_for((shape[1], shape[0]))
        assert self._fit is not None
        _, top, _, bottom = self._fit.crop
        for row, picture in zip(self._pictures.host, pictures, strict=True):
            np.copyto(row, picture[top:bottom])

    def adopt(self, picture: NvPicture) -> None:
        """Take a picture that is on the GPU already, in place of `load` and `upload`; batch 1.

        It is kept until the next one, so that its memory is not used again too early.
        """
        self._gpu.wait(self._uploaded)
        if not self._prepared_for(picture.shape, picture.matrix):
            self._forget_size()
            fit = self._recipe.make_fit((picture.shape[1], picture.shape[0]))
            self._preprocess = self._recipe.preprocessor(fit, picture.matrix)
            self._gpu.synchronize()
            self._fit, self._matrix = fit, picture.matrix
        self._adopted, self._source = picture, (picture.luma, picture.chroma)

    def _prepared_for(self, shape: tuple[int, ...], matrix: Matrix | None) -> bool:
        same = self._fit is not None and self._fit.source_size == (shape[1], shape[0])
        return same and self._matrix == matrix

    def _forget_size(self) -> None:
        self._settle()
        self._drop_graph()
        self._fit = self._source = self._adopted = None

    def _prepare_for(self, size: tuple[int, int]) -> None:
        """Make room for pictures of this size, and the kernel that fits them into the network."""
        self._forget_size()
        fit = self._recipe.make_fit(size)
        x0, top, x1, bottom = fit.crop
        shape = (self.batch, bottom - top, size[0], 3)
        self._pictures.resize(shape)
        # The GPU gets the rows of the crop only, so for it the picture begins there.
        band = replace(fit, source_size=(size[0], bottom - top), crop=(x0, 0, x1, bottom - top))
        self._preprocess = self._recipe.preprocessor(band, None)
        self._gpu.synchronize()
        self._source = self._gpu.array(self._pictures.device, shape, np.uint8)
        self._fit, self._matrix = fit, None

    def upload(self) -> None:
        """Enqueue the copy of the pictures to the GPU, and mark its end for `load`."""
        self.copy_in()
        self._uploaded.record(self.stream)

    def copy_in(self) -> None:
        """Enqueue the copy of the pictures to the GPU."""
        self._check_loaded()
        driver = self._gpu.driver
        driver.memcpy_htod_async(self._pictures.address, self._pictures.host, self.stream)

    def preprocess(self) -> None:
        """Enqueue what makes the network's input of the pictures."""
        self._check_loaded()
        self._preprocess.enqueue(self._source, self._input, self._numba_stream())
        if self._adopted is not None:
            self._uploaded.record(self.stream)

    def infer(self) -> None:
        """Enqueue the network."""
        self._check_loaded()
        self._network.enqueue(self.stream.handle)

    def detect(self) -> None:
        """Enqueue what finds the boxes in the network's output."""
        self._check_loaded()
        self._detector.enqueue(self._output, self._result, self._numba_stream())

    def download(self) -> None:
        """Enqueue the copy of the boxes to the host, and mark its end for `collect`."""
        self.copy_out()
        self._finished.record(self.stream)

    def copy_out(self) -> None:
        """Enqueue the copy of the boxes to the host."""
        self._gpu.driver.memcpy_dtoh_async(self._found, self._result_address, self.stream)

    def collect(self) -> list[Detections]:
        """Wait for the boxes; return them picture by picture, in pixels of the picture.

        Raises
        ------
        GpuLost
            If they do not come.
        """
        self._check_loaded()
        assert self._fit is not None
        self._gpu.wait(self._finished)
        return [
            Detections(self._fit.to_source(found.boxes), found.scores, found.classes)
            for found in self._detector.unpack(self._found.copy())
        ]

    def capture(self, cuda_driver: Any) -> None:
        """Record upload to download as a CUDA graph, for `replay`.

        The chain has to have run once for pictures of this size, so that kernels are compiled and
        libraries have their memory.

        Parameters
        ----------
        cuda_driver : module
            `cuda.bindings.driver`.
        """
        self._check_loaded()
        self._settle()
        self._drop_graph()

        def steps() -> None:
            self.copy_in()
            self.preprocess()
            self.infer()
            self.detect()
            self.copy_out()

        self._graph = Graph(cuda_driver, self.stream.handle, steps)

    @property
    def launches(self) -> int:
        """How many launches and copies the captured graph has."""
        return 0 if self._graph is None else self._graph.nodes

    def replay(self) -> None:
        """Enqueue all of it with one launch: what `upload` to `download` do in several."""
        if self._graph is None:
            raise RuntimeError("replay() before capture()")
        self._graph.launch()
        self._uploaded.record(self.stream)
        self._finished.record(self.stream)

    def close(self) -> None:
        """Release everything, in the reverse order; a second call does nothing.

        On a GPU that is lost nothing can be released, and trying may take for ever.
        """
        if self._finished is not None and not self._gpu.lost:
            try:
                self._settle()
            except Exception:  # nothing but a lost GPU fails here, and who lost it has heard of it
                self._gpu.lost = True
        if self._gpu.lost:
            self._gpu.keep_forever(self)
            self._cleanup.pop_all()
            return
        self._drop_graph()
        self._cleanup.close()

    def _settle(self) -> None:
        """Wait until everything that has been enqueued is done."""
        self._finished.record(self.stream)
        self._gpu.wait(self._finished)

    def _check_loaded(self) -> None:
        if self._source is None:
            raise RuntimeError("expected pictures first; a step was called before load()")

    def _numba_stream(self) -> Any:
        """Return the stream as Numba's kernels take it; each thread needs a wrapper of its own."""
        try:
            return self._streams.wrapper
        except AttributeError:
            self._streams.wrapper = self._gpu.cuda.external_stream(int(self.stream.handle))
            return self._streams.wrapper

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _forget(self) -> None:
        self._source = self._adopted = self._input = self._output = self._result = None
        self._preprocess = self._detector = self._network = None
        self._uploaded = self._finished = None
        self.stream = None


class _Buffers:
    """Pinned host memory and device memory for pictures, which only ever grow."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._pinned: Any = None
        self.device: Any = None
        self.host: Any = None

    @property
    def address(self) -> int:
        return int(self.device)

    def resize(self, shape: tuple[int, ...]) -> None:
        """Make room for an array of this shape; what was there is lost."""
        size = int(np.prod(shape))
        if self.device is None or size > self._pinned.nbytes:
            self.free()
            driver = self._gpu.driver
            self._pinned = driver.pagelocked_empty((size,), np.uint8)
            self.device = driver.mem_alloc(size)
        self.host = self._pinned[:size].reshape(shape)

    def free(self) -> None:
        self.host = None
        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            pinned.base.free()
        if self.device is not None:
            device, self.device = self.device, None
            device.free()
