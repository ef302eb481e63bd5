"""One step of the pipeline in threads of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline.frame import Frame
from pipeline.queues import LOOK_AGAIN, Cancelled
from pipeline.timing import StageTiming, name_thread

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Steps(Generic[In, Out]):
    """What a stage does over and over.

    Attributes
    ----------
    take : callable
        Wait for the next item; None ends the stage.
    work : callable
        Make the stage's result of it; None ends the stage.
    give : callable
        Pass the result on, waiting for room.
    finish : callable
        Called once when the stage ends, however it ends: close what the stage writes to.
    """

    take: Callable[[], In | None]
    work: Callable[[In], Out | None]
    give: Callable[[Out], None]
    finish: Callable[[], None]


class Lap(NamedTuple):
    """The way of frames through one stage; moments in seconds of `time.perf_counter`.

    Attributes
    ----------
    stage : str
        Name of the stage.
    frames : tuple of Frame
        What was passed on together. Who keeps a frame keeps its pixels.
    worked_on : int
        How many of them the stage worked on; the others went through as they came.
    thread : int
        Native id of the thread that did the work.
    start, taken, done, given : float
        The thread began to wait for the frames, had them, had worked on them, had passed them on
        or left that to another one.
    wait_out : float
        Seconds for which a thread, this one or that other one, waited to pass them on.
    cpu : float
        Processor time of the thread since it was born, in seconds.
    """

    stage: str
    frames: tuple[Frame, ...]
    worked_on: int
    thread: int
    start: float
    taken: float
    done: float
    given: float
    wait_out: float
    cpu: float


class _Made(NamedTuple):
    """A result that waits for its turn, the thread that made it, and when."""

    result: Any
    thread: int
    start: float
    taken: float
    done: float
    cpu: float


class Stage(Generic[In, Out]):
    """Threads that take, work and give until their input ends or the run is given up.

    Parameters
    ----------
    name : str
        Shown in errors and in the summary.
    steps : Steps
        What to do.
    on_error : callable
        Called with the stage's name and the exception if a step raises one.
    workers : int
        How many items are worked on at the same time. They are taken and given one after the
        other, in the order in which they came.
    room : int
        How many results without work may wait for their turn while their thread goes on.

    Attributes
    ----------
    observe : callable or None
        Called with every `Lap`, one at a time, before the next frame is passed on. Results have
        to be a `Frame` or have `frames` and `worked_on`, as in `pipeline.batch`.
    """

    def __init__(
        self,
        name: str,
        steps: Steps[In, Out],
        on_error: Callable[[str, BaseException], None],
        workers: int = 1,
        room: int = 0,
    ) -> None:
        self.name = name
        self.timing = StageTiming()
        self.workers = workers
        self.observe: Callable[[Lap], None] | None = None
        self._steps = steps
        self._on_error = on_error
        self._taking = threading.Lock()
        self._turn = threading.Condition()
        self._taken = 0
        self._given = 0
        self._made: dict[int, _Made] = {}  # by ticket
        self._left: set[int] = set()  # tickets of those that wait without a thread
        self._room = room
        self._running = workers
        self._broken = False
        # Daemons, so that a device driver that never returns cannot keep the process alive.
        self._threads = [
            threading.Thread(target=self._run, name=name, daemon=True) for _ in range(workers)
        ]

    def wrap(self, around: Callable[[Callable[[In], Out | None]], Any]) -> None:
        """Put something around the stage's work, before it begins."""
        self._steps = replace(self._steps, work=around(self._steps.work))

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Say whether any thread of the stage is still running."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout: float) -> None:
        """Wait for the stage to end, at most `timeout` seconds for each of its workers."""
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        name_thread(self.name)  # threads that libraries start from here are called likewise
        self._guard(self._loop)
        with self._turn:
            self.timing.cpu += time.thread_time()
            self._running -= 1
            last = self._running == 0
        if last:
            self._guard(self._steps.finish)

    def _guard(self, step: Callable[[], None]) -> None:
        """Do a step; if it does not come to its end, the other workers must not wait for it."""
        try:
            step()
            return
        except Cancelled:
            pass
        except BaseException as error:  # handed to the thread that runs the pipeline
            self._on_error(self.name, error)
        with self._turn:
            self._broken = True
            self._made.clear()
            self._turn.notify_all()

    def _loop(self) -> None:
        clock, steps = time.perf_counter, self._steps
        thread = threading.get_native_id()
        while True:
            start = clock()
            with self._taking:
                item = steps.take()
                if item is None:
                    return
                ticket = self._taken
                self._taken += 1
            taken = clock()
            result = steps.work(item)
            del item  # or its pixels would be kept while this thread waits
            if result is None:
                return
            made = _Made(result, thread, start, taken, clock(), time.thread_time())
            worked_on = _content(result)[1]
            del result  # likewise
            with self._turn:
                self._made[ticket] = made
                if self._given == ticket:
                    self._give()
                elif not worked_on and len(self._left) < self._room:
                    self._left.add(ticket)  # what took no work waits without a thread
                else:
                    self._wait_for(ticket)
                del made

    def _wait_for(self, ticket: int) -> None:
        """Wait until whoever gives the result before this one has given this one, too."""
        while ticket in self._made:
            self._turn.wait(LOOK_AGAIN)
        if self._broken:
            raise Cancelled

    def _give(self) -> None:
        """Pass on all results whose turn it is; called with `_turn` held."""
        timing = self.timing
        while (made := self._made.pop(self._given, None)) is not None:
            result, thread, start, taken, done, cpu = made
            del made
            began = time.perf_counter()
            self._steps.give(result)
            given = time.perf_counter()
            wait_out = given - done
            if self._given in self._left:
                # Its own thread went on at once; this one waited for it.
                self._left.remove(self._given)
                given, wait_out = done, given - began
            self._given += 1
            frames, worked_on = _content(result)
            if worked_on:
                timing.busy.add((done - taken) / worked_on, worked_on)
            timing.wait_in += taken - start
            timing.wait_out += wait_out
            if self.observe is not None:
                moments = start, taken, done, given
                self.observe(Lap(self.name, frames, worked_on, thread, *moments, wait_out, cpu))
            del result, frames
        self._turn.notify_all()


def _content(result: Any) -> tuple[tuple[Frame, ...], int]:
    if isinstance(result, Frame):
        return (result,), 1
    return result.frames, result.worked_on
