"""Correct timestamps, so that they never run backwards."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import DEFAULT_FPS, SourceReport


class Timestamps:
    """Correct timestamps that are missing or run backwards; keep all others.

    Good timestamps are never changed. One that is missing is taken to follow the last one by a
    nominal frame. One that is not after the last one is put a single tick behind it; but if time
    jumps back by a second or more, all that follows is moved, so that the recording goes on with
    the next nominal frame. Jumps of a file's clock have been closed before, see `Continuity`.

    Live, what follows is told by the wall clock: a frame follows the last one by the time that
    has passed between their arrivals. And time cannot leap there, as when a camera learns the
    date: a frame a second or more ahead of what the promptest frame so far allows moves all that
    follow it. One that was held up on the way is late, not early, and keeps its time.

    Parameters
    ----------
    step : int
        Duration of a nominal frame, in ticks of the source's time base.
    second : int
        A second, in ticks.
    report : SourceReport
        Gets a warning for the first timestamp of each sort.
    """

    def __init__(self, step: int, second: int, report: SourceReport) -> None:
        self._step = max(step, 1)
        self._second = max(second, 1)
        self._report = report
        self._last: int | None = None
        self._moved = 0
        self._arrived = 0.0  # when the last frame did
        self._promptest: float | None = None  # most that a live frame was ahead of the wall clock
        self._warned: set[str] = set()

    def mend(self, pts: int | None, frame_id: int, arrived: float | None = None) -> int:
        """Return the timestamp to use for a frame, always greater than the one before.

        Parameters
        ----------
        pts : int or None
            What the source says.
        frame_id : int
            Number of the frame, for the warning.
        arrived : float or None
            When it came from a live source, in seconds of `time.monotonic`; None for files.
        """
        last = self._last
        if pts is None:
            self._warn("missing", f"frame {frame_id} has no timestamp, put in line")
            pts = 0 if last is None else last + self._passed(arrived)
        else:
            pts += self._moved
            if last is not None and pts <= last:
                self._warn("backwards", f"time runs backwards at frame {frame_id}, mended")
                if last - pts >= self._second:
                    pts = self._move(pts, last + self._passed(arrived))
                else:
                    pts = last + 1
            elif last is not None and self._leaps(pts, arrived):
                self._warn("leaps", f"time leaps ahead at frame {frame_id}, mended")
                pts = self._move(pts, last + self._passed(arrived))
        self._last = pts
        if arrived is not None:
            self._arrived = arrived
            ahead = self._ahead(pts, arrived)
            self._promptest = ahead if self._promptest is None else max(self._promptest, ahead)
        return pts

    def _move(self, pts: int, to: int) -> int:
        self._moved += to - pts
        return to

    def _passed(self, arrived: float | None) -> int:
        """Return the ticks since the last frame, as the wall clock has it or the frame rate."""
        if arrived is None:
            return self._step
        return max(round((arrived - self._arrived) * self._second), 1)

    def _ahead(self, pts: int, arrived: float) -> float:
        return pts - arrived * self._second

    def _leaps(self, pts: int, arrived: float | None) -> bool:
        if arrived is None or self._promptest is None:
            return False
        return self._ahead(pts, arrived) - self._promptest >= self._second

    def _warn(self, problem: str, line: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            self._report.warn(f"{line}; the same may follow without a message")


class Timeline:
    """Put the frames of one connection after those of the one before.

    Timestamps stay in the time base of the first connection, and numbers go on. The first frame of
    a later connection comes as long after the very first one as the wall clock says, whatever the
    camera's own clock says. Within a connection time is the camera's, except that old frames, which
    a camera may send all at once when it is asked again, do not put what follows a second or more
    ahead of the wall clock: from there on they follow each other as they arrive.
    """

    def __init__(self) -> None:
        self._fps: Fraction = DEFAULT_FPS
        self._time_base = Fraction(1)
        self._begin: tuple[int, float] | None = None  # pts of the first frame, and its arrival
        self._joined: tuple[int, float] | None = None  # the same of a later connection
        self._joins = False
        self._moved = 0
        self._renumbered = 0
        self._pts = 0  # of the last frame, as the next ones
        self._arrived = 0.0
        self._frame_id = -1

    @property
    def begun(self) -> bool:
        """Whether there was a frame already."""
        return self._begin is not None

    def join(self, fps: Fraction | None) -> None:
        """Expect the frames of another connection, with this nominal rate."""
        self._joins = self.begun
        self._fps = fps or DEFAULT_FPS

    def place(self, frame: Frame) -> Frame:
        """Return the frame with its time and number among all."""
        if self._begin is None:
            self._time_base = frame.time_base
            self._begin = self._pts, self._arrived = frame.pts, frame.captured_at
        else:
            self._pts = self._placed(frame)
            self._arrived = frame.captured_at
        self._frame_id = frame.frame_id + self._renumbered
        return replace(frame, pts=self._pts, time_base=self._time_base, frame_id=self._frame_id)

    def _placed(self, frame: Frame) -> int:
        pts = frame.pts
        if frame.time_base != self._time_base:
            pts = round(pts * frame.time_base / self._time_base)
        if self._joins and self._begin is not None:
            begin, arrived = self._begin
            step = self._ticks(float(1 / self._fps))
            joined = max(begin + self._ticks(frame.captured_at - arrived), self._pts + step)
            self._moved = joined - pts
            self._renumbered = self._frame_id + 1
            self._joined = joined, frame.captured_at
            self._joins = False
        pts += self._moved
        if self._joined is not None:
            joined, arrived = self._joined
            if pts - joined - self._ticks(frame.captured_at - arrived) >= self._ticks(1):
                paced = self._pts + self._ticks(frame.captured_at - self._arrived)
                self._moved += paced - pts
                pts = paced
        # Rounding to a coarser time base may give two frames the same time.
        return max(pts, self._pts + 1)

    def _ticks(self, seconds: float) -> int:
        return round(seconds / self._time_base)
