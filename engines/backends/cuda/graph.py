"""CUDA graphs of work on a stream, for which PyCUDA has no functions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from squeezedrive.engines.backends.cuda.stream import MarkedStream

log = logging.getLogger("squeezedrive")


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
            if graph is not None:  # the error may have ended the recording
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


class RepeatedWork:
    """Work that is repeated on a stream: from the second time on as a graph.

    The first time, it is enqueued as it is, so that libraries can allocate what they need. Work
    that cannot be recorded is enqueued as it is every time.

    Parameters
    ----------
    marked : MarkedStream
        The stream.
    enqueue : callable
        Enqueues the work; see `Graph`.
    recordable : bool
        Whether to try.
    """

    def __init__(
        self, marked: MarkedStream, enqueue: Callable[[], None], recordable: bool = True
    ) -> None:
        self._marked = marked
        self._enqueue = enqueue
        self._recordable = recordable and marked.graphs is not None
        self._done = False
        self._graph: Graph | None = None

    @property
    def nodes(self) -> int:
        """How many launches and copies were recorded; 0 while there is no graph."""
        return 0 if self._graph is None else self._graph.nodes

    def enqueue(self) -> None:
        """Enqueue the work, and return at once."""
        if self._graph is not None:
            self._graph.launch()
        elif self._done and self._recordable and self._record():
            self.enqueue()
        else:
            self._enqueue()
            self._done = True

    def close(self) -> None:
        """Release the graph. Its work has to be finished."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _record(self) -> bool:
        try:
            with self._marked.recording:
                self._graph = Graph(self._marked.graphs, self._marked.handle, self._enqueue)
        except Exception as error:  # whatever the library that cannot do it raises
            self._recordable = False
            log.debug("not recorded as a graph: %s", error)
        return self._recordable
