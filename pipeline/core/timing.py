"""Durations and percentiles in memory that does not grow with the run."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from squeezedrive.pipeline.core.stage import StageName

_SMALLEST = 1e-6  # seconds; everything shorter counts as this
_RATIO = 1.02  # width of a bin: percentiles are right to 1 %
_BINS = 1100  # up to 0.8 hours
_LOG_RATIO = math.log(_RATIO)
_MOST_MOMENTS = 256  # that a rate is computed from


class Durations:
    """A histogram of durations with logarithmic bins."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._bins = [0] * _BINS

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration in seconds, `times` times."""
        self.count += times
        self.total += seconds * times
        position = math.log(max(seconds, _SMALLEST) / _SMALLEST) / _LOG_RATIO
        self._bins[min(int(position), _BINS - 1)] += times

    def percentile(self, percent: float) -> float:
        """Return the duration in seconds that `percent` of all stay under; 0 if there are none."""
        rank = math.ceil(self.count * percent / 100)
        seen = 0
        for i, count in enumerate(self._bins):
            seen += count
            if count and seen >= rank:
                return float(_SMALLEST * _RATIO ** (i + 0.5))
        return 0.0

    def histogram(self) -> list[tuple[float, int]]:
        """Return the bins that hold anything: middle in seconds, and count."""
        bins = enumerate(self._bins)
        return [(_SMALLEST * _RATIO ** (i + 0.5), count) for i, count in bins if count]


def percentiles(durations: Durations, percents: tuple[int, ...] = (50, 95, 99)) -> dict[str, float]:
    """Return percentiles in milliseconds, called p50, p95 and so on."""
    return {f"p{p}": durations.percentile(p) * 1e3 for p in percents}


@dataclass
class StageTiming:
    """Where the thread of one stage spent its time, in seconds.

    Attributes
    ----------
    busy : Durations
        Its own work, one entry a frame it worked on: of several at once, each has its share.
    wait_in, wait_out : float
        Waiting for a frame to come, and for room to pass one on.
    cpu : float
        Processor time of the thread itself. Threads that a library starts for it (decoder,
        network, encoder) are not in it.
    """

    busy: Durations = field(default_factory=Durations)
    wait_in: float = 0.0
    wait_out: float = 0.0
    cpu: float = 0.0


def name_thread(name: str) -> str:
    """Name the calling thread for the system (`top -H`, /proc); return the name it had.

    Threads that it starts inherit the name unless they choose one, which shows for which stage a
    library started them. The system keeps 15 bytes. Does nothing where there is no /proc.
    """
    path = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    before = ""
    with suppress(OSError):
        before = path.read_text().rstrip("\n")
        path.write_text(name)
    return before


@contextmanager
def thread_named(name: StageName) -> Iterator[None]:
    """Name the calling thread, and threads started meanwhile, for the system."""
    before = name_thread(name)
    try:
        yield
    finally:
        name_thread(before)


class Rate:
    """Events per second over the recent past, for display; events may come in bursts.

    Parameters
    ----------
    memory : float
        Seconds that count.
    """

    def __init__(self, memory: float = 2.0) -> None:
        self._memory = memory
        self._moments: deque[float] = deque(maxlen=_MOST_MOMENTS)

    def tick(self, now: float) -> None:
        """Count an event at `now` (seconds, monotonic)."""
        self._moments.append(now)
        while len(self._moments) > 2 and now - self._moments[0] > self._memory:
            self._moments.popleft()

    def at(self, now: float) -> float:
        """Return the rate in 1/s at `now`: it falls while nothing happens."""
        moments = tuple(self._moments)
        if len(moments) < 2:
            return 0.0
        quiet = now - moments[-1]
        # Only a gap that is much longer than the others lowers the rate.
        if quiet > 3 * max(b - a for a, b in pairwise(moments)):
            return 1 / max(quiet, 1e-6)
        return (len(moments) - 1) / max(moments[-1] - moments[0], 1e-6)
