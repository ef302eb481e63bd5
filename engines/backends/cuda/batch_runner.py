"""A batch of pictures on its way through the GPU: memory, a stream, and the steps in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from squeezedrive.engines.backends.cuda.context import NON_BLOCKING, GpuContext
from squeezedrive.engines.backends.cuda.executor import Executor
from squeezedrive.engines.backends.cuda.graph import Graph
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.backends.cuda.input_slot import InputPath, InputSlot, Picture, make_way
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.kernels.detections import Detections

STEPS = ("preprocess", "infer", "detect")
_WAYS = 16  # sizes of pictures that a chain is prepared for at a time


class BatchRunner:
    """Takes batches of pictures through the GPU, one batch after the other.

    Everything is enqueued on one stream; only `load` and `collect` wait. One step at a time may be
    called, each from any thread, with the context current (`GpuContext.current`).

    Parameters
    ----------
    gpu : Gpu
        Where.
    executor : Executor
        The network.
    recipe : Recipe
        What happens before and after the network.
    batch : int
        The most pictures at a time, 1 to `executor.max_batch`.

    Attributes
    ----------
    stream : pycuda.driver.Stream
        On which everything is enqueued.
    """

    def __init__(
        self, gpu: GpuContext, executor: Executor, recipe: ImageKernels, batch: int = 1
    ) -> None:
        self._gpu = gpu
        self._recipe = recipe
        self.batch = batch
        self.stream: Any = None
        self._uploaded: Any = None
        self._finished: Any = None
        self._begun: list[Any] = []  # events at the beginning and the end of each of `STEPS`
        self._ended: list[Any] = []
        self._streams = threading.local()
        self._cleanup = ExitStack()
        self._ways: dict[object, InputPath] = {}
        self._places: list[InputSlot] = []
        self._loaded: list[InputSlot] = []  # those with a picture of the batch
        self._bound = 0  # pictures that the network will execute
        self._whole: Any = None  # its output, the result and that on the host, for `batch` pictures
        self._detector: Any = None
        self._network: Any = None
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
        self._begun, self._ended = ([driver.Event() for _ in STEPS] for _ in range(2))

        def array(shape: tuple[int, ...], dtype: Any) -> tuple[int, Any]:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            allocation = driver.mem_alloc(size)
            self._cleanup.callback(allocation.free)
            return int(allocation), gpu.array(allocation, shape, dtype)

        input_address, input_ = array((batch, *recipe.input_shape), executor.input_type)
        output_address, output = array((batch, *recipe.output_shape), executor.output_type)
        self._addresses = input_address, output_address
        for i in range(batch):
            self._places.append(InputSlot(gpu, input_[i : i + 1], self._settle))
            self._cleanup.callback(self._places[i].free)
        self._detector = recipe.detector(batch)
        shape = self._detector.result_shape(batch)
        self._result_address, result = array(shape, recipe.result_type)
        found = driver.pagelocked_empty(shape, recipe.result_type)
        self._cleanup.callback(found.base.free)
        self._whole = output, result, found
        self._network = executor.new_context()
        self._cleanup.callback(self._network.close)
        self._bind(batch)
        gpu.synchronize()

    def load(self, pictures: Sequence[Picture]) -> None:
        """Copy pictures into memory that the GPU reads by itself.

        Of pictures of the host, only the rows that the network sees are copied. Pictures that the
        GPU has decoded stay where they are.

        Parameters
        ----------
        pictures : sequence of uint8 arrays (height, width, 3) and `NvPicture`
            BGR; 1 to `batch` of them, each of any size.

        Raises
        ------
        ValueError
            If they are not.
        """
        self._check(pictures)
        self._gpu.wait(self._uploaded)
        before, self._loaded = self._loaded, []
        ways = [self._way(picture) for picture in pictures]
        # A graph has the addresses of the pictures it was recorded for.
        if ways != [place.way for place in before] or any(way.matrix for way in ways):
            self._drop_graph()
        if len(pictures) != self._bound:
            self._bind(len(pictures))
        used, unused = self._places[: len(pictures)], self._places[len(pictures) :]
        for place, picture, way in zip(used, pictures, ways, strict=True):
            place.take(picture, way)
        for place in unused:
            place.forget()
        self._loaded = used

    def _check(self, pictures: Sequence[Picture]) -> None:
        good = all(
            isinstance(p, NvPicture) or (p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3)
            for p in pictures
        )
        if not (good and 1 <= len(pictures) <= self.batch):
            got = ", ".join(f"{getattr(p, 'dtype', 'NV12')} {p.shape}" for p in pictures)
            raise ValueError(
                f"expected 1 to {self.batch} pictures (height, width, 3) of uint8, got"
                f" {got or 'none'}"
            )

    def _way(self, picture: Picture) -> InputPath:
        height, width = picture.shape[:2]
        matrix = picture.matrix if isinstance(picture, NvPicture) else None
        key = width, height, matrix
        if key not in self._ways:
            if len(self._ways) >= _WAYS:
                self._settle()
                for place in self._places:
                    place.forget()
                self._ways.clear()
            self._ways[key] = make_way(self._recipe, (width, height), matrix)
            self._gpu.synchronize()
        return self._ways[key]

    def _bind(self, count: int) -> None:
        self._network.bind(*self._addresses, count)
        self._output, self._result, self._found = (whole[:count] for whole in self._whole)
        self._bound = count

    def upload(self) -> None:
        """Enqueue the copy of the pictures to the GPU, and mark its end for `load`."""
        self.copy_in()
        self._uploaded.record(self.stream)

    def copy_in(self) -> None:
        """Enqueue the copy of the pictures to the GPU."""
        self._check_loaded()
        for place in self._loaded:
            if place.host is not None:
                # Called from here: in a traceback, no frame but this object's refers to the stream.
                self._gpu.driver.memcpy_htod_async(place.address, place.host, self.stream)

    def preprocess(self) -> None:
        """Enqueue what makes the network's input of the pictures."""
        self._check_loaded()
        stream = self._numba_stream()
        for place in self._loaded:
            place.preprocess(stream)
        if any(place.host is None for place in self._loaded):
            self._uploaded.record(self.stream)  # decoded pictures are read only now

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
        self._gpu.wait(self._finished)
        results = self._detector.unpack(self._found.copy())
        return [
            Detections(place.to_source(found.boxes), found.scores, found.classes)
            for place, found in zip(self._loaded, results, strict=True)
        ]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Mark on the stream where one of `STEPS` begins and ends, for `seconds`."""
        number = STEPS.index(step)
        self._begun[number].record(self.stream)
        yield
        self._ended[number].record(self.stream)

    def seconds(self) -> dict[str, float]:
        """Return how long the GPU took for each of `STEPS`, once all have been timed and done."""
        self._check_loaded()
        return {
            step: self._begun[number].time_till(self._ended[number]) / 1e3
            for number, step in enumerate(STEPS)
        }

    def capture(self, cuda_driver: Any) -> None:
        """Record upload to download as a CUDA graph, for `replay`.

        The chain has to have run once for as many pictures of these sizes, so that kernels are
        compiled and libraries have their memory. The graph serves until other sizes or another
        number of pictures are loaded, or pictures that the GPU has decoded.

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
        if not self._loaded:
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
            self._settle()
            self._graph.close()
            self._graph = None

    def _forget(self) -> None:
        self._loaded, self._places = [], []
        self._ways.clear()
        self._whole = self._output = self._result = self._found = None
        self._detector = self._network = None
        self._uploaded = self._finished = None
        self._begun, self._ended = [], []
        self.stream = None
