"""A batch of pictures on its way through the GPU: memory, a stream, and the steps in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.executor import Executor
from squeezedrive.engines.backends.cuda.graph import Graph
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.backends.cuda.input_slot import InputPath, InputSlot, Picture, make_path
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.engines.backends.cuda.stream import MarkedStream
from squeezedrive.kernels.detections import Detections

_PATHS = 16  # sizes of pictures that a runner is prepared for at a time


@dataclass(frozen=True)
class _Outputs:
    """What comes out for some pictures: the network's output, the boxes, and those on the host."""

    network: Any
    boxes: Any
    host: Any

    def first(self, count: int) -> _Outputs:
        """Return the part for the first pictures."""
        return _Outputs(self.network[:count], self.boxes[:count], self.host[:count])


class BatchRunner:
    """Takes batches of pictures through the GPU, one batch after the other.

    Everything is enqueued on one stream; only `load` and `collect` wait. One step at a time may be
    called, each from any thread, with the context current (`GpuContext.current`). `batch` is the
    most pictures at a time, 1 to `executor.max_batch`.
    """

    def __init__(
        self, gpu: GpuContext, executor: Executor, kernels: ImageKernels, batch: int = 1
    ) -> None:
        self.batch = batch
        self._gpu = gpu
        self._kernels = kernels
        self._graph: Graph | None = None
        self._paths: dict[object, InputPath] = {}
        self._slots: list[InputSlot] = []
        self._loaded: list[InputSlot] = []  # those with a picture of the batch
        self._marked = MarkedStream(gpu)
        self._closed = False
        self._cleanup = ExitStack()
        self._cleanup.callback(self._forget)
        try:
            input_address, inputs = self._allocate(
                (batch, *kernels.input_shape), executor.input_type
            )
            output_address, output = self._allocate(
                (batch, *kernels.output_shape), executor.output_type
            )
            self._addresses = input_address, output_address
            for i in range(batch):
                self._slots.append(InputSlot(gpu, inputs[i : i + 1], self._marked.settle))
                self._cleanup.callback(self._slots[i].free)
            self._detector: Any = kernels.detector(batch)
            shape = self._detector.result_shape(batch)
            self._boxes_address, boxes = self._allocate(shape, kernels.result_type)
            host = gpu.driver.pagelocked_empty(shape, kernels.result_type)
            self._cleanup.callback(host.base.free)
            self._network: Any = executor.new_context()
            self._cleanup.callback(self._network.close)
            self._whole: Any = _Outputs(output, boxes, host)
            self._outputs: Any = self._bind(batch)
            gpu.synchronize()
        except BaseException:
            self.close()
            raise

    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> tuple[int, Any]:
        """Return an array on the GPU, freed by `close`, and its address."""
        allocation = self._gpu.driver.mem_alloc(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self._cleanup.callback(allocation.free)
        return int(allocation), self._gpu.array(allocation, shape, dtype)

    @property
    def stream(self) -> Any:
        """The `pycuda.driver.Stream` on which everything is enqueued."""
        return self._marked.stream

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
        self._gpu.wait(self._marked.uploaded)
        before, self._loaded = self._loaded, []
        paths = [self._path(picture) for picture in pictures]
        # A graph has the addresses of the pictures it was recorded for.
        if paths != [slot.path for slot in before] or any(path.matrix for path in paths):
            self._drop_graph()
        if len(pictures) != len(self._outputs.host):
            self._outputs = self._bind(len(pictures))
        used, unused = self._slots[: len(pictures)], self._slots[len(pictures) :]
        for slot, picture, path in zip(used, pictures, paths, strict=True):
            slot.take(picture, path)
        for slot in unused:
            slot.forget()
        self._loaded = used

    def _check(self, pictures: Sequence[Picture]) -> None:
        good = all(
            isinstance(p, NvPicture) or (p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3)
            for p in pictures
        )
        if not (good and 1 <= len(pictures) <= self.batch):
            kinds = ["NV12" if isinstance(p, NvPicture) else p.dtype for p in pictures]
            got = ", ".join(f"{kind} {p.shape}" for kind, p in zip(kinds, pictures, strict=True))
            raise ValueError(
                f"expected 1 to {self.batch} pictures (height, width, 3) of uint8, got"
                f" {got or 'none'}"
            )

    def _path(self, picture: Picture) -> InputPath:
        height, width = picture.shape[:2]
        matrix = picture.matrix if isinstance(picture, NvPicture) else None
        key = width, height, matrix
        if key not in self._paths:
            if len(self._paths) >= _PATHS:
                self._marked.settle()
                for slot in self._slots:
                    slot.forget()
                self._paths.clear()
            self._paths[key] = make_path(self._kernels, (width, height), matrix)
            self._gpu.synchronize()
        return self._paths[key]

    def _bind(self, count: int) -> _Outputs:
        """Have the network execute so many pictures; return what comes out for them."""
        self._network.bind(*self._addresses, count)
        first: _Outputs = self._whole.first(count)
        return first

    def upload(self) -> None:
        """Enqueue the copy of the pictures to the GPU, and mark its end for `load`."""
        self.copy_in()
        self._marked.uploaded.record(self.stream)

    def copy_in(self) -> None:
        """Enqueue the copy of the pictures to the GPU."""
        self._check_loaded()
        for slot in self._loaded:
            if slot.host is not None:
                # Called from here: in a traceback, no frame but this object's refers to the stream.
                self._gpu.driver.memcpy_htod_async(slot.address, slot.host, self.stream)

    def preprocess(self) -> None:
        """Enqueue what makes the network's input of the pictures."""
        self._check_loaded()
        stream = self._marked.handle
        for slot in self._loaded:
            slot.preprocess(stream)
        if any(slot.host is None for slot in self._loaded):
            self._marked.uploaded.record(self.stream)  # decoded pictures are read only now

    def infer(self) -> None:
        """Enqueue the network."""
        self._check_loaded()
        self._network.enqueue(self._marked.handle)

    def detect(self) -> None:
        """Enqueue what finds the boxes in the network's output."""
        self._check_loaded()
        outputs = self._outputs
        self._detector.enqueue(outputs.network, outputs.boxes, self._marked.handle)

    def download(self) -> None:
        """Enqueue the copy of the boxes to the host, and mark its end for `collect`."""
        self.copy_out()
        self._marked.finished.record(self.stream)

    def copy_out(self) -> None:
        """Enqueue the copy of the boxes to the host."""
        self._gpu.driver.memcpy_dtoh_async(self._outputs.host, self._boxes_address, self.stream)

    def collect(self) -> list[Detections]:
        """Wait for the boxes; return them picture by picture, in pixels of the picture.

        Raises
        ------
        GpuLost
            If they do not come.
        """
        self._check_loaded()
        self._gpu.wait(self._marked.finished)
        results = self._detector.unpack(self._outputs.host.copy())
        return [
            Detections(slot.to_source(found.boxes), found.scores, found.classes)
            for slot, found in zip(self._loaded, results, strict=True)
        ]

    def timed(self, step: str) -> AbstractContextManager[None]:
        """Mark where one of `STEPS` begins and ends, for `seconds`."""
        return self._marked.timed(step)

    def seconds(self) -> dict[str, float]:
        """Return how long the GPU took for each of `STEPS`, once all have been timed and done."""
        self._check_loaded()
        return self._marked.seconds()

    def capture(self, cuda_driver: Any) -> None:
        """Record upload to download as a CUDA graph, for `replay`.

        The runner has to have run once for as many pictures of these sizes, so that kernels are
        compiled and libraries have their memory. The graph serves until other sizes or another
        number of pictures are loaded, or pictures that the GPU has decoded. `cuda_driver` is the
        module `cuda.bindings.driver`.
        """
        self._check_loaded()
        self._marked.settle()
        self._drop_graph()

        def steps() -> None:
            self.copy_in()
            self.preprocess()
            self.infer()
            self.detect()
            self.copy_out()

        self._graph = Graph(cuda_driver, self._marked.handle, steps)

    @property
    def launches(self) -> int:
        """How many launches and copies the captured graph has."""
        return 0 if self._graph is None else self._graph.nodes

    def replay(self) -> None:
        """Enqueue all of it with one launch: what `upload` to `download` do in several."""
        if self._graph is None:
            raise RuntimeError("replay() before capture()")
        self._graph.launch()
        self._marked.uploaded.record(self.stream)
        self._marked.finished.record(self.stream)

    def close(self) -> None:
        """Release everything, in the reverse order; a second call does nothing.

        On a GPU that is lost nothing can be released, and trying may take for ever.
        """
        if self._closed:
            return
        self._closed = True
        if not self._gpu.lost:
            try:
                self._marked.settle()
            except Exception:  # only a lost GPU fails here, and that was reported already
                self._gpu.lost = True
        if self._gpu.lost:
            self._gpu.keep_forever(self)
            self._cleanup.pop_all()
            return
        self._drop_graph()
        self._cleanup.close()

    def _check_loaded(self) -> None:
        if not self._loaded:
            raise RuntimeError("expected pictures first; a step was called before load()")

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._marked.settle()
            self._graph.close()
            self._graph = None

    def _forget(self) -> None:
        """Let go of what refers to the GPU, while its context is current."""
        self._loaded, self._slots = [], []
        self._paths.clear()
        self._whole = self._outputs = self._detector = self._network = None
        self._marked.forget()
