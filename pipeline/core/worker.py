"""Run one stage of the pipeline in threads of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import POLL_SECONDS, Cancelled
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.core.timing import StageTiming, name_thread


class StageResult(Protocol):
    """What a stage passes on."""

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames in it; those of a source in their order."""

    @property
    def worked_on(self) -> int:
        """How many of them the stage worked on; the others went through as they came."""


In = TypeVar("In")
Out = TypeVar("Out", bound=StageResult)


class StageEvent(NamedTuple):
    """The passage of frames through one stage; moments in seconds of `time.perf_counter`.

    Attributes
    ----------
    stage : StageName
        Which stage.
    frames : tuple of Frame
        The frames passed on together. To keep a frame is to keep its pixels.
    worked_on : int
        How many of them the stage worked on; the others went through as they came.
    thread : int
        Native id of the thread that did the work.
    start, taken, done, given : float
        The thread began to wait for the frames, had them, had worked on them, had passed them on.
    cpu : float
        Processor time of the thread since it was born, in seconds.
    """

    stage: StageName
    frames: tuple[Frame, ...]
    worked_on: int
    thread: int
    start: float
    taken: float
    done: float
    given: float
    cpu: float


class Worker(Generic[In, Out]):
    """Threads that take, work and give in turn, until the input ends or the run is given up.

    Parameters
    ----------
    stage : StageName
        Which stage they work for.
    take : callable
        Wait for the next item; None ends the stage.
    work : callable
        Make the stage's result of it; None ends the stage.
    give : callable
        Pass the result on, waiting for room.
    finish : callable
        Called once when the stage ends, however it ends: close what the stage writes to.
    on_error : callable
        Called with the worker's name and the exception if a step raises one.
    workers : int
        How many items are worked on at the same time. They are taken and given one after the
        other, in the order in which they came.
    waits : bool
        Whether its work is to wait for a device, such as a camera: then only the processor time of
        its thread counts as work, and the rest as waiting for input.
    mark : str
        Ends the name; distinguishes the workers of a stage that has several.

    Attributes
    ----------
    name : str
        Stage and mark, as errors and summary show them.
    observe : callable or None
        Called with every `StageEvent`, one at a time, before the next frame is passed on.
    """

    def __init__(
        self,
        stage: StageName,
        take: Callable[[], In | None],
        work: Callable[[In], Out | None],
        give: Callable[[Out], None],
        finish: Callable[[], None],
        on_error: Callable[[str, BaseException], None],
        workers: int = 1,
        waits: bool = False,
        mark: str = "",
    ) -> None:
        self.stage: StageName = stage
        self.name = f"{stage}{mark}"
        self.timing = StageTiming()
        self.workers = workers
        self.observe: Callable[[StageEvent], None] | None = None
        self._take = take
        self._work = work
        self._give = give
        self._finish = finish
        self._waits = waits
        self._on_error = on_error
        self._taking = threading.Lock()
        self._turn = threading.Condition()
        self._taken = 0
        self._given = 0
        self._running = workers
        self._broken = False
        # Daemons, so that a device driver that never returns cannot keep the process alive.
        self._threads = [
            threading.Thread(target=self._run, name=self.name, daemon=True) for _ in range(workers)
        ]

    def wrap(
        self, around: Callable[[Callable[[In], Out | None]], Callable[[In], Out | None]]
    ) -> None:
        """Replace the stage's work by `around(work)`, before the stage is started."""
        self._work = around(self._work)

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Return whether any thread of the stage is still running."""
        return any(thread.is_alive() for thread in self._threads)

    def is_inside(self) -> bool:
        """Return whether the caller is one of the stage's threads."""
        return threading.current_thread() in self._threads

    def join(self, timeout: float) -> None:
        """Wait for the stage to end, at most `timeout` seconds for each of its workers."""
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        name_thread(self.name)  # threads that libraries start here inherit the name
        self._guard(self._loop)
        with self._turn:
            self.timing.cpu += time.thread_time()
            self._running -= 1
            last = self._running == 0
        if last:
            self._guard(self._finish)

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step; if it fails, wake the other workers, which must not wait for it."""
        try:
            step()
            return
        except Cancelled:
            pass
        except BaseException as error:  # handed to the thread that runs the pipeline
            self._on_error(self.name, error)
        with self._turn:
            self._broken = True
            self._turn.notify_all()

    def _loop(self) -> None:
        clock, timing = time.perf_counter, self.timing
        while True:
            start = clock()
            with self._taking:
                item = self._take()
                if item is None:
                    return
                ticket = self._taken
                self._taken += 1
            taken, cpu_before = clock(), time.thread_time()
            result = self._work(item)
            del item  # or its pixels would be kept while this thread waits
            if result is None:
                return
            done = clock()
            if self._waits:
                taken = max(taken, done - (time.thread_time() - cpu_before))
            with self._turn:
                while self._given != ticket:
                    if self._broken:
                        raise Cancelled
                    self._turn.wait(POLL_SECONDS)
                self._give(result)
                given = clock()
                self._given += 1
                worked_on = result.worked_on
                if worked_on:
                    timing.busy.add((done - taken) / worked_on, worked_on)
                timing.wait_in += taken - start
                timing.wait_out += given - done
                if self.observe is not None:
                    moments = start, taken, done, given
                    thread, cpu = threading.get_native_id(), time.thread_time()
                    self.observe(
                        StageEvent(self.stage, result.frames, worked_on, thread, *moments, cpu)
                    )
                del result
                self._turn.notify_all()
