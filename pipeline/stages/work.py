"""What the stages after capture do with frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from squeezedrive.engines.backends.base import Slot
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.batch import Batch, Results
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import StageQueue
from squeezedrive.pipeline.core.sink import Result
from squeezedrive.pipeline.core.timing import Durations
from squeezedrive.pipeline.stages.feed import Feed


class Work:
    """The steps of a frame's way, each called by the threads of its stage.

    Parameters
    ----------
    feeds : sequence of Feed
        By `source_id`.
    captured : callable
        Waits for frames that may go together; returns None when there will be no more.
    free : StageQueue of Slot
        The slots that are not in use.
    controls : Controls or None
        Which detections are kept where no tracker decides; None for all that the back end gives.
    max_age : float or None
        Seconds; older frames do not reach the sinks.
    lose : callable
        Called with the error of an output that failed.

    Attributes
    ----------
    latency : Durations
        From the moment a picture was there to the moment all its sinks had it.
    observe_device : callable or None
        Called with the slot's `device_seconds` after every detection; see `Slot`.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        captured: Callable[[], list[Frame] | None],
        free: StageQueue[Slot],
        controls: Controls | None,
        max_age: float | None,
        lose: Callable[[SinkError], None],
    ) -> None:
        self.latency = Durations()
        self.observe_device: Callable[[Mapping[str, float]], None] | None = None
        self._feeds = feeds
        self._captured = captured
        self._free = free
        self._controls = controls
        self._max_age = max_age
        self._lose = lose
        self._between: list[list[Frame]] = [[] for _ in feeds]  # not due, before the next that is
        self._spent = 0.0  # seconds it takes to find objects, of late

    def take(self) -> Batch | None:
        """Wait for frames, and for a slot if one is due; None when the sources have ended."""
        # The slot first: with a live source the frame should be the latest when work begins.
        slot = self._free.get() if any(feed.is_next_due for feed in self._feeds) else None
        while (frames := self._captured()) is not None:
            group, due = self._grouped(frames)
            if any(due):
                if slot is None:
                    slot = self._free.get()
                return Batch(tuple(group), tuple(due), slot)
            if group:
                self._put_back(slot)
                return Batch(tuple(group), tuple(due), None)
        self._put_back(slot)
        rest = [frame for between in self._between for frame in between]
        for between in self._between:
            between.clear()
        return Batch(tuple(rest), (False,) * len(rest), None) if rest else None

    def _grouped(self, frames: list[Frame]) -> tuple[list[Frame], list[bool]]:
        """Return the frames that go on now, and which of them are due.

        Of a file, those between wait for the next that is due. A live source's do not wait.
        """
        group: list[Frame] = []
        due: list[bool] = []
        for frame in frames:
            feed, between = self._feeds[frame.source_id], self._between[frame.source_id]
            is_due = feed.due(frame)
            between.append(frame)
            if is_due or feed.source.info.live:
                group += between
                due += [False] * (len(between) - 1) + [is_due]
                between.clear()
        for feed, between in zip(self._feeds, self._between, strict=True):
            if between and feed.queue.ended:
                group += between
                due += [False] * len(between)
                between.clear()
        return group, due

    def _put_back(self, slot: Slot | None) -> None:
        if slot is not None:
            self._free.put(slot)

    def preprocess(self, item: Batch) -> Batch:
        """Put the pictures that are due into the network's input."""
        if item.slot is None:
            return item
        start = time.perf_counter()
        pictures = [f.picture for f, due in zip(item.frames, item.due, strict=True) if due]
        # A picture is on the device only if this back end's own decoder left it there.
        item.slot.preprocess(pictures)  # type: ignore[arg-type]
        return replace(item, spent=time.perf_counter() - start)

    def infer(self, item: Batch) -> Batch:
        """Run the network."""
        if item.slot is None:
            return item
        start = time.perf_counter()
        item.slot.infer()
        return replace(item, spent=item.spent + time.perf_counter() - start)

    def detect(self, item: Batch) -> Results:
        """Find the boxes, free the slot and follow objects."""
        start = time.perf_counter()
        found: Iterator[Detections] = iter(())
        if item.slot is not None:
            found = iter(item.slot.detect())
            if self.observe_device is not None:
                self.observe_device(item.slot.device_seconds)
            self._free.put(item.slot)
        results: list[Result] = []
        between: list[Frame] = []
        for frame, due in zip(item.frames, item.due, strict=True):
            if due:
                result = self._result(frame, next(found))
                results += [*map(self._guess, between), result]
                between.clear()
            else:
                between.append(frame)
        results += map(self._guess, between)
        return Results(tuple(results), item.spent + time.perf_counter() - start)

    def _result(self, frame: Frame, found: Detections) -> Result:
        tracker = self._feeds[frame.source_id].tracker
        if tracker is None:
            return Result(frame, found if self._controls is None else self._controls.filter(found))
        shown = tracker.update(found, frame.seconds)
        return Result(frame, *shown.within(*_size(frame)))

    def _guess(self, frame: Frame) -> Result:
        tracker = self._feeds[frame.source_id].tracker
        assert tracker is not None  # every frame is due where nothing is followed
        shown = tracker.at(frame.seconds).within(*_size(frame))
        return Result(frame, *shown, detected=False)

    def draw(self, item: Results) -> Results:
        """Draw into the pictures of feeds that have a painter."""
        if any(result.detected for result in item.results):
            self._spent += 0.1 * (item.spent - self._spent) if self._spent else item.spent
        for result in item.results:
            feed = self._feeds[result.frame.source_id]
            rate = feed.rate.at(time.monotonic())
            if feed.painter is not None and not feed.broken:
                # There is no rate before two frames have reached the outputs.
                status = f"{rate:.0f} fps  " * (rate > 0) + f"{self._spent * 1e3:.0f} ms"
                if feed.every > 1:
                    status += f"  1 frame in {feed.every}"
                feed.painter.draw(result.frame.image, result.detections, status, result.ids)
        return item

    def write(self, item: Results) -> Results:
        """Give the results to the sinks of their feed; one that fails ends its feed."""
        for result in item.results:
            feed = self._feeds[result.frame.source_id]
            age = time.monotonic() - result.frame.captured_at
            if self._max_age is not None and age > self._max_age:
                feed.stale += 1
            elif not feed.broken:
                try:
                    feed.write(result)
                except SinkError as error:
                    feed.broken = True
                    feed.interrupt()  # or it might wait for ever for a picture nobody wants
                    self._lose(error)
                else:
                    self.latency.add(time.monotonic() - result.frame.captured_at)
        return item


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.picture.shape[:2]
    return width, height
