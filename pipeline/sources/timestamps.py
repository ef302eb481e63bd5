"""Timestamps that never run backwards."""

from __future__ import annotations

from pipeline.sources.base import SourceReport


class Timestamps:
    """Passes a source's timestamps on and mends those that are missing or run backwards.

    Good timestamps are never changed. One that is missing is taken to follow the last one by a
    nominal frame. One that is not after the last one is put a single tick behind it; but if time
    jumps back by a second or more, as when a camera restarts its clock within a recording, all
    that follows is moved, so that the recording goes on with the next nominal frame.

    Parameters
    ----------
    step : int
        Duration of a nominal frame, in ticks of the source's time base.
    second : int
        A second, in ticks.
    report : SourceReport
        Gets a warning for the first timestamp of either sort.
    """

    def __init__(self, step: int, second: int, report: SourceReport) -> None:
        self._step = max(step, 1)
        self._second = max(second, 1)
        self._report = report
        self._last: int | None = None
        self._moved = 0
        self._warned: set[str] = set()

    def mend(self, pts: int | None, frame_id: int) -> int:
        """Return the timestamp to use for a frame, always greater than the one before."""
        last = self._last
        if pts is None:
            self._warn("missing", f"frame {frame_id} has no timestamp, put in line")
            pts = 0 if last is None else last + self._step
        else:
            pts += self._moved
            if last is not None and pts <= last:
                self._warn("backwards", f"time runs backwards at frame {frame_id}, mended")
                if last - pts >= self._second:
                    self._moved += last + self._step - pts
                    pts = last + self._step
                else:
                    pts = last + 1
        self._last = pts
        return pts

    def _warn(self, problem: str, line: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            self._report.warn(f"{line}; there may be more")
