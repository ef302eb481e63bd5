"""The GPU of this process: one primary context, and the meaning of its errors.

TensorRT, PyTorch, PyCUDA and Numba share the device's primary context; Numba accepts no other.
PyCUDA has three rules for it. A thread must not end with a context pushed, or the process aborts.
An object must lose its last reference while the context is pushed, or it is never released. And the
context has to be detached by hand at the end, because PyCUDA's own destructor fails.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from squeezedrive.engines.backends.cuda.machine import driver_problem
from squeezedrive.engines.errors import BackendUnavailable, GpuLost, GpuMemoryError

# Seconds after which work on the GPU counts as hung. A picture takes a millisecond; a busy GPU
# that others use as well may keep it waiting.
PATIENCE = 30.0
# Seconds between two queries of an event. Linux adds 50 us to every sleep, however short.
POLL_SECONDS = 1e-6
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream of other libraries
# Words of the driver for an invalid access by a kernel: a fault of the program, not of the GPU.
_FAULTS = ("illegal", "misaligned", "assert")


class GpuContext:
    """An NVIDIA GPU through its primary context, which is kept for as long as the process lives.

    Parameters
    ----------
    driver : module
        `pycuda.driver`, initialised.
    cuda : module
        `numba.cuda`.
    graphs : module or None
        `cuda.bindings.driver`; with None, no work is recorded as a graph.
    ordinal : int
        Which GPU, as CUDA counts.

    Attributes
    ----------
    name : str
        Its name, from the driver.
    compute_capability : tuple of int
        Major and minor.
    lost : bool
        Whether it has stopped working. What it holds can no longer be released.
    recording : threading.Lock
        Held while work is recorded as a graph: no thread may wait for all streams meanwhile.
    """

    def __init__(self, driver: Any, cuda: Any, graphs: Any, ordinal: int = 0) -> None:
        self.driver = driver
        self.cuda = cuda
        self.graphs = graphs
        self.ordinal = ordinal
        device = driver.Device(ordinal)
        self.name = str(device.name())
        self.compute_capability: tuple[int, int] = tuple(device.compute_capability())
        self.lost = False
        self.recording = threading.Lock()
        self._context = device.retain_primary_context()
        self._current = _Current(self._context, self._explain)

    @property
    def handle(self) -> int:
        """The driver's handle of the primary context."""
        return int(self._context.handle)

    def current(self) -> AbstractContextManager[None]:
        """Make the context current for this thread within a `with` block, and explain errors.

        This costs a few microseconds, so every step of a slot does it anew, and no thread has a
        context of its own.

        Raises
        ------
        GpuMemoryError
            If something did not fit into the GPU's memory.
        GpuLost
            If the GPU has stopped working.
        """
        return self._current

    def wait(self, event: Any) -> None:
        """Wait until the GPU has passed an event; the context has to be current.

        The event is queried every 60 us or so, which costs a few hundredths of a core.
        `event.synchronize()`, even of an event with blocking synchronisation, has no time-out: a
        GPU that hangs would hang the run.

        Raises
        ------
        GpuLost
            If that takes longer than `PATIENCE`.
        """
        deadline = 0.0
        while not event.query():
            now = time.monotonic()
            deadline = deadline or now + PATIENCE
            if now > deadline:
                self.lost = True
                raise GpuLost(
                    f"the GPU {self.name} has not finished a picture in {PATIENCE:.0f} s; the run"
                    " ends (look at nvidia-smi and at the kernel's log for Xid)"
                )
            time.sleep(POLL_SECONDS)

    def synchronize(self) -> None:
        """Wait for all work in the context, on whatever stream.

        Our streams do not wait for the default stream: what a library uploads on that one is
        complete for them only after this.
        """
        with self.recording:
            self._context.synchronize()

    def array(self, allocation: Any, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return device memory as a C-contiguous array that Numba's kernels take."""
        description = {
            "shape": shape,
            "typestr": np.dtype(dtype).str,
            "data": (int(allocation), False),
            "version": 3,
        }
        return self.cuda.from_cuda_array_interface(description, owner=allocation, sync=False)

    def flush(self) -> None:
        """Free the arrays whose release Numba has put off; the context has to be current."""
        self.cuda.current_context().memory_manager.deallocations.clear()

    def keep_forever(self, thing: object) -> None:
        """Never release this: on a GPU that hangs, releasing hangs as well, even at the exit."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

    def release(self) -> None:
        """Release the CUDA context; called when the process ends."""
        if not self.lost:
            self._context.detach()
            self.lost = True  # what is still held by now can no longer be released

    def _explain(self, error: Exception) -> Exception | None:
        """Return the error to raise for the user; None if the program is at fault."""
        if isinstance(error, GpuLost | GpuMemoryError):
            return None
        text = (str(error) or type(error).__name__).splitlines()[0]
        plain = text.lower().replace("_", " ")
        if "out of memory" in plain:
            return GpuMemoryError(
                f"the memory of the GPU {self.name} is not enough: {text}; use fewer frames in"
                " flight (--set queue.slots=2) or a smaller network input, or end other programs"
                " on the GPU"
            )
        if not self._broken():
            return None
        self.lost = True
        if any(word in plain for word in _FAULTS):
            return None
        return GpuLost(
            f"the GPU {self.name} has stopped working: {text}; look at nvidia-smi and at the"
            " kernel's log for Xid"
        )

    def _broken(self) -> bool:
        """Return whether every further call would fail: an error of a kernel never goes away."""
        if self.lost:  # waiting for a GPU that hangs would never end
            return True
        try:
            self.synchronize()
        except Exception:  # whatever it is called: it is the answer
            return True
        return False


class _Current:
    """Context manager of `GpuContext.current`; a class, as a generator takes longer to enter."""

    def __init__(self, context: Any, explain: Callable[[Exception], Exception | None]) -> None:
        self._context = context
        self._explain = explain

    def __enter__(self) -> None:
        self._context.push()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            explained = self._explain(error) if isinstance(error, Exception) else None
            if explained is not None:
                raise explained from error
        finally:
            self._context.pop()


@functools.cache
def open_gpu() -> GpuContext:
    """Return the first GPU that CUDA shows to this process, always the same object.

    Raises
    ------
    BackendUnavailable
        If there is none, or PyCUDA or Numba-CUDA cannot be loaded.
    """
    problem = driver_problem()
    if problem is not None:
        raise BackendUnavailable(problem)
    try:
        import pycuda.driver as driver
        from numba import cuda

        graphs = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise BackendUnavailable(f"{error.name or 'a package'} cannot be loaded: {error}") from None
    driver.init()
    gpu = GpuContext(driver, cuda, graphs)
    atexit.register(gpu.release)
    return gpu
