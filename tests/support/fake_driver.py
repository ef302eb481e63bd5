"""A GPU made of host memory, which runs its work as late as possible.

It replaces `pycuda.driver`, `numba.cuda` and `cuda.bindings`. Enqueued work runs when an event
recorded after it is queried for the second time, so code that reads too early gets no results.
Every call requires that the context is current in its thread. An object that is released without
a current context counts as leaked, as with PyCUDA.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class DriverError(Exception):
    pass


class Broken(DriverError):
    """The error of every call after a kernel has failed."""


class FakeDriver:
    """A fake `pycuda.driver`; its log has (name of the work, stream) in the order of execution.

    With `eager`, work runs when it is enqueued, for kernels in Numba's simulator, which has no
    streams. `fail` maps the name of a call or of work to the error that the call raises; `crash`
    maps the name of work to the text of the error that breaks the context when the work runs.
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
        del stream  # a traceback must not keep it alive, as with PyCUDA

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
        """True if everything has been released and no thread has a context."""
        depths = set(self.depths.values())
        return not (self.memory or self.alive or self.leaked) and depths <= {0}


class FakeContext:
    handle = 55

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
    """An object that PyCUDA releases with its last reference, if the context is current."""

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
        self._kind = kind  # "time" if it records a time, else "event"
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
    """A fake `numba.cuda`: arrays and deallocations."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.flushes = 0

    def current_context(self) -> Any:
        deallocations = SimpleNamespace(clear=self._flush)
        return SimpleNamespace(memory_manager=SimpleNamespace(deallocations=deallocations))

    def _flush(self) -> None:
        self.driver.call("flush")
        self.flushes += 1

    def from_cuda_array_interface(self, description: Any, owner: Any, sync: bool) -> np.ndarray:
        self.driver.call("array")
        assert not sync
        address, read_only = description["data"]
        assert not read_only
        return self.driver.array(address, description["shape"], description["typestr"])


class FakeGraphs:
    """A fake `cuda.bindings.driver`: records the work of a stream and repeats it."""

    class CUstreamCaptureMode:
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.graphs: list[Any] = []
        self.alive = 0
        self.recording = False
        self.invalidated = False  # by an error of the recorded work

    def CUstream(self, handle: int) -> int:
        return handle

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = True
        self._kept, self.driver.work[stream] = self.driver.work[stream], []
        return (0,)

    def cuStreamEndCapture(self, stream: int) -> tuple[int, int | None]:
        self.recording = False
        if self.invalidated:
            self.driver.work[stream] = self._kept
            return 901, None
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
