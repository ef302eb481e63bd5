"""Work on a stream recorded as a CUDA graph, which PyCUDA does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Graph:
    """Launches on a stream, recorded once, to be repeated with a single call.

    Every address in them stays what it was when they were recorded.

    Parameters
    ----------
    driver : module
        `cuda.bindings.driver`.
    stream : int
        Handle of the stream. It must not be the default stream.
    steps : callable
        Enqueues the work on this stream, and nothing else; it is not executed. It may allocate no
        memory and wait for nothing.

    Attributes
    ----------
    nodes : int
        How many launches and copies were recorded.

    Raises
    ------
    RuntimeError
        If something in the work cannot be recorded.
    """

    def __init__(self, driver: Any, stream: int, steps: Callable[[], None]) -> None:
        self._driver = driver
        self._stream = driver.CUstream(stream)
        # Thread-local: what other threads do on their streams meanwhile stays allowed.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(driver.cuStreamBeginCapture, self._stream, mode)
        try:
            steps()
        except BaseException:
            _, graph = driver.cuStreamEndCapture(self._stream)  # or the stream is of no use
            if int(graph):
                driver.cuGraphDestroy(graph)
            raise
        (graph,) = self._call(driver.cuStreamEndCapture, self._stream)
        try:
            _, self.nodes = self._call(driver.cuGraphGetNodes, graph)
            (self._executable,) = self._call(driver.cuGraphInstantiate, graph, 0)
        finally:
            driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Enqueue the recorded work on its stream."""
        self._call(self._driver.cuGraphLaunch, self._executable, self._stream)

    def close(self) -> None:
        """Release the graph. Its work has to be finished."""
        self._call(self._driver.cuGraphExecDestroy, self._executable)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        results: list[Any]
        status, *results = function(*arguments)
        if int(status) != 0:
            raise RuntimeError(f"{function.__name__} failed: {status}")
        return results
