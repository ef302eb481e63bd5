"""Record what a pipeline does while it runs, in memory that does not grow with the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.core.timing import Durations, StageTiming
from squeezedrive.pipeline.core.worker import StageEvent
from squeezedrive.pipeline.profiling.series import Gauge, LoadCurves
from squeezedrive.pipeline.profiling.threads import (
    ThreadTable,
    ThreadTime,
    read_cores,
    read_threads,
)
from squeezedrive.pipeline.stages.pipeline import Pipeline

TRACE_FRAMES = 200  # frames of which every step is kept, for trace.json
TRACE_DEPTHS = 20 * TRACE_FRAMES  # changes of queues that are kept
LARGEST_WARMUP = 4  # of a run of known length, the warm-up takes at most one frame in so many
# Seconds between two readings of the threads' times; later, a share of the run so far.
_LOOK = 0.25
_LOOK_SHARE = 0.05


class Step(NamedTuple):
    """A `StageEvent` without its pixels; moments in seconds since the measurement began."""

    stage: StageName
    frames: tuple[int, ...]  # their numbers
    thread: int
    start: float
    taken: float
    done: float
    given: float
    cpu: float


class Depth(NamedTuple):
    """The number of items in a queue from a moment on, in seconds since the measurement began."""

    at: float
    queue: str
    level: int


@dataclass
class StageRecord:
    """The times of one stage since the measurement began.

    `timing.cpu` is the processor time of its own threads; `work` holds its busy times over time.
    """

    timing: StageTiming = field(default_factory=StageTiming)
    work: LoadCurves = field(default_factory=LoadCurves)


@dataclass(frozen=True)
class Clocks:
    """The clocks of a measurement; tests pass their own."""

    wall: Callable[[], float] = time.perf_counter  # the clock of the stages
    age: Callable[[], float] = time.monotonic  # the clock of `Frame.captured_at`
    cpu: Callable[[], float] = time.process_time
    threads: Callable[[], dict[int, ThreadTime]] = read_threads
    cores: Callable[[], tuple[float, float] | None] = read_cores


class Recorder:
    """Collects the figures of a run from the end of its warm-up to the end of its source.

    The warm-up lasts until `warmup` seconds have passed since the first result, and as many
    frames as the pipeline holds have come out; but no longer than a quarter of the frames, if
    their number is known. Meanwhile decoder, network and encoder allocate their memory and start
    their threads, compiled functions are loaded, and the queues fill.

    The measurement ends with the first result after the source has ended. As many frames are in
    the pipeline then as when it began, so that all stages have worked on as many frames as came
    out; later frames cost less, as the first stages have finished them already.

    Parameters
    ----------
    pipeline : Pipeline
        Before its run. The recorder makes itself its observer.
    warmup : float
        Seconds.
    expected : int or None
        Frames the run will have, if that is known.
    capacity : int
        Frames the pipeline holds at most.

    Attributes
    ----------
    warmup_frames, frames : int
        Frames that came out before and after the measurement began.
    drained_frames : int
        Frames that came out after the measurement.
    warmup_seconds : float
        From the first result to the beginning of the measurement.
    seconds, cpu : float
        Length of the measurement, and the processor time of the whole process in it.
    stages : dict of StageName to StageRecord
    queues : dict of str to Gauge
    finished : LoadCurves
        Frames that came out, with the processor time spent since those before, in seconds.
    latency : Durations
        From the arrival of a picture until all sinks had it, in seconds.
    late : LoadCurves
        The same latencies over time.
    device : dict of str to Durations
        Seconds of the accelerator by step, if the back end reports them.
    steps, depths : list
        All events of the first `TRACE_FRAMES` frames.
    owners : dict of int to StageName
        The stage of each stage's thread, by native id.
    threads : ThreadTable
        All threads of the process.
    picture : Frame or None
        The first frame of the measurement.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        warmup: float,
        expected: int | None,
        capacity: int,
        clocks: Clocks = Clocks(),
    ) -> None:
        self.warmup_frames = self.frames = self.drained_frames = 0
        self.warmup_seconds = self.seconds = self.cpu = 0.0
        self.stages = {worker.stage: StageRecord() for worker in pipeline.stages}
        self.queues = {name: Gauge() for name in pipeline.queues}
        self.finished = LoadCurves()
        self.latency = Durations()
        self.late = LoadCurves()
        self.device: dict[str, Durations] = {}
        self.steps: list[Step] = []
        self.depths: list[Depth] = []
        self.owners: dict[int, StageName] = {}
        self.picture: Frame | None = None
        self.threads = ThreadTable()
        self._warmup = warmup
        self._fewest = capacity
        self._most = None if expected is None else max(expected // LARGEST_WARMUP, 1)
        self._clocks = clocks
        self._first: float | None = None
        self._zero: float | None = None  # when the measurement began
        self._over = False
        self._cpu_zero = 0.0
        self._thread_cpu: dict[int, float] = {}
        self._captured = -1  # number of the last frame known to have been captured
        self._window = range(0)  # numbers of the frames that are traced
        self._tracing = False
        self._look = 0.0
        self._first_stage = pipeline.stages[0].stage
        self._last_stage = pipeline.stages[-1].stage
        self._captured_frames = next(iter(pipeline.queues.values()))
        for worker in pipeline.stages:
            worker.observe = self.on_event
        for name, queue in pipeline.queues.items():
            queue.observe = partial(self.depth, name)
        pipeline.postprocess.observe_device = self.on_device

    def on_event(self, event: StageEvent) -> None:
        """Record what a stage did; called by its threads, one at a time."""
        cpu = event.cpu - self._thread_cpu.get(event.thread, 0.0)
        self._thread_cpu[event.thread] = event.cpu
        self.owners.setdefault(event.thread, event.stage)
        if event.stage == self._first_stage:
            self._captured = event.frames[-1].frame_id
        zero = self._zero
        if zero is not None and event.taken >= zero:
            if not self._over:
                self._count(event, zero, cpu)
            self._trace(event, zero, cpu)
        if event.stage == self._last_stage:
            if self._over:
                self.drained_frames += len(event.frames)
            else:
                self._finish(event)
                self._over = self._captured_frames.closed

    def depth(self, queue: str, level: int) -> None:
        """Record a queue's new depth; called with the queue locked."""
        gauge = self.queues[queue]
        if self._zero is None:
            gauge.level = level
            return
        at = self._clocks.wall() - self._zero
        if not self._over:
            gauge.set(at, level)
        if self._tracing and len(self.depths) < TRACE_DEPTHS:
            self.depths.append(Depth(at, queue, level))

    def on_device(self, seconds: Mapping[str, float]) -> None:
        """Record how long the accelerator worked on a frame, by step."""
        if self._zero is not None and not self._over:
            for step, duration in seconds.items():
                self.device.setdefault(step, Durations()).add(duration)

    def tick(self) -> None:
        """Read the threads' times now and then; called often while the pipeline runs."""
        now = self._clocks.wall()
        if self._zero is not None and not self._over and now >= self._look:
            self._look = now + max(_LOOK, _LOOK_SHARE * (now - self._zero))
            self.threads.look(now, self._clocks.threads(), self._clocks.cores(), self.owners.keys())

    def close(self) -> None:
        """End the measurement: levels count up to the last result."""
        for gauge in self.queues.values():
            gauge.set(self.seconds, gauge.level)

    def _count(self, event: StageEvent, zero: float, cpu: float) -> None:
        record = self.stages[event.stage]
        if event.worked_on:
            share = (event.done - event.taken) / event.worked_on
            record.timing.busy.add(share, event.worked_on)
            record.work.add(event.done - zero, share, event.worked_on)
        record.timing.wait_in += event.taken - max(event.start, zero)
        record.timing.wait_out += event.given - event.done
        record.timing.cpu += cpu

    def _finish(self, event: StageEvent) -> None:
        if self._zero is None:
            self.warmup_frames += len(event.frames)
            self._first = event.done if self._first is None else self._first
            self.warmup_seconds = event.done - self._first
            warm = self.warmup_seconds >= self._warmup and self.warmup_frames >= self._fewest
            if warm or (self._most is not None and self.warmup_frames >= self._most):
                self._cpu_zero = self._clocks.cpu()
                self._zero = event.given
                # The next frame may be captured already, as a stage reports a frame after passing
                # it on. The one after it is captured from now on.
                first = self._captured + 2
                self._window = range(first, first + TRACE_FRAMES)
                self._tracing = True
            return
        at = event.given - self._zero
        self.seconds = at
        now, spent = self._clocks.age(), self._clocks.cpu() - self._cpu_zero - self.cpu
        self.cpu += spent
        self.frames += len(event.frames)
        self.finished.add(at, spent / len(event.frames), len(event.frames))
        # One after the other: the first reached its outputs before the last.
        for still_to_come, frame in enumerate(reversed(event.frames)):
            latency = now - still_to_come * (event.done - event.taken) / len(event.frames)
            latency -= frame.captured_at
            self.latency.add(latency)
            self.late.add(at, latency)

    def _trace(self, event: StageEvent, zero: float, cpu: float) -> None:
        numbers = tuple(frame.frame_id for frame in event.frames)
        if event.stage == self._last_stage and numbers[-1] >= self._window.stop:
            self._tracing = False
        numbers = tuple(number for number in numbers if number in self._window)
        if numbers:
            if self.picture is None and event.stage == self._first_stage:
                self.picture = event.frames[0]
            start = max(event.start - zero, 0.0)
            moments = (start, event.taken - zero, event.done - zero, event.given - zero)
            self.steps.append(Step(event.stage, numbers, event.thread, *moments, cpu))
