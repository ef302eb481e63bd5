"""The second stage: groups frames into batches and prepares the network's input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from squeezedrive.engines.backends.base import Slot
from squeezedrive.pipeline.core.queues import StageQueue
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.stages.batch import Batch, BatchEntry
from squeezedrive.pipeline.stages.feed import Captured, Feed
from squeezedrive.pipeline.stages.square import squared


class Preprocess:
    """Decides which frames of all feeds the network sees, and fills slots with them.

    Parameters
    ----------
    captured : callable
        Waits for frames that may go together; returns None when there will be no more.
    free : StageQueue of Slot
        The slots that are not in use.
    """

    name: StageName = "preprocess"

    def __init__(
        self,
        feeds: Sequence[Feed],
        captured: Callable[[], list[Captured] | None],
        free: StageQueue[Slot],
    ) -> None:
        self._captured = captured
        self._free = free
        # Frames that are not due, before the next one that is.
        self._between: dict[Feed, list[BatchEntry]] = {feed: [] for feed in feeds}

    def take(self) -> Batch | None:
        """Wait for frames, and for a slot if one is due; None when the sources have ended."""
        # The slot first: with a live source the frame should be the latest when work begins.
        slot = self._free.get() if any(feed.is_next_due for feed in self._between) else None
        while (captured := self._captured()) is not None:
            group = self._grouped(captured)
            if any(entry.due for entry in group):
                return Batch(tuple(group), self._free.get() if slot is None else slot)
            if group:
                self._put_back(slot)
                return Batch(tuple(group), None)
        self._put_back(slot)
        rest = [entry for between in self._between.values() for entry in between]
        for between in self._between.values():
            between.clear()
        return Batch(tuple(rest), None) if rest else None

    def work(self, batch: Batch) -> Batch:
        """Put the pictures that are due into the network's input."""
        if batch.slot is None:
            return batch
        start = time.perf_counter()
        pictures = [squared(entry.frame) for entry in batch.entries if entry.due]
        # A picture is on the device only if this back end's own decoder left it there.
        batch.slot.preprocess(pictures)  # type: ignore[arg-type]
        return replace(batch, spent=time.perf_counter() - start)

    def _grouped(self, captured: list[Captured]) -> list[BatchEntry]:
        """Return the frames that go on now.

        Frames of a file wait for the next one that is due; those of a live source do not wait.
        """
        group: list[BatchEntry] = []
        for feed, frame in captured:
            between = self._between[feed]
            entry = BatchEntry(feed, frame, feed.due(frame))
            between.append(entry)
            if entry.due or feed.source.info.live:
                group += between
                between.clear()
        for feed, between in self._between.items():
            if between and feed.queue.ended:
                group += between
                between.clear()
        return group

    def _put_back(self, slot: Slot | None) -> None:
        if slot is not None:
            self._free.put(slot)
