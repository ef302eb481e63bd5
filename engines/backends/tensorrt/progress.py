"""How far a build is: TensorRT's phases, as one line every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from squeezedrive.engines.progress import clock

Say = Callable[[str], None]
"""Takes a line for the user; for example `logging.Logger.info`."""

SECONDS = 5.0


class BuildProgress:
    """Collects TensorRT's phases from its threads, and says where it is from the caller's.

    Parameters
    ----------
    trt : module
        tensorrt, or one that looks like it.
    say : callable
        Is given a line every `SECONDS`, with the phase and the time since the start.

    Attributes
    ----------
    monitor : IProgressMonitor
        For the builder's configuration.
    """

    def __init__(self, trt: Any, say: Say) -> None:
        self._say = say
        self._start = self._said = time.monotonic()
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}  # outermost first: steps done, steps
        self._cancelled = threading.Event()
        self.monitor = _monitor(trt, self._begin, self._step, self._end)

    def cancel(self) -> None:
        """End the build at its next step."""
        self._cancelled.set()

    def tick(self) -> None:
        """Say where the build is, if it is time to."""
        now = time.monotonic()
        if now - self._said >= SECONDS:
            self._said = now
            self._say(f"building for {clock(now - self._start)}: {self.phase()}")

    def phase(self) -> str:
        """Return the outermost and the innermost phase, each with its steps.

        As in "Building engine 3/6, Timing graph nodes 37/112"; the names are TensorRT's.
        """
        with self._lock:
            phases = [f"{name} {done}/{steps}" for name, (done, steps) in self._phases.items()]
        return ", ".join(phases[:1] + phases[1:][-1:]) or "between two phases"

    def _begin(self, name: str, steps: int) -> None:
        with self._lock:
            self._phases[name] = (0, steps)

    def _step(self, name: str, step: int) -> bool:
        with self._lock:
            if name in self._phases:
                self._phases[name] = (step + 1, self._phases[name][1])
        return not self._cancelled.is_set()

    def _end(self, name: str) -> None:
        with self._lock:
            self._phases.pop(name, None)


def _monitor(
    trt: Any,
    begin: Callable[[str, int], None],
    step: Callable[[str, int], bool],
    end: Callable[[str], None],
) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step_number: int) -> bool:
            return step(phase_name, step_number)

        def phase_finish(self, phase_name: str) -> None:
            end(phase_name)

    return Monitor()
