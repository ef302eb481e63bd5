"""Read the processor time of each thread of this process, and how busy the cores are."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from squeezedrive.pipeline.core.stage import STAGES, StageName

TASKS = Path("/proc/self/task")
STAT = Path("/proc/stat")
# The stage of FFmpeg's threads, by the letter in their names: decoding or encoding.
_FFMPEG: dict[str, StageName] = {"d": "capture", "e": "sinks"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ThreadTime:
    """The times of a thread so far.

    Attributes
    ----------
    name : str
        As the system knows it, at most 15 bytes. See `pipeline.core.timing.name_thread`.
    cpu : float
        Processor time in seconds.
    delay : float or None
        Seconds in which it could have run but had no core; None if the system does not report it.
    """

    name: str
    cpu: float
    delay: float | None


def read_threads() -> dict[int, ThreadTime]:
    """Return the times of all living threads by native id; nothing where there is no /proc."""
    times = {}
    for thread in os.listdir(TASKS) if TASKS.is_dir() else ():
        task = f"{TASKS}/{thread}"
        try:
            name = _read(f"{task}/comm").rstrip("\n")
            cpu, delay = _times(task)
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        times[int(thread)] = ThreadTime(name, cpu, delay)
    return times


def _read(path: str) -> str:
    # Several times as fast as a text file object: this is done for every thread while it works.
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 4096).decode(errors="replace")
    finally:
        os.close(file)


def _times(task: str) -> tuple[float, float | None]:
    try:
        # Nanoseconds on a core and in the run queue: section "/proc/<pid>/schedstat" of the
        # kernel's Documentation/scheduler/sched-stats.rst.
        on_core, queued, _ = _read(f"{task}/schedstat").split()
        if int(on_core):
            return int(on_core) * 1e-9, int(queued) * 1e-9
    except OSError:
        pass
    # proc_pid_stat(5): utime and stime are fields 14 and 15; the name, field 2, may hold anything
    # but ends with the last parenthesis.
    fields = _read(f"{task}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS, None


def read_cores() -> tuple[float, float] | None:
    """Return the busy and the total core seconds of this process's cores, all programs included.

    None if the system does not report them. Only differences of two readings mean anything.
    """
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    busy = total = 0.0
    try:
        lines = STAT.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, *fields = line.split()
        if name in mine:
            # proc_stat(5): user nice system idle iowait irq softirq steal; guest is in user.
            ticks = [int(field) for field in fields[:8]]
            total += sum(ticks) / _TICKS
            busy += (sum(ticks) - ticks[3] - ticks[4]) / _TICKS
    return (busy, total) if total else None


@dataclass
class ThreadUse:
    """The times of a thread, or of all ended threads of a name, while they were watched.

    For `name`, `cpu` and `delay` see `ThreadTime`.
    """

    name: str
    count: int  # how many threads these are
    own: bool  # whether it is a stage's thread, not a library's
    cpu: float
    delay: float | None

    def add(self, other: ThreadUse) -> None:
        """Add the threads and times of another use."""
        self.count += other.count
        self.cpu += other.cpu
        if self.delay is not None:
            self.delay = None if other.delay is None else self.delay + other.delay


class ThreadTable:
    """The times of all threads between the first reading and the last.

    Attributes
    ----------
    seconds : float
        From the first reading to the last.
    busy : float or None
        Busy share of this process's cores, all programs included; None where it is not known.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.busy: float | None = None
        self._began: float | None = None
        self._cores: tuple[float, float] | None = None
        self._base: dict[int, ThreadTime] = {}
        self._last: dict[int, ThreadTime] = {}
        self._own: Container[int] = ()
        self._ended: dict[tuple[str, bool], ThreadUse] = {}

    def look(
        self,
        now: float,
        threads: dict[int, ThreadTime],
        cores: tuple[float, float] | None,
        own: Container[int],
    ) -> None:
        """Record the times at the moment `now`, in seconds; `own` are the stages' threads."""
        if self._began is None:
            self._began, self._cores, self._base = now, cores, dict(threads)
        self.seconds = now - self._began
        if cores is not None and self._cores is not None and cores[1] > self._cores[1]:
            self.busy = (cores[0] - self._cores[0]) / (cores[1] - self._cores[1])
        # Threads that have ended are kept by name only: there may be any number of them.
        for thread in self._last.keys() - threads.keys():
            _add(self._ended, self._use(thread))
            self._base.pop(thread, None)
        self._last = dict(threads)
        self._own = own

    def uses(self) -> list[ThreadUse]:
        """Return the times of all threads, those of one name together, the busiest first."""
        merged: dict[tuple[str, bool], ThreadUse] = {}
        for use in (*self._ended.values(), *map(self._use, self._last)):
            _add(merged, use)
        return sorted(merged.values(), key=lambda use: -use.cpu)

    def _use(self, thread: int) -> ThreadUse:
        last = self._last[thread]
        base = self._base.get(thread, ThreadTime(last.name, 0.0, 0.0))
        delay = None
        if last.delay is not None and base.delay is not None:
            delay = last.delay - base.delay
        return ThreadUse(last.name, 1, thread in self._own, last.cpu - base.cpu, delay)


def _add(uses: dict[tuple[str, bool], ThreadUse], use: ThreadUse) -> None:
    uses.setdefault((use.name, use.own), ThreadUse(use.name, 0, use.own, 0.0, 0.0)).add(use)


def stage_of(name: str) -> StageName | None:
    """Return the stage that a library's thread works for; None if its name does not show it.

    Most threads inherit the name of the thread that started them. FFmpeg names its threads after
    the codec and their work: `av:h264:df0` decodes frames, `av:h264:es0` would encode slices.
    """
    if name.startswith("av:"):
        work = name.rsplit(":", 1)[-1][:1]
        return _FFMPEG.get(work)
    return next((stage for stage in STAGES if stage == name), None)
