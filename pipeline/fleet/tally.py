"""What a fleet has done so far: as a line, as counters for Prometheus, and as a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from squeezedrive.engines.progress import clock
from squeezedrive.pipeline.fleet.job import ExitKind, FileRow

SHOWN = 10  # failures in the summary
PREFIX = "squeezedrive_fleet"  # of metrics


class FleetTally(Collector):
    """Counts files, frames and failures; Prometheus collects the counts of this run.

    Parts of files count as files.

    Parameters
    ----------
    files, size : int
        Of all files: how many, and bytes.

    Attributes
    ----------
    failed : int
        Files that were not done, in this run or before.
    workers : int
        How many are ready now.
    """

    def __init__(self, files: int, size: int) -> None:
        self._files, self._size = files, size
        self._begun = time.monotonic()
        self._kinds: Counter[str] = Counter()  # of this run
        self._before: Counter[str] = Counter()  # of those that were finished before
        self._frames = self._detections = self._retries = 0
        self._size_done = self._size_before = self._video_seconds = 0.0
        self._failures: list[FileRow] = []
        self.workers = 0

    @property
    def failed(self) -> int:
        """Files that were not done, in this run or before."""
        kinds = self._kinds + self._before
        return kinds.total() - kinds["done"]

    def expect(self, parts: int) -> None:
        """Count parts of a file that is divided, beyond the first."""
        self._files += parts

    def skip(self, kind: str, size: int, parts: int = 1) -> None:
        """Count a file, or one of its parts, that was finished before."""
        self._before[kind] += 1
        self._size_before += size / parts

    def add(self, row: FileRow) -> None:
        """Count a file."""
        self._kinds[row.exit_kind] += 1
        self._size_done += row.size / row.parts
        self._frames += row.frames
        self._detections += row.detections
        self._video_seconds += row.video_seconds
        self._retries += row.tries - 1
        if row.exit_kind != "done" and len(self._failures) < SHOWN:
            self._failures.append(row)

    def line(self) -> tuple[str, float]:
        """Return how far the fleet is, as a line and from 0 to 1."""
        seconds = max(time.monotonic() - self._begun, 1e-3)
        done = self._kinds.total() + self._before.total()
        # Files differ in length: what is left is told by bytes, where they are known.
        here = self._size_done / self._size if self._size else done / max(self._files, 1)
        before = self._size_before / self._size if self._size else 0.0
        left = f", {clock(seconds * (1 - here - before) / here)} left" if here else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"file {done:,} of {self._files:,}, {self._frames:,} frames,"
            f" {self._frames / seconds:.1f} fps, {self.workers} workers{failed}{left}",
            min(here + before, 1.0),
        )

    def summary(self, out: str) -> str:
        """Return what was done as text, and where it is."""
        seconds = max(time.monotonic() - self._begun, 1e-3)
        lines = [
            f"files       {self._kinds['done']:,} done, {self._before.total():,} done before,"
            f" {self._files - self._kinds.total() - self._before.total():,} not begun or given up",
            f"frames      {self._frames:,}, {self._detections:,} detections",
            f"time        {clock(seconds)} for {clock(self._video_seconds)} of video,"
            f" {self._frames / seconds:.1f} frames/s",
        ]
        kinds = self._kinds + self._before
        failed = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()) if kind != "done")
        if failed:
            lines.append(f"failed      {failed}: rows of {out}/files")
            lines += [f"  {row.shown}: {row.stage}: {row.message}" for row in self._failures]
        lines.append(f"wrote       {out}")
        return "\n".join(lines)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        files = CounterMetricFamily(
            f"{PREFIX}_files", "Files by how they ended", labels=["exit_kind"]
        )
        for kind in get_args(ExitKind):
            files.add_metric([kind], self._kinds[kind])
        yield files
        for name, text, count in (
            ("frames", "Frames in results", self._frames),
            ("video_seconds", "Length of the video in results", self._video_seconds),
            ("detections", "Objects in all frames together", self._detections),
            ("retries", "Tries of files beyond the first", self._retries),
        ):
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, count)
        yield GaugeMetricFamily(f"{PREFIX}_workers", "Workers that are ready", self.workers)
        yield GaugeMetricFamily(f"{PREFIX}_files_expected", "Files of the fleet", self._files)
