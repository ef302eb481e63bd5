"""A GPU made of host memory, which does its work as late as it may.

Stands in for `pycuda.driver`, `numba.cuda`, the kernels and the network. What is enqueued is done
when an event behind it is asked for the second time, so that whoever reads too early reads
nothing. Every call wants the context to be current in its thread; what is not released while it
is counts as leaked, as with PyCUDA.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from engines.backend import EngineSettings
from engines.cpu import CpuBackend
from engines.cuda.context import Gpu
from engines.cuda.recipe import Recipe
from engines.onnx_graph import build_onnx
from engines.openvino import core
from engines.weights import DEFAULT, load_weights
from kernels.cpu import detect
from kernels.detections import Detections
from kernels.fit import Fit, make_fit


class DriverError(Exception):
    pass


class Broken(DriverError):
    """After an error of a kernel every call fails."""


class FakeDriver:
    """`pycuda.driver`, with a log of (what, handle of the stream) in the order of execution.

    `eager`: work is done when it is enqueued, for kernels that run in Numba's simulator, which
    knows no streams. `fail` maps the name of a call or of work to what is raised when it is
    enqueued; `crash` the name of work to the text of the error that breaks the context when it is
    done.
    """

    event_flags = SimpleNamespace(DISABLE_TIMING=2)

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.eager = False
        self.fail: dict[str, Exception] = {}
        self.crash: dict[str, str] = {}
        self.broken: str | None = None
        self.hung = False
        self.memory: dict[int, np.ndarray] = {}
        self.alive: set[int] = set()  # streams, events and pinned memory
        self.leaked = 0
        self.work: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.pushed = threading.local()
        self.pushes = 0
        self.depths: dict[int, int] = {}
        self._next = 0x1000
        self.context = FakeContext(self)

    def number(self) -> int:
        self._next += 0x1000
        return self._next

    def call(self, name: str) -> None:
        assert getattr(self.pushed, "depth", 0) == 1, f"{name} without a context"
        if name in self.fail:
            raise self.fail[name]
        if self.broken is not None:
            raise Broken(f"{name} failed: {self.broken}")

    def enqueue(self, name: str, stream: int, work: Callable[[], None]) -> None:
        self.call(name)
        if self.eager:
            work()
        else:
            self.work[stream].append((name, work))

    def Device(self, ordinal: int) -> Any:
        return SimpleNamespace(
            name=lambda: "Fake GPU",
            compute_capability=lambda: (9, 0),
            retain_primary_context=lambda: self.context,
        )

    def Stream(self, flags: int) -> FakeStream:
        assert flags == 1
        return FakeStream(self)

    def Event(self, flags: int = 0) -> FakeEvent:
        return FakeEvent(self, "event" if flags == self.event_flags.DISABLE_TIMING else "time")

    def mem_alloc(self, size: int) -> FakeAllocation:
        self.call("mem_alloc")
        return FakeAllocation(self, size)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self.call("pagelocked_empty")
        return np.asarray(FakePinned(self, np.full(shape, 77, dtype)))

    def memcpy_htod_async(self, target: int, source: np.ndarray, stream: FakeStream) -> None:
        assert source.flags.c_contiguous
        handle = stream.handle
        del stream  # PyCUDA has no frame whose locals a traceback would keep

        def copy() -> None:
            memory = self.memory[target]
            memory[: source.nbytes] = source.reshape(-1).view(np.uint8)

        self.enqueue("h2d", handle, copy)

    def memcpy_dtoh_async(self, target: np.ndarray, source: int, stream: FakeStream) -> None:
        handle = stream.handle
        del stream

        def copy() -> None:
            target.reshape(-1).view(np.uint8)[:] = self.memory[source][: target.nbytes]

        self.enqueue("d2h", handle, copy)

    def memcpy_dtod_async(self, target: int, source: int, size: int, stream: FakeStream) -> None:
        def copy() -> None:
            self.memory[target][:size] = self.memory[source][:size]

        self.enqueue("d2d", stream.handle, copy)

    def get_driver_version(self) -> int:
        return 13020

    def mem_get_info(self) -> tuple[int, int]:
        return 1 << 20, 1 << 21

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.memory[address][:size].view(dtype).reshape(shape)

    @property
    def clean(self) -> bool:
        """Whether everything has been released, and no thread has a context."""
        depths = set(self.depths.values())
        return not (self.memory or self.alive or self.leaked) and depths <= {0}


class FakeContext:
    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.detached = 0

    def push(self) -> None:
        self._add(1)
        self.driver.pushes += 1

    def pop(self) -> None:
        self._add(-1)

    def _add(self, step: int) -> None:
        pushed = self.driver.pushed
        pushed.depth = getattr(pushed, "depth", 0) + step
        self.driver.depths[threading.get_ident()] = pushed.depth

    def synchronize(self) -> None:
        self.driver.call("synchronize")

    def detach(self) -> None:
        self.detached += 1


class _Owned:
    """Something that PyCUDA releases with its last reference, if the context is current."""

    def __init__(self, driver: FakeDriver) -> None:
        driver.call(type(self).__name__)
        self.driver = driver
        self.handle = driver.number()
        driver.alive.add(self.handle)

    def __del__(self) -> None:
        if not hasattr(self, "handle"):
            return
        if getattr(self.driver.pushed, "depth", 0) == 1:
            self.driver.alive.discard(self.handle)
        else:
            self.driver.leaked += 1


class FakeStream(_Owned):
    def __init__(self, driver: FakeDriver) -> None:
        super().__init__(driver)
        driver.work[self.handle] = []


class FakeEvent(_Owned):
    def __init__(self, driver: FakeDriver, kind: str) -> None:
        super().__init__(driver)
        self._kind = kind  # "event", or "time" for one that knows it
        self._recorded: tuple[list[Any], Any] | None = None
        self._asked = 0

    def record(self, stream: FakeStream) -> None:
        self.driver.call("record")
        marker = (self._kind, lambda: None)
        self.driver.work[stream.handle].append(marker)
        self._recorded = (self.driver.work[stream.handle], marker)
        self._stream = stream.handle
        self._asked = 0

    def time_till(self, later: FakeEvent) -> float:
        self.driver.call("time_till")
        for event in (self, later):
            assert event._kind == "time"
            assert event._recorded is not None, "not recorded"
            work, marker = event._recorded
            assert not any(item is marker for item in work), "not passed yet"
        return 0.5

    def query(self) -> bool:
        driver = self.driver
        driver.call("query")
        if self._recorded is None:
            return True
        work, marker = self._recorded
        if not any(item is marker for item in work):
            return True
        self._asked += 1
        if self._asked < 2 or driver.hung:
            return False
        while True:
            item = work.pop(0)
            name, do = item
            driver.log.append((name, self._stream))
            if name in driver.crash:
                driver.broken = driver.crash[name]
                raise Broken(f"cuEventQuery failed: {driver.broken}")
            do()
            if item is marker:
                return True


class FakeAllocation:
    def __init__(self, driver: FakeDriver, size: int) -> None:
        self.driver, self.address = driver, driver.number()
        driver.memory[self.address] = np.full(size, 99, np.uint8)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.driver.call("free")
        del self.driver.memory[self.address]


class FakePinned:
    def __init__(self, driver: FakeDriver, array: np.ndarray) -> None:
        self.driver, self._array, self.handle = driver, array, driver.number()
        self.__array_interface__ = array.__array_interface__
        driver.alive.add(self.handle)

    def free(self) -> None:
        self.driver.call("free")
        self.driver.alive.remove(self.handle)


class FakeNumba:
    """`numba.cuda`: arrays and streams."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def from_cuda_array_interface(self, description: Any, owner: Any, sync: bool) -> np.ndarray:
        self.driver.call("array")
        assert not sync
        address, read_only = description["data"]
        assert not read_only
        return self.driver.array(address, description["shape"], description["typestr"])

    def external_stream(self, handle: int) -> Any:
        self.driver.call("external_stream")
        assert handle in self.driver.work
        return SimpleNamespace(handle=handle, thread=threading.get_ident())


