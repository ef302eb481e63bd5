"""The pipeline: six stages, the queues between them, and an orderly end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.backend import Backend, Slot
from engines.errors import UserError
from kernels.detections import Detections
from pipeline.drawing import Painter
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.queues import Policy, StageQueue
from pipeline.sinks.base import Result, Sink
from pipeline.sources.base import Source
from pipeline.stage import Stage, Steps
from pipeline.timing import Durations, Rate

_TICK = 0.1  # seconds between looks at the threads
_CAPTURE_GRACE = 2.0  # seconds a source may take to notice that the run is stopping
_GIVE_UP_GRACE = 3.0  # seconds all stages may take to notice that the run is given up


class StageError(RuntimeError):
    """A stage failed in a way that is not the user's doing."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"stage {stage} failed: {type(error).__name__}: {error}")
        self.stage = stage


class Stuck(UserError):
    """A stage does not come back from the system, so the run ends without it."""


@dataclass(frozen=True)
class QueueOptions:
    """How frames wait for each other.

    Attributes
    ----------
    policy : str
        What happens when frames come faster than they are processed.
    depth : int
        Frames between two stages.
    max_age : float
        Seconds, for the policy "bounded_age".
    slots : int
        Frames between preprocess and postprocess.
    """

    policy: Policy = "lossless"
    depth: int = 2
    max_age: float = 0.15
    slots: int = 3


@dataclass(frozen=True)
class _InSlot:
    """A frame that occupies a slot; `spent` is the time worked on it so far, in seconds."""

    frame: Frame
    slot: Slot
    spent: float


@dataclass(frozen=True)
class _Found:
    """A frame and its detections; `spent` is the time it took to find them, in seconds."""

    frame: Frame
    detections: Detections
    spent: float


