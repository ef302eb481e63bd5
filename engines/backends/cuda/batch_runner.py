"""A batch of pictures on its way through the GPU: memory, a stream, and the steps in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.executor import ExecutionContext, Executor
from squeezedrive.engines.backends.cuda.graph import RepeatedWork
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.backends.cuda.input_batch import InputBatch, Picture
from squeezedrive.engines.backends.cuda.stream import MarkedStream, SlotStep
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit


@dataclass(frozen=True)
class _Sized:
    """Network and detection for one number of pictures.

    Attributes
    ----------
    network : ExecutionContext
        Bound to this number.
    output, boxes, host : arrays
        The network's output, the boxes, and the boxes on the host.
    infer, detect : RepeatedWork
        The two steps.
    """

    network: ExecutionContext
    output: Any
    boxes: Any
    host: Any
    infer: RepeatedWork
    detect: RepeatedWork


class BatchRunner:
    """Takes batches of pictures through the GPU, one batch after the other.

    Everything is enqueued on one stream; only `load` and `collect` wait. One step at a time may be
    called, each from any thread, with the context current (`GpuContext.current`). `batch` is the
    largest number of pictures at a time, 1 to `executor.max_batch`.
    """

    def __init__(
        self, gpu: GpuContext, executor: Executor, kernels: ImageKernels, batch: int = 1
    ) -> None:
        self.batch = batch
        self._gpu = gpu
        self._executor = executor
        self._marked = MarkedStream(gpu)
        self._input: Any = None
        self._sized: dict[int, _Sized] = {}  # by the number of pictures
        self._current: Any = None  # that of the batch
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
            self._input = InputBatch(gpu, kernels, inputs, self._marked)
            self._cleanup.callback(self._input.free)
            self._detector: Any = kernels.detector(batch)
            shape = self._detector.result_shape(batch)
            self._boxes_address, boxes = self._allocate(shape, kernels.result_type)
            host = gpu.driver.pagelocked_empty(shape, kernels.result_type)
            self._cleanup.callback(host.base.free)
            self._whole: Any = output, boxes, host
            self._workspace = 0
            if executor.workspace_bytes:
                self._workspace, _ = self._allocate((executor.workspace_bytes,), np.uint8)
            self._open(batch)
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

    @property
    def launches(self) -> int:
        """How many launches and copies of a batch like this one are recorded in graphs."""
        self._check_loaded()
        works = self._input, self._current.infer, self._current.detect
        return sum(work.nodes for work in works)

    def load(self, pictures: Sequence[Picture]) -> None:
        """Copy pictures into pinned memory.

        From a picture on the host, only the rows that the network sees are copied. Pictures decoded
        by the GPU stay where they are.

        Parameters
        ----------
        pictures : sequence of uint8 arrays (height, width, 3), `RowPicture` and `NvPicture`
            BGR; 1 to `batch` of them, each of any size.

        Raises
        ------
        ValueError
            If a picture has another type or shape, or there are too many or none.
        """
        self._check(pictures)
        self._gpu.wait(self._marked.uploaded)
        self._input.paths = []  # if it fails, there is no batch
        if len(pictures) not in self._sized:
            self._open(len(pictures))
        self._current = self._sized[len(pictures)]
        self._input.take(pictures)

    def _check(self, pictures: Sequence[Picture]) -> None:
        good = all(
            not isinstance(p, np.ndarray)
            or (p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3)
            for p in pictures
        )
        if not (good and 1 <= len(pictures) <= self.batch):
            kinds = [p.dtype if isinstance(p, np.ndarray) else "YUV" for p in pictures]
            got = ", ".join(f"{kind} {p.shape}" for kind, p in zip(kinds, pictures, strict=True))
            raise ValueError(
                f"expected 1 to {self.batch} pictures (height, width, 3) of uint8, got"
                f" {got or 'none'}"
            )

    def _open(self, count: int) -> None:
        """Prepare for batches of this number of pictures."""
        with self._gpu.recording:  # a library may wait for all streams here
            network = self._executor.new_context(self._workspace)
        self._cleanup.callback(network.close)
        network.bind(*self._addresses, count)
        output, boxes, host = (array[:count] for array in self._whole)
        marked = self._marked
        infer = RepeatedWork(
            marked, partial(network.enqueue, marked.handle), self._executor.recordable
        )
        detect = RepeatedWork(marked, self._find)
        self._sized[count] = _Sized(network, output, boxes, host, infer, detect)

    def enqueue(self, step: SlotStep) -> None:
        """Enqueue one of the three steps, as a graph if it has been done before, and its marks.

        "preprocess" includes the copy of the pictures to the GPU, "detect" that of the boxes to
        the host. `seconds` gives the time of each on the GPU.
        """
        self._check_loaded()
        marked = self._marked
        marked.begin(step)
        if step == "preprocess":
            self._input.enqueue()
            marked.uploaded.record(marked.stream)
        elif step == "infer":
            self._current.infer.enqueue()
        else:
            self._detector.update()
            self._current.detect.enqueue()
        marked.end(step)
        if step == "detect":
            marked.finished.record(marked.stream)  # the last of all: `seconds` needs the others

    def collect(self) -> list[Detections]:
        """Wait for the boxes; return them picture by picture, in pixels of the picture.

        Raises
        ------
        GpuLost
            If they do not come.
        """
        self._check_loaded()
        self._gpu.wait(self._marked.finished)
        found, counts = self._detector.unpack(self._current.host)
        boxes = self._to_source(found.boxes, counts)
        return Detections(boxes, found.scores, found.classes).split(counts)

    def _to_source(self, boxes: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
        """Convert boxes of all pictures to pixels of the picture that each belongs to.

        A call of NumPy takes longer than the work on a few boxes, so all boxes are converted
        together where the pictures are of one kind, as those of one source are.
        """
        fits: list[Fit] = [path.fit for path in self._input.paths]
        if all(fit is fits[0] for fit in fits):
            return fits[0].to_source(boxes)
        ends = np.cumsum(counts)[:-1]
        parts = zip(fits, np.split(boxes, ends), strict=True)
        return np.concatenate([fit.to_source(part) for fit, part in parts])

    def seconds(self) -> dict[str, float]:
        """Return the time of each of `STEPS` on the GPU, in seconds; all have to be done."""
        self._check_loaded()
        return self._marked.seconds()

    def copy_in(self) -> None:
        """Enqueue only the copy of the pictures to the GPU."""
        self._check_loaded()
        self._input.copy_in()

    def preprocess(self) -> None:
        """Enqueue only the kernels that prepare pictures of the host for the network."""
        self._check_loaded()
        self._input.launch()

    def infer(self) -> None:
        """Enqueue only the network."""
        self._check_loaded()
        self._current.network.enqueue(self._marked.handle)

    def detect(self) -> None:
        """Enqueue only the search for boxes in the network's output."""
        self._check_loaded()
        current = self._current
        self._detector.enqueue(current.output, current.boxes, self._marked.handle)

    def copy_out(self) -> None:
        """Enqueue only the copy of the boxes to the host."""
        self._gpu.driver.memcpy_dtoh_async(self._current.host, self._boxes_address, self.stream)

    def _find(self) -> None:
        self.detect()
        self.copy_out()

    def close(self) -> None:
        """Release everything, in the reverse order; a second call does nothing.

        A lost GPU releases nothing, and the attempt may never end.
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
        for sized in self._sized.values():
            sized.infer.close()
            sized.detect.close()
        self._cleanup.close()

    def _check_loaded(self) -> None:
        if self._input is None or not self._input.paths:
            raise RuntimeError("expected pictures first; a step was called before load()")

    def _forget(self) -> None:
        """Drop all references to objects of the GPU, while its context is current."""
        self._sized.clear()
        self._whole = self._current = self._detector = self._input = None
        self._marked.forget()
