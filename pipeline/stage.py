"""One step of the pipeline in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.queues import Cancelled
from pipeline.timing import StageTiming

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


class Stage(threading.Thread, Generic[In, Out]):
    """A thread that takes, works and gives until its input ends or the run is given up.

    Parameters
    ----------
    name : str
        Shown in errors and in the summary.
    steps : Steps
        What to do.
    on_error : callable
        Called with the stage's name and the exception if a step raises one.
    """

    def __init__(
        self,
        name: str,
        steps: Steps[In, Out],
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        # A daemon, so that a device driver that never returns cannot keep the process alive.
        super().__init__(name=name, daemon=True)
        self.timing = StageTiming()
        self._steps = steps
        self._on_error = on_error

    def run(self) -> None:
        """Work until the input ends; called by `start`."""
        for step in (self._loop, self._steps.finish):
            try:
                step()
            except Cancelled:
                pass
            except BaseException as error:  # handed to the thread that runs the pipeline
                self._on_error(self.name, error)
        self.timing.cpu = time.thread_time()

    def _loop(self) -> None:
        clock, timing, steps = time.perf_counter, self.timing, self._steps
        start = clock()
        while (item := steps.take()) is not None:
            taken = clock()
            timing.wait_in += taken - start
            result = steps.work(item)
            del item  # or its pixels would be kept while this thread waits for the next
            if result is None:
                return
            done = clock()
            timing.busy.add(done - taken)
            steps.give(result)
            del result
            start = clock()
            timing.wait_out += start - done
