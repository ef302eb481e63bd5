"""Figures over the time of a run, in memory that does not grow with its length."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

BUCKETS = 240
WIDTH = 0.05  # seconds of a bucket at first; doubled whenever the buckets are full
_GROUPS = 10  # parts of a run that are compared with each other
_FEWEST = 4  # groups from which a spread is computed


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float  # over the whole run
    error: float | None  # standard error of the mean; None if the run is too short


class LoadCurves:
    """Events over time: how many, and the sum of a value of each, by bucket.

    Attributes
    ----------
    width : float
        Seconds of a bucket.
    counts, sums : list of float
        Of the events in each bucket.
    """

    def __init__(self) -> None:
        self.width = WIDTH
        self.counts = [0.0] * BUCKETS
        self.sums = [0.0] * BUCKETS

    def add(self, at: float, value: float = 0.0, times: int = 1) -> None:
        """Count an event `at` seconds after the beginning, `times` times."""
        bucket = self._bucket(at)
        self.counts[bucket] += times
        self.sums[bucket] += value * times

    def used(self, seconds: float) -> int:
        """Return how many buckets lie wholly within the first `seconds`."""
        return min(int(seconds / self.width + 1e-9), BUCKETS)

    def rate(self, seconds: float) -> Estimate:
        """Return events per second over the first `seconds`."""
        groups = self._groups(seconds)
        rates = [sum(self.counts[a:b]) / ((b - a) * self.width) for a, b in groups]
        return Estimate(sum(self.counts) / seconds if seconds else 0.0, _error(rates))

    def mean(self, seconds: float) -> Estimate:
        """Return the mean value of the events in the first `seconds`."""
        parts = [(sum(self.sums[a:b]), sum(self.counts[a:b])) for a, b in self._groups(seconds)]
        count = sum(self.counts)
        means = [total / n for total, n in parts if n]
        return Estimate(sum(self.sums) / count if count else 0.0, _error(means))

    def _bucket(self, at: float) -> int:
        while at >= self.width * BUCKETS:
            self.width *= 2
            for values in (self.counts, self.sums):
                half = [a + b for a, b in zip(values[::2], values[1::2], strict=True)]
                values[:] = half + [0.0] * (BUCKETS - len(half))
        return max(int(at / self.width), 0)

    def _groups(self, seconds: float) -> list[tuple[int, int]]:
        """Split the buckets into parts of equal length.

        A long part hardly depends on the one before, so the scatter of the parts' means gives the
        error of the whole: the method of batch means.
        """
        used = self.used(seconds)
        size = max(used // _GROUPS, 1)
        return [(i, i + size) for i in range(0, used - size + 1, size)]


class Gauge(LoadCurves):
    """A level that changes in steps, averaged over time.

    `sums` holds the integral of the level over each bucket.

    Attributes
    ----------
    held : dict of int to float
        Seconds spent at each level.
    """

    def __init__(self) -> None:
        super().__init__()
        self.level = 0
        self.held: dict[int, float] = {}
        self._since = 0.0

    def set(self, at: float, level: int) -> None:
        """Change the level `at` seconds after the beginning."""
        last = self._bucket(at)
        begin = self._since
        while begin < at:
            bucket = min(int(begin / self.width + 1e-9), last)
            end = at if bucket == last else (bucket + 1) * self.width
            self.sums[bucket] += self.level * (end - begin)
            begin = end
        self.held[self.level] = self.held.get(self.level, 0.0) + max(at - self._since, 0.0)
        self.level = level
        self._since = max(at, self._since)

    def average(self, seconds: float) -> float:
        """Return the level averaged over the first `seconds`."""
        return sum(self.sums) / seconds if seconds else 0.0


def _error(values: list[float]) -> float | None:
    if len(values) < _FEWEST:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