class Pipeline:
    """Takes every frame of a source through the network and into the sinks.

    Parameters
    ----------
    source : Source
        Where frames come from; read by the capture stage and left open.
    backend : Backend
        What runs the network; left open.
    sinks : sequence of Sink
        Where results go. Closed when the run ends, however it ends.
    painter : Painter or None
        Draws into the frames; None leaves the pixels alone.
    class_names : sequence of str
        For counting detections.
    options : QueueOptions
        Policy and depth of the queues.
    limit : int or None
        Frames to read at most.

    Attributes
    ----------
    read, processed : int
        Frames taken from the source, and frames that reached every sink.
    found : Counter
        Detections by class name.
    latency : Durations
        From the moment a picture was there to the moment all sinks had it.
    stages : list of Stage
        In the order in which a frame passes them, each with its timing.
    queues : dict of str to StageQueue
        By the name of the stage that reads from it.
    observe_device : callable or None
        Called with the slot's `device_seconds` after every detection; see `engines.backend.Slot`.
    """

    def __init__(
        self,
        source: Source,
        backend: Backend,
        sinks: Sequence[Sink],
        painter: Painter | None,
        class_names: Sequence[str],
        options: QueueOptions,
        limit: int | None = None,
    ) -> None:
        self.read = 0
        self.processed = 0
        self.found: Counter[str] = Counter()
        self.latency = Durations()
        self.seconds = 0.0
        self.observe_device: Callable[[Mapping[str, float]], None] | None = None
        self._source = source
        self._backend = backend
        self._sinks = sinks
        self._painter = painter
        self._class_names = class_names
        self._limit = limit
        self._rate = Rate()
        self._spent = 0.0
        self._stop = threading.Event()
        self._given_up = False
        self._failure: tuple[str, BaseException] | None = None
        self._failed = threading.Lock()

        depth = options.depth
        captured: StageQueue[Frame] = StageQueue(
            depth, options.policy, options.max_age, lambda frame: frame.captured_at
        )
        prepared: StageQueue[_InSlot] = StageQueue(depth)
        inferred: StageQueue[_InSlot] = StageQueue(depth)
        found: StageQueue[_Found] = StageQueue(depth)
        drawn: StageQueue[Result] = StageQueue(depth)
        self._free: StageQueue[Slot] = StageQueue(options.slots)
        self.queues: dict[str, StageQueue[Any]] = {
            "preprocess": captured,
            "inference": prepared,
            "postprocess": inferred,
            "render": found,
            "sinks": drawn,
        }
        self.stages: list[Stage[Any, Any]] = [
            self._stage("capture", self._wanted, self._capture, captured.put, captured.close),
            self._stage(
                "preprocess", self._waiting, self._preprocess, prepared.put, prepared.close
            ),
            self._stage(
                "inference",
                prepared.get,
                self._infer,
                inferred.put,
                inferred.close,
                backend.parallel,
            ),
            self._stage("postprocess", inferred.get, self._detect, found.put, found.close),
            self._stage("render", found.get, self._draw, drawn.put, drawn.close),
            self._stage("sinks", drawn.get, self._write, lambda done: None, self._close_sinks),
        ]

    def run(self, on_tick: Callable[[Pipeline], None] | None = None) -> None:
        """Process the source to its end; `on_tick` is called about ten times a second.

        Raises
        ------
        UserError
            What a source or sink raised. Frames read before a source failed have been processed.
        StageError
            If a stage failed otherwise; its cause is the original exception.
        Stuck
            If the run is given up, and a stage is held by a device or file that does not answer.
        """
        slots: list[Slot] = []
        try:
            for _ in range(self._free.depth):
                slots.append(self._backend.new_slot())
                self._free.put(slots[-1])
        except BaseException:  # a GPU may have no room for so many
            for slot in slots:
                slot.close()
            self._close_sinks()
            raise
        start = time.perf_counter()
        for stage in self.stages:
            stage.start()
        try:
            self._watch(on_tick)
        except Stuck:
            raise
        except BaseException:
            self.give_up()
            self._watch(None)
            raise
        finally:
            self.seconds = time.perf_counter() - start
        # Only a source that does not return from the system can still be running here, and it
        # holds no slot.
        for slot in slots:
            slot.close()
        if self._failure is not None:
            stage_name, error = self._failure
            raise (
                error if isinstance(error, UserError) else StageError(stage_name, error)
            ) from error

    def stop(self) -> None:
        """End the run in order: read no further frame, finish those on their way."""
        self._stop.set()

    def give_up(self) -> None:
        """End the run now: finish the outputs, leave out the frames on their way."""
        self._stop.set()
        self._given_up = True
        self._free.cancel()
        for queue in self.queues.values():
            queue.cancel()

    @property
    def capturing(self) -> bool:
        """Whether the source is still being read."""
        return self.stages[0].is_alive()

    def _watch(self, on_tick: Callable[[Pipeline], None] | None) -> None:
        stopping_since: float | None = None
        given_up_since: float | None = None
        while alive := [stage for stage in self.stages[1:] if stage.is_alive()]:
            alive[-1].join(_TICK)
            if on_tick is not None:
                on_tick(self)
            now = time.monotonic()
            if self._stop.is_set() and self.capturing:
                stopping_since = stopping_since or now
                if now - stopping_since > _CAPTURE_GRACE:
                    self.queues["preprocess"].close()
            if self._given_up:
                given_up_since = given_up_since or now
                if now - given_up_since > _GIVE_UP_GRACE:
                    names = ", ".join(stage.name for stage in alive)
                    raise Stuck(f"{names}: a file or device does not answer; ended without it")
        # Reads end by themselves after the source's own time-out.
        self.stages[0].join(_CAPTURE_GRACE)

    def _stage(
        self, name: str, take: Any, work: Any, give: Any, finish: Any, workers: int = 1
    ) -> Stage[Any, Any]:
        return Stage(name, Steps(take, work, give, finish), self._on_error, workers)

    def _on_error(self, stage: str, error: BaseException) -> None:
        with self._failed:
            if self._failure is None:
                self._failure = (stage, error)
        # A source that fails ends like one that is over: what it gave is finished.
        if not isinstance(error, SourceError):
            self.give_up()

    # The stages, in the order of a frame's way.

    def _wanted(self) -> bool | None:
        reached = self._limit is not None and self.read >= self._limit
        return None if reached or self._stop.is_set() else True

    def _capture(self, _: bool) -> Frame | None:
        frame = self._source.read()
        if frame is not None:
            self.read += 1
        return frame

    def _waiting(self) -> tuple[Frame, Slot] | None:
        # The slot first: with a live source the frame should be the latest when work begins.
        slot = self._free.get()
        frame = self.queues["preprocess"].get()
        return None if frame is None or slot is None else (frame, slot)

    def _preprocess(self, item: tuple[Frame, Slot]) -> _InSlot:
        frame, slot = item
        start = time.perf_counter()
        # A picture is on the device only if this back end's own decoder left it there.
        slot.preprocess([frame.picture])  # type: ignore[list-item]
        return _InSlot(frame, slot, time.perf_counter() - start)

    def _infer(self, item: _InSlot) -> _InSlot:
        start = time.perf_counter()
        item.slot.infer()
        return _InSlot(item.frame, item.slot, item.spent + time.perf_counter() - start)

    def _detect(self, item: _InSlot) -> _Found:
        start = time.perf_counter()
        detections = item.slot.detect()[0]
        if self.observe_device is not None:
            self.observe_device(getattr(item.slot, "device_seconds", {}))
        self._free.put(item.slot)
        return _Found(item.frame, detections, item.spent + time.perf_counter() - start)

    def _draw(self, item: _Found) -> Result:
        if self._painter is not None:
            rate = self._rate.tick(time.monotonic())
            self._spent += 0.1 * (item.spent - self._spent) if self._spent else item.spent
            # There is no rate before the second frame.
            status = f"{rate:.0f} fps  " * (rate > 0) + f"{self._spent * 1e3:.0f} ms"
            self._painter.draw(item.frame.image, item.detections, status)
        return Result(item.frame, item.detections)

    def _write(self, result: Result) -> Result:
        for sink in self._sinks:
            sink.write(result)
        self.found.update(self._class_names[i] for i in result.detections.classes)
        self.latency.add(time.monotonic() - result.frame.captured_at)
        self.processed += 1
        return result

    def _close_sinks(self) -> None:
        failure: Exception | None = None
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # the other outputs have to be finished all the same
                failure = failure or error
        if failure is not None:
            raise failure
