"""The line that shows how far a run is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from squeezedrive.engines.progress import Progress
from squeezedrive.pipeline.stages.pipeline import Pipeline

PLAIN_SECONDS = 5.0


@contextmanager
def open_progress(expected: int | None, enabled: bool) -> Iterator[Callable[[Pipeline], None]]:
    """Give what shows frames, speed, losses and remaining time; call it as often as you like.

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
