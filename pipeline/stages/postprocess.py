"""The fourth stage: finds the boxes and follows objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from squeezedrive.engines.backends.base import Slot
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import StageQueue
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.stages.batch import Batch, BatchEntry, ResultEntry, Results
from squeezedrive.pipeline.stages.square import stored


class Postprocess:
    """Turns batches into results and frees their slots.

    Parameters
    ----------
    free : StageQueue of Slot
        The slots that are not in use.
    controls : Controls or None
        Which detections are kept where no tracker decides; None for all that the back end gives.

    Attributes
    ----------
    observe_device : callable or None
        Called with the slot's `device_seconds` after every detection; see `Slot`.
    """

    name: StageName = "postprocess"

    def __init__(self, free: StageQueue[Slot], controls: Controls | None) -> None:
        self.observe_device: Callable[[Mapping[str, float]], None] | None = None
        self._free = free
        self._controls = controls

    def work(self, batch: Batch) -> Results:
        """Find the boxes, free the slot and follow objects."""
        start = time.perf_counter()
        found: Iterator[Detections] = iter(())
        if batch.slot is not None:
            found = iter(batch.slot.detect())
            if self.observe_device is not None:
                self.observe_device(batch.slot.device_seconds)
            self._free.put(batch.slot)
        results: list[ResultEntry] = []
        between: list[BatchEntry] = []
        for entry in batch.entries:
            if entry.due:
                result = self._detected(entry, next(found))
                results += [*map(_interpolated, between), result]
                between.clear()
            else:
                between.append(entry)
        results += map(_interpolated, between)
        return Results(tuple(results), batch.spent + time.perf_counter() - start)

    def _detected(self, entry: BatchEntry, found: Detections) -> ResultEntry:
        feed, frame, _ = entry
        found = stored(found, frame)
        if feed.tracker is None:
            kept = found if self._controls is None else self._controls.filter(found)
            return ResultEntry(feed, FrameResult(frame, kept))
        shown = feed.tracker.update(found, frame.seconds)
        return ResultEntry(feed, FrameResult(frame, *shown.within(*_size(frame))))


def _interpolated(entry: BatchEntry) -> ResultEntry:
    feed, frame, _ = entry
    assert feed.tracker is not None  # every frame is due where nothing is followed
    shown = feed.tracker.at(frame.seconds).within(*_size(frame))
    return ResultEntry(feed, FrameResult(frame, *shown, detected=False))


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.picture.shape[:2]
    return width, height
