"""The progress of a build: TensorRT's phases, as one line every few seconds."""

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
    """Collects TensorRT's phases in its threads, and reports the progress in the caller's.

    `say` gets a line every `SECONDS`, with the phase and the time since the start.

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
        self.monitor = _monitor(trt, self)

    def cancel(self) -> None:
        """End the build at its next step."""
        self._cancelled.set()

    def tick(self) -> None:
        """Report the progress, if the last line is `SECONDS` ago."""
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


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    """Return the monitor for TensorRT's threads; its base class comes from the module `trt`."""
    lock, phases = progress._lock, progress._phases

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with lock:
                phases[phase_name] = (0, num_steps)

        def step_complete(self, phase_name: str, step_number: int) -> bool:
            with lock:
                if phase_name in phases:
                    phases[phase_name] = (step_number + 1, phases[phase_name][1])
            return not progress._cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with lock:
                phases.pop(phase_name, None)

    return Monitor()
