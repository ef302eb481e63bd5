"""Detect objects in videos, cameras and streams; iterate over the results."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from squeezedrive.engines.errors import ConfigError
from squeezedrive.options import configure
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.core.queues import POLL_SECONDS
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.registry import sink_specs
from squeezedrive.result import Result
from squeezedrive.works import Work, open_work

SourceName = str | Path | int
"""A file, folder, pattern, URL, `demo:`, or the number of a camera."""

ROOM = 2  # results that wait for the thread that iterates
ORDERLY_SECONDS = 1.0  # to finish the frames under way when a run is ended early
STUCK_SECONDS = 5.0  # to wait for a file or device that does not answer


class ResultSink(Protocol):
    """The user's own sink; called in a thread of the run, one call at a time."""

    def write(self, result: Result) -> None:
        """Take one result."""

    def close(self) -> None:
        """Finish: no more results will come."""


def detect(
    source: SourceName | Sequence[SourceName],
    *,
    track: bool | None = None,
    classes: Collection[str] = (),
    threshold: float | None = None,
    frames: int | None = None,
    start: float | None = None,
    fps: float | None = None,
    fit: str | None = None,
    backend: str | None = None,
    detect_every: int | None = None,
    draw: bool | Callable[[Result], None] = False,
    sinks: Sequence[ResultSink] = (),
    outputs: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> DetectionRun:
    """Find objects in every frame of one or more sources.

    The pipeline runs in threads of its own, a few frames ahead. They end when the results do, when
    the run is closed or no longer referenced, as after a `break`, and at the end of the program.

    Parameters
    ----------
    source : str, Path or int, or a sequence of them
        A video file, a folder or pattern of videos or of pictures, a camera's number or device, an
        rtsp:// or http:// stream, a FIFO or "-" for standard input, or "demo:". Several share one
        network: files are read one after the other, all others at the same time.
    track : bool, optional
        Whether to track objects: ids that last, steady boxes. By default in video files.
    classes : collection of str
        Only these; empty: all that the network knows.
    threshold : float, optional
        Lowest score of a box, 0 to 1.
    frames : int, optional
        Stop after so many frames of each source.
    start : float, optional
        Seconds to skip at the beginning.
    fps : float, optional
        Frame rate of pictures and of files without timestamps.
    fit : str, optional
        How a picture is fitted into the wide input: "band", "letterbox" or "stretch".
    backend : str, optional
        Back end that runs the network: "auto", "tensorrt", "torch" or "cpu".
    detect_every : int, optional
        The network sees one frame in so many; boxes are interpolated in the others.
    draw : bool or callable
        True to draw the boxes into `result.image`; or a function that draws into each result.
    sinks : sequence of ResultSink
        Sinks of your own: objects with `write(result)` and `close()`.
    outputs : mapping of str to str or Path, optional
        Outputs to write, by the names of the program's options: ``{"output": "out.mp4",
        "jsonl": "out.jsonl"}``. With several files, a folder for the outputs of each.
    overwrite : bool
        Whether outputs that exist may be replaced.
    config : str or Path, optional
        A file that changes some keys of configs/file.yaml, such as "configs/live.yaml".
    settings : mapping, optional
        Values by dotted configuration key, such as ``{"queue.depth": 4}``.

    Returns
    -------
    DetectionRun
        An iterator over `Result`, in the order of the frames.

    Raises
    ------
    UserError
        If an argument, a source, an output or the back end asked for cannot be used.
    """
    asked = {option: Path(path) for option, path in (outputs or {}).items()}
    specs = {spec.option: spec for spec in sink_specs()}
    for option in asked:
        if option not in specs:
            raise ConfigError(f"outputs: expected some of {', '.join(specs)}, got {option!r}")
    chosen: dict[str, Any] = {"video.write": False}
    chosen |= {key: True for option in asked for key in specs[option].turns_on}
    chosen |= settings or {}
    options = configure(
        config, chosen, track=track, classes=classes or None, threshold=threshold, frames=frames,
        start=start, fps=fps, fit=fit, backend=backend, detect_every=detect_every,
    )  # fmt: skip
    names = _source_names(source)
    handoff = _Handoff(draws=bool(draw))
    class_names: list[str] = []  # known when the network is open
    # The caller's loop comes last: it may draw into a picture as soon as it has it.
    own = [*(_OwnSink(sink, class_names) for sink in sinks), handoff]
    painter = None
    if callable(draw):
        user_draw = draw

        def painter(result: FrameResult, status: str) -> None:
            user_draw(Result(result, class_names))

    named = {option: str(path) for option, path in (outputs or {}).items()}
    folders = frozenset(option for option, path in named.items() if path.endswith("/"))
    where = Outputs(asked, overwrite=overwrite, folders=folders)
    work = open_work(names, options, where, own, painter)
    class_names += work.class_names
    return DetectionRun(work, handoff)


def _source_names(source: SourceName | Sequence[SourceName]) -> list[str]:
    """Return the sources as the command line names them."""
    names: list[object]
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
        names = list(source)
    else:
        names = [source]
    if not names:
        raise ConfigError("source: expected at least one, got none")
    for name in names:
        if not isinstance(name, str | Path | int | np.integer):
            hint = "; Detector takes pictures in memory" if isinstance(name, np.ndarray) else ""
            raise ConfigError(
                f"source: expected a name, a path or a number, got {type(name).__name__}{hint}"
            )
    return list(map(str, names))


class DetectionRun(Iterator[Result]):
    """The results of a run, which goes on in threads of its own while you iterate; see `detect`.

    Use it in a `for` loop, or in a `with` block where the loop may end early and something else
    still refers to the run.

    Attributes
    ----------
    class_names : tuple of str
        Names of the network's classes, in the order of their indices.
    sources : tuple of str
        Names of the sources; `Result.source` counts them from 0.
    failed : dict of str to UserError
        The errors so far of files that could not be read, or not to their end; by name.
    """

    def __init__(self, work: Work, handoff: _Handoff) -> None:
        self.class_names = work.class_names
        self.sources = work.sources
        self.failed = work.failed
        self._handoff = handoff
        # Nothing in the thread refers to this object, or it would never be collected.
        thread = threading.Thread(
            target=_run, args=(work, handoff), name="squeezedrive", daemon=True
        )
        self._end = partial(_end, work, handoff, thread)
        weakref.finalize(self, self._end)
        thread.start()

    def __iter__(self) -> DetectionRun:
        return self

    def __next__(self) -> Result:
        try:
            result = self._handoff.get()
        except BaseException:  # the run has failed, or Ctrl-C came while waiting
            self.close()
            raise
        if result is None:
            self.close()
            raise StopIteration
        return Result(result, self.class_names)

    def close(self) -> None:
        """End the run and all of its threads; may be called more than once, from any thread.

        Called in a thread of the run, by a sink or while drawing, it does not wait for the end.
        """
        self._end()

    def __enter__(self) -> DetectionRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handoff(Sink):
    """Hands results from the pipeline to the thread that iterates over them."""

    is_display = True  # it leaves nothing behind

    def __init__(self, draws: bool) -> None:
        self.name = "results"
        self.draws = draws
        self._waiting: deque[FrameResult] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._abandoned = False
        self._failure: BaseException | None = None

    def write(self, result: FrameResult) -> None:
        """Wait for room and add a result; after `abandon`, drop it."""
        with self._changed:
            while len(self._waiting) >= ROOM and not self._abandoned:
                self._changed.wait(POLL_SECONDS)
            if not self._abandoned:
                self._waiting.append(result)
                self._changed.notify_all()

    def close(self) -> None:
        """Do nothing: the run ends when its session is closed, see `finish`."""

    def finish(self, failure: BaseException | None) -> None:
        """Note that the run is over, and the error that ended it, if any."""
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the run, `seconds` at most; return whether it is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)

    def abandon(self) -> None:
        """Drop the results that wait, and all that come."""
        with self._changed:
            self._abandoned = True
            self._waiting.clear()
            self._changed.notify_all()

    def get(self) -> FrameResult | None:
        """Wait for the next result; None at the end. Raises the error that ended the run."""
        with self._changed:
            while not self._waiting:
                if self._abandoned:
                    return None
                if self._ended:
                    failure, self._failure = self._failure, None
                    if failure is not None:
                        raise failure
                    return None
                self._changed.wait(POLL_SECONDS)
            result = self._waiting.popleft()
            self._changed.notify_all()
            return result


