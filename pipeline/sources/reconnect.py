"""Live sources that fail and come back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import (
    DEFAULT_FPS,
    Source,
    SourceInfo,
    SourceReport,
    SourceState,
)
from squeezedrive.pipeline.core.timing import name_thread
from squeezedrive.pipeline.sources.names import live_kind, redact
from squeezedrive.pipeline.sources.state import StateKeeper
from squeezedrive.pipeline.sources.timestamps import Timeline

CLOSE_TIMEOUT = 0.5  # seconds a connection may take to end after `interrupt`
POLL_SECONDS = 1.0  # seconds
STEADY = 2.0  # seconds of pictures that make a connection a good one
STALL_SECONDS = 1.0
STALL_FRAMES = 5  # durations of a frame after which one is missed, if that is longer
# Share by which a wait may be longer or shorter: cameras that went down together are not all asked
# at once.
JITTER = 0.25
MAX_WARNINGS = 50  # of all connections together


class Backoff:
    """Choose the wait before the next attempt: twice as long every time, with some chance.

    Parameters
    ----------
    shortest, longest : float
        Seconds before the first attempt, and at most.
    uniform : callable
        Draws a number between two.
    """

    def __init__(
        self,
        shortest: float = 0.5,
        longest: float = 10.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._shortest = shortest
        self._longest = longest
        self._uniform = uniform
        self._next = shortest

    def seconds(self) -> float:
        """Return how long to wait now."""
        wait, self._next = self._next, min(self._next * 2, self._longest)
        return wait * self._uniform(1 - JITTER, 1 + JITTER)

    def reset(self) -> None:
        """Make the next wait the shortest again."""
        self._next = self._shortest


class ReconnectingSource(Source):
    """A live source that is opened again when it fails, ends or falls silent.

    A thread of its own opens the inner source, reads and closes it, so that waiting for a frame
    can be ended at any moment by `interrupt`, however long the system takes to answer, and nothing
    is closed while it is being read. One that does not come back from the system is left behind;
    it does not keep the process from ending.

    Until the first `read` only the newest frame is kept; those it replaces are counted as
    "overrun". From then on each is waited for.

    `info` is that of the first connection, and `origin` the first frame that is read; sizes and
    rates may change with a later one. See `Timeline` for timestamps and numbers.

    Parameters
    ----------
    spec : str
        What the user named: a camera, or the URL of a stream.
    open_inner : callable
        Opens it, for example `lambda: open_source(spec, options)`.
    limit : float or None
        Seconds without a picture after which it is given up; 0: at once, None: never.
    inner : Source, optional
        The source, opened already. Without it, the first connection is made in the background
        like all others, and `info` has no size before.
    backoff : Backoff, optional
        How long to wait between two attempts.
    """

    def __init__(
        self,
        spec: str,
        open_inner: Callable[[], Source],
        limit: float | None,
        inner: Source | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__()  # its report is that of connections that are over
        self.info = inner.info if inner is not None else _provisional(spec)
        self._open_inner = open_inner
        self._limit = limit
        self._inner = inner
        self._backoff = backoff or Backoff()
        self._keeper = StateKeeper(self.info.name)
        self._timeline = Timeline()
        self._changed = threading.Condition()
        # The rest is read and written under `_changed`.
        self._frame: Frame | None = None
        self._failure: BaseException | None = None
        self._over = False
        self._wanted = False  # whether there was a read
        self._given = False  # whether there was a frame for it
        self._interrupted_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def state(self) -> SourceState:
        """The state of the connection; may be read from any thread."""
        return self._keeper.state

    @property
    def report(self) -> SourceReport:
        """The report on all connections so far."""
        with self._changed:
            total = SourceReport(self._report.skipped.copy(), list(self._report.warnings))
            if self._inner is not None:
                _add(total, self._inner.report)
        return total

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end and after `interrupt`.

        Raises
        ------
        SourceError
            If the source is given up.
        """
        with self._changed:
            self._wanted = True
            began = time.monotonic()
            while self._frame is None and not self._over and self._interrupted_at is None:
                self._changed.wait(self._watch(began))
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            if self._interrupted_at is not None:
                return None
            if frame is None and self._failure is not None:
                raise self._failure
            if frame is not None and not self._given:
                self._given = True
                if self.info.live:
                    self.info = replace(self.info, origin=frame.pts)
            return frame

    def interrupt(self) -> None:
        """End every wait now and for good; may be called from any thread."""
        with self._changed:
            if self._interrupted_at is None:
                self._interrupted_at = time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """End the connection, waiting for it no longer than half a second after `interrupt`."""
        self.interrupt()
        since = self._interrupted_at or 0.0
        self._thread.join(max(since + CLOSE_TIMEOUT - time.monotonic(), 0))

    def _watch(self, began: float) -> float:
        """Note a stall of the reading that began then; return when to look again, in seconds."""
        if self.state.condition != "connected":
            return POLL_SECONDS
        frames = STALL_FRAMES / (self.info.fps or DEFAULT_FPS)
        left = max(self._keeper.quiet_since, began) + max(STALL_SECONDS, float(frames))
        left -= time.monotonic()
        if left > 0:
            return min(left, POLL_SECONDS)
        self._keeper.stalled()
        return POLL_SECONDS

    # What follows runs in the thread.

    def _run(self) -> None:
        name_thread("capture")  # threads that libraries start from here are called likewise
        failure: BaseException | None = None
        try:
            while not self._stopping(0):
                failure = self._connection()
                again = self.info.live and self._limit != 0
                if failure is None and not again:
                    return
                text = str(failure or f"{self.info.name}: has ended")
                quiet = time.monotonic() - self._keeper.quiet_since
                left = float("inf") if self._limit is None else self._limit - quiet
                with self._changed:
                    if self._interrupted_at is None:
                        self._keeper.failed(text, for_good=left <= 0 or not again)
                if not again:
                    return
                if left <= 0:
                    failure = SourceError(f"{text}; given up after {quiet:.0f} s without a picture")
                    return
                self._stopping(min(self._backoff.seconds(), left))
        except BaseException as error:  # handed to the thread that reads
            failure = error
        finally:
            if self._inner is not None:  # interrupted before it was read
                self._inner.close()
            with self._changed:
                self._failure, self._over = failure, True
                self._changed.notify_all()

    def _connection(self) -> SourceError | None:
        """Open the source and pass its frames on; return why it failed, or None at its end."""
        try:
            inner = self._inner
            if inner is None:
                self._keeper.trying()
                inner = self._open_inner()
                with self._changed:
                    self._inner = inner
            try:
                self._pass_on(inner)
            finally:
                inner.close()
                with self._changed:
                    self._inner = None
                    _add(self._report, inner.report)
        except SourceError as error:
            return error
        return None

    def _pass_on(self, inner: Source) -> None:
        if not self._timeline.begun:
            self.info = inner.info
        self._timeline.join(inner.info.fps)
        began = time.monotonic()
        while (frame := inner.read()) is not None:
            # A camera that only ever gives a few pictures is not asked more often for them.
            if time.monotonic() - began > STEADY:
                self._backoff.reset()
            if not self._hand_over(self._timeline.place(frame)):
                return

    def _hand_over(self, frame: Frame) -> bool:
        """Leave a frame for `read`, and wait for room if it is being called; False: end."""
        with self._changed:
            self._keeper.picture()
            waits = self._wanted or not self.info.live
            while waits and self._frame is not None and self._interrupted_at is None:
                self._changed.wait(POLL_SECONDS)
            if self._frame is not None:
                self._report.skipped["overrun"] += 1
            self._frame = frame
            self._changed.notify_all()
            return self._interrupted_at is None

    def _stopping(self, seconds: float) -> bool:
        """Wait that long, and return whether the source is to end."""
        with self._changed:
            return self._changed.wait_for(lambda: self._interrupted_at is not None, seconds)


def _provisional(spec: str) -> SourceInfo:
    """Return what can be said of a live source that was never connected."""
    kind = live_kind(spec) or "stream"
    name = f"camera {spec}" if kind == "camera" else redact(spec)
    return SourceInfo(name, kind, 0, 0, None, None, Fraction(1, 1_000_000), stem=Path(kind))


def _add(total: SourceReport, report: SourceReport) -> None:
    # Copies at one go: another thread may be adding to the report.
    total.skipped.update(Counter(dict(report.skipped)))
    for line in list(report.warnings):
        if len(total.warnings) < MAX_WARNINGS:
            total.warn(line)
