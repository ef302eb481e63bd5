"""Show the progress of a run in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from squeezedrive.engines.progress import Progress, clock
from squeezedrive.pipeline.stages.pipeline import Pipeline

PLAIN_SECONDS = 5.0

# Takes the number of frames of a run, if known; provides a function that shows the progress.
OpenProgress = Callable[[int | None], AbstractContextManager[Callable[[Pipeline], None]]]


@contextmanager
def open_progress(expected: int | None, enabled: bool) -> Iterator[Callable[[Pipeline], None]]:
    """Provide a function that shows frames, speed, losses and remaining time, called at any time.

    `expected` is the number of frames the run will have, if that is known.
    """
    start = time.monotonic()
    with Progress(PLAIN_SECONDS, enabled=enabled) as progress:

        def show(pipeline: Pipeline) -> None:
            done = pipeline.processed
            if not progress.due(last=done == expected):
                return
            fps = done / max(time.monotonic() - start, 1e-3)
            total, left, part = "", "", None
            if expected is not None:
                total, part = f" of {expected}", done / max(expected, 1)
                left = f", {max(expected - done, 0) / fps:.0f} s left" if fps > 0 else ""
            dropped = pipeline.dropped.total()
            lost = f", {dropped} dropped" if dropped else ""
            progress.show(f"frame {done}{total}, {fps:.1f} fps{lost}{left}", part)

        yield show


class FilesProgress:
    """Shows the progress of a run through many files in one line; a context manager.

    Parameters
    ----------
    names : sequence of str
        Names of the files.
    sizes : sequence of int
        Bytes of each file, to estimate its share of the work.
    enabled : bool
        Whether to show anything at all.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], enabled: bool) -> None:
        self._names = names
        self._sizes = sizes
        self._progress = Progress(PLAIN_SECONDS, enabled=enabled, leaves=False)
        self._start = time.monotonic()

    def __enter__(self) -> FilesProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()

    @contextmanager
    def file(self, number: int, expected: int | None) -> Iterator[Callable[[Pipeline], None]]:
        """Provide a function that shows the progress of file `number`, from 0.

        The line ends with each file, so messages between two files do not mix with it.
        """
        start = time.monotonic()
        before, total = sum(self._sizes[:number]), max(sum(self._sizes), 1)

        def show(pipeline: Pipeline) -> None:
            if not self._progress.due():
                return
            done, now = pipeline.processed, time.monotonic()
            of = "" if expected is None else f" of {expected}"
            here = 0.0 if not expected else min(done / expected, 1.0)
            part = (before + here * self._sizes[number]) / total
            left = f", {clock((now - self._start) * (1 - part) / part)} left" if part else ""
            # The name comes last, as a narrow terminal cuts off the end.
            self._progress.show(
                f"file {number + 1} of {len(self._sizes)}{left}: frame {done}{of},"
                f" {done / max(now - start, 1e-3):.1f} fps, {self._names[number]}",
                part,
            )

        try:
            yield show
        finally:
            self._progress.close()