class _OwnSink(Sink):
    """The user's own sink as a sink of the pipeline; closed once."""

    def __init__(self, sink: ResultSink, class_names: Sequence[str]) -> None:
        self.name = type(sink).__name__
        self._sink = sink
        self._class_names = class_names
        self._closed = False

    def write(self, result: FrameResult) -> None:
        """Pass a result on."""
        self._sink.write(Result(result, self._class_names))

    def close(self) -> None:
        """Close the user's sink, but only once."""
        if not self._closed:
            self._closed = True
            self._sink.close()


def _run(work: Work, handoff: _Handoff) -> None:
    """Do the work, in the thread of the run."""
    failure: BaseException | None = None
    try:
        work.run()
    except BaseException as error:  # raised again in the thread that iterates
        failure = error
    handoff.finish(failure)


def _end(work: Work, handoff: _Handoff, thread: threading.Thread) -> None:
    """End a run: first in order, so that files hold the frames under way, then at once."""
    handoff.abandon()
    work.stop()
    # Closed by a sink, or collected there: the run ends by itself when this thread goes on.
    if thread is threading.current_thread() or work.is_inside():
        return
    try:
        # Not Thread.join, which takes a thread for ended when Ctrl-C comes meanwhile.
        handoff.wait(ORDERLY_SECONDS)
    finally:  # also when Ctrl-C comes again
        if not handoff.wait(0):
            work.give_up()  # which raises Stuck there if even that is not enough
            handoff.wait(STUCK_SECONDS)
    if handoff.wait(0):
        thread.join(STUCK_SECONDS)