class FakeGraphs:
    """`cuda.bindings.driver`: records what a stream would do, and does it again."""

    class CUstreamCaptureMode:
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.graphs: list[Any] = []
        self.alive = 0

    def CUstream(self, handle: int) -> int:
        return handle

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self._kept, self.driver.work[stream] = self.driver.work[stream], []
        return (0,)

    def cuStreamEndCapture(self, stream: int) -> tuple[int, int]:
        self.graphs.append(self.driver.work[stream])
        self.driver.work[stream] = self._kept
        self.alive += 1
        return 0, len(self.graphs)

    def cuGraphGetNodes(self, graph: int) -> tuple[int, list[Any], int]:
        return 0, [], len(self.graphs[graph - 1])

    def cuGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:
        self.alive += 1
        return 0, graph

    def cuGraphLaunch(self, executable: int, stream: int) -> tuple[int]:
        self.driver.work[stream] += self.graphs[executable - 1]
        return (0,)

    def cuGraphDestroy(self, graph: int) -> tuple[int]:
        self.alive -= 1
        return (0,)

    cuGraphExecDestroy = cuGraphDestroy


class FakeExecutor:
    """The network by OpenVINO on the processor, from pixels whose mean has been subtracted."""

    runtime = "fake 1.0"
    precision = "fp32"
    input_type = output_type = np.dtype(np.float32)

    def __init__(self, driver: FakeDriver, settings: EngineSettings, max_batch: int = 1) -> None:
        self.driver, self.settings, self.max_batch = driver, settings, max_batch
        self.model = _compiled(settings.width, settings.height)
        self.open_contexts = 0
        self.closed = 0

    def new_context(self) -> FakeExecution:
        self.driver.call("new_context")
        self.open_contexts += 1
        return FakeExecution(self)

    def close(self) -> None:
        assert getattr(self.driver.pushed, "depth", 0) == 1
        assert self.open_contexts == 0
        self.closed += 1


