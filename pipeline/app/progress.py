"""How far a run is: one moving line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from squeezedrive.pipeline.stages.pipeline import Pipeline

_PLAIN_EVERY = 5.0  # seconds between lines where output is not a terminal


class Progress(Protocol):
    """Shows how far a pipeline is; call it with the pipeline as often as you like."""

    def __enter__(self) -> Progress:
        """Begin."""

    def __call__(self, pipeline: Pipeline) -> None:
        """Show the present state."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, leaving the last state on the screen."""


def open_progress(expected: int | None, enabled: bool) -> Progress:
    """Choose how to show progress on standard error.

    Parameters
    ----------
    expected : int or None
        Frames the run will have, if that is known.
    enabled : bool
        Whether to show anything at all.
    """
    if not enabled:
        return _Silent()
    return _Line(expected) if sys.stderr.isatty() else _Plain(expected)


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __call__(self, pipeline: Pipeline) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Plain(_Silent):
    def __init__(self, expected: int | None) -> None:
        self._expected = expected
        self._start = self._printed = time.monotonic()

    def __call__(self, pipeline: Pipeline) -> None:
        now = time.monotonic()
        if now - self._printed < _PLAIN_EVERY:
            return
        self._printed = now
        done, fps = pipeline.processed, pipeline.processed / (now - self._start)
        total = "" if self._expected is None else f" of {self._expected}"
        left = ""
        if self._expected is not None and fps > 0:
            left = f", {max(self._expected - done, 0) / fps:.0f} s left"
        dropped = pipeline.dropped.total()
        lost = f", {dropped} dropped" if dropped else ""
        with suppress(OSError):  # nobody reads it any more: no reason to end the run
            print(f"frame {done}{total}, {fps:.1f} fps{lost}{left}", file=sys.stderr, flush=True)


class _Line(_Silent):
    def __init__(self, expected: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("detecting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.1f} fps"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[dropped]}"),
            console=Console(stderr=True),
            refresh_per_second=5,
        )
        self._task = self._bar.add_task("", total=expected, fps=0.0, dropped="")
        self._start = time.monotonic()

    def __enter__(self) -> _Line:
        self._bar.start()
        return self

    def __call__(self, pipeline: Pipeline) -> None:
        dropped = pipeline.dropped.total()
        self._bar.update(
            self._task,
            completed=pipeline.processed,
            fps=pipeline.processed / max(time.monotonic() - self._start, 1e-3),
            dropped=f"{dropped} dropped" if dropped else "",
        )

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