@functools.cache
def _compiled(width: int, height: int) -> Any:
    graph = build_onnx(load_weights(DEFAULT), width, height)
    model = core().read_model(graph.SerializeToString())
    return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


class FakeExecution:
    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor
        self.request = executor.model.create_infer_request()

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        assert 1 <= batch <= self.executor.max_batch
        self.addresses, self.batch = (input_address, output_address), batch

    def enqueue(self, stream: int) -> None:
        executor, driver = self.executor, self.executor.driver
        (source, target), batch = self.addresses, self.batch

        def infer() -> None:
            settings = executor.settings
            shape = (batch, 3, settings.height, settings.width)
            mean = np.reshape(settings.weights.profile.input.mean, (1, 3, 1, 1))
            pixels = driver.array(source, shape, np.float32) + mean.astype(np.float32)
            head = settings.head()
            output = driver.array(target, (batch, *head.output_shape), np.float32)
            for i in range(batch):
                output[i] = self.request.infer(pixels[i : i + 1])[0][0]

        driver.enqueue("infer", stream, infer)

    def close(self) -> None:
        self.executor.open_contexts -= 1


class FakePreprocessor:
    def __init__(
        self, driver: FakeDriver, fit: Fit, settings: EngineSettings, matrix: str | None
    ) -> None:
        driver.call("preprocessor")
        self.driver, self.fit, self.settings, self.matrix = driver, fit, settings, matrix

    def enqueue(self, source: Any, target: np.ndarray, stream: Any) -> None:
        assert stream.thread == threading.get_ident()
        if self.matrix is not None:  # NV12, of which this takes luma alone, for grey pictures
            source = np.repeat(source[0][:, :, : self.fit.source_size[0], None], 3, axis=3)
        mean = np.array(self.settings.weights.profile.input.mean, np.float32)

        def preprocess() -> None:
            pixels = np.empty((self.settings.height, self.settings.width, 3), np.uint8)
            for picture, out in zip(source, target, strict=True):
                self.fit.preprocess(picture, self.settings.fill(), pixels)
                out[:] = (pixels - mean).transpose(2, 0, 1)

        self.driver.enqueue("preprocess", stream.handle, preprocess)


class FakeDetector:
    """Rows of a count and six values a box, as those of `kernels.cuda.detect`."""

    def __init__(self, driver: FakeDriver, settings: EngineSettings) -> None:
        driver.call("detector")
        self.driver, self.settings, self.head = driver, settings, settings.head()

    def result_shape(self, batch: int) -> tuple[int, int]:
        return batch, 1 + 6 * self.settings.detect.top_n

    def enqueue(self, output: np.ndarray, result: np.ndarray, stream: Any) -> None:
        assert stream.thread == threading.get_ident()

        def find() -> None:
            for values, row in zip(output, result, strict=True):
                found = detect(values, self.head, self.settings.detect)
                columns = [found.boxes, found.scores[:, None], found.classes[:, None]]
                flat = np.concatenate(columns, axis=1).reshape(-1)
                row[0] = len(found)
                row[1 : 1 + flat.size] = flat

        self.driver.enqueue("detect", stream.handle, find)

    def unpack(self, result: np.ndarray) -> list[Detections]:
        found = []
        for row in result:
            boxes = row[1:].reshape(-1, 6)[: int(row[0])]
            found.append(Detections(boxes[:, :4], boxes[:, 4], boxes[:, 5].astype(np.int32)))
        return found


def fake_gpu() -> tuple[FakeDriver, Gpu]:
    driver = FakeDriver()
    return driver, Gpu(driver, FakeNumba(driver))


def fake_recipe(driver: FakeDriver, settings: EngineSettings) -> Recipe:
    size = (settings.width, settings.height)
    return Recipe(
        lambda source: make_fit(settings.fit, source, size, settings.band_centre),
        lambda fit, matrix: FakePreprocessor(driver, fit, settings, matrix),
        lambda batch: FakeDetector(driver, settings),
        (3, size[1], size[0]),
        settings.head().output_shape,
        np.dtype(np.float32),
    )


def on_the_processor(settings: EngineSettings, picture: np.ndarray) -> Detections:
    """Return what the CPU back end finds, in single precision."""
    key = (settings.width, settings.height, settings.fit, settings.band_centre, settings.detect)
    if key not in _processors:
        _processors[key] = CpuBackend(settings, "test").new_slot()
    slot = _processors[key]
    slot.preprocess([picture])
    slot.infer()
    (found,) = slot.detect()
    assert isinstance(found, Detections)
    return found


_processors: dict[Any, Any] = {}
