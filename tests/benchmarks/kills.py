"""Hundreds of power cuts: `python -m tests.benchmarks.kills [--kills N] [--kinds K,K]`.

SIGKILL ends the program at a random moment: while it annotates a file, records a live camera in
segments with clips of events, trains, or processes the files of a fleet. All files that it leaves
must be readable, a recording may lack at most its last second, and a training and a fleet must
continue. Faults are printed, their folders are kept, and the exit code is 1. The programs are
copies of a process with a fake network: see `forked`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import av

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.model.weights import load_weights
from squeezedrive.engines.signals import on_signals
from tests.benchmarks import forked
from tests.benchmarks.fleet import contents
from tests.servers.process import Server
from tests.support.media import write_video
from tests.support.rectangles import small, write_kitti

DEADLINE = 600.0  # seconds until a program must have data that a kill can destroy
# A recording may lack so many seconds (a fragment, and a frame or two), or so many frames.
LAST_SECOND = 1.2
LAST_FRAMES = 3
STUB = 1024  # bytes; a smaller video began in the last second and has no picture yet
LIVE_FPS = 20
SIZE = (320, 192)
FILE_FRAMES = 1500
FLEET_FILES = 12
FLEET_FRAMES = 30
FLEET_KILLS = 4  # before a fleet may finish


class TooSlow(Exception):
    """The machine is so busy that a program has no data to lose before the deadline."""


@dataclass(frozen=True)
class Given:
    """The input of the programs."""

    camera: str  # address
    video: Path
    pictures: Path  # labelled, in KITTI layout
    card: Path  # folder of a fleet's files
    tables: dict[str, str]  # of an undisturbed fleet, as `contents` returns them


@dataclass
class Found:
    """The results of the kills of one program."""

    kills: int = 0
    files: int = 0
    lost: float = 0.0  # seconds of video, at most
    slow: int = 0  # 1 if it was not ready in time
    faults: list[str] = field(default_factory=list)


@dataclass
class Table:
    """The results of each kind of run, filled by many threads."""

    kills: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    lost: dict[str, float] = field(default_factory=dict)  # seconds of video, at most
    slow: int = 0  # programs that were not ready in time
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, found: Found, folder: Path) -> None:
        """Add the results of a run; delete its folder if it has no fault."""
        with self.lock:
            before = sum(self.kills.values())
            self.kills[kind] += found.kills
            self.slow += found.slow
            self.files[kind] += found.files
            self.lost[kind] = max(self.lost.get(kind, 0.0), found.lost)
            if found.faults:
                self.faults.append(f"{folder}: {kind}: {'; '.join(found.faults)}")
                print(self.faults[-1], flush=True)
            if before // 20 < (before + found.kills) // 20:
                print(f"{dict(self.kills)}, {len(self.faults)} faults", flush=True)
        if not found.faults:
            shutil.rmtree(folder)

    def __str__(self) -> str:
        rows = ["| kind | kills | files read | most seconds lost |", "|---|---|---|---|"]
        rows += [
            f"| {kind} | {count} | {self.files[kind]} | {self.lost[kind]:.2f} |"
            for kind, count in self.kills.items()
        ]
        return "\n".join([*rows, f"not ready in time: {self.slow}", f"faults: {len(self.faults)}"])


def kill_when(
    arguments: list[str], log: Path, ready: Callable[[], bool], most: float, verb: bool = False
) -> int:
    """Start a program and kill it up to `most` seconds after it is ready.

    Returns
    -------
    int
        1 if it was killed, 0 if it had ended before.

    Raises
    ------
    TooSlow
        If it is not ready within `DEADLINE`.
    """
    process = forked.start(verb, arguments, log)
    deadline = time.monotonic() + DEADLINE
    while process.is_alive() and not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, most))
    late = process.is_alive() and not ready()
    process.kill()
    process.join()
    if late:
        raise TooSlow
    return int(process.exitcode == -signal.SIGKILL)


def lines_in(paths: list[Path]) -> int:
    """Return the number of whole lines in files."""
    return sum(path.read_bytes().count(b"\n") for path in paths if path.exists())


def read_lines(path: Path) -> list[dict[str, object]]:
    """Return the whole lines of a file; raise ValueError if one of them is not JSON."""
    *lines, _ = path.read_text().split("\n")
    return [json.loads(line) for line in lines]


def seconds_of(path: Path) -> tuple[float, float]:
    """Decode a video; return the times of its first and last frame, 0 and 0 if it has none."""
    with av.open(str(path)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    return (times[0], times[-1]) if times else (0.0, 0.0)


def check_recording(video: Path, jsonl: Path, faults: list[str]) -> float:
    """Compare a video with its lines; return the seconds that the video lacks."""
    frames = read_lines(jsonl)[1:]
    if not frames:
        return 0.0
    first, last = (float(str(frames[i]["pts"])) for i in (0, -1))
    begin = end = 0.0
    if video.exists() and video.stat().st_size >= STUB:
        begin, end = seconds_of(video)
    lost = (last - first) - (end - begin)
    missing = sum(float(str(frame["pts"])) - first > end - begin for frame in frames)
    if lost > LAST_SECOND and missing > LAST_FRAMES:
        faults.append(f"{video.name}: lacks {lost:.2f} s of {last - first:.2f} s")
    return max(lost, 0.0)


def kill_file(folder: Path, given: Given) -> Found:
    """Kill a run that annotates a file."""
    video, jsonl, found = folder / "out.mp4", folder / "out.jsonl", Found(files=2)
    arguments = [
        str(given.video), "-o", str(video), "--jsonl", str(jsonl), "--csv", str(folder / "out.csv"),
        "--no-progress", "--set", "video.preset=ultrafast",
    ]  # fmt: skip
    found.kills = kill_when(arguments, folder / "log", lambda: lines_in([jsonl]) > 1, 2.0)
    found.lost = check_recording(video, jsonl, found.faults)
    return found


def kill_live(folder: Path, given: Given) -> Found:
    """Kill a live recording in segments with events."""
    found = Found()
    arguments = [
        given.camera, "-c", "configs/live.yaml", "-o", str(folder / "ride.mp4"),
        "--jsonl", str(folder / "ride.jsonl"), "--segment", "2", "--keep", "0.05",
        "--event", "car>=1", "--track", "--no-progress",
        "--set", "record.before=1", "--set", "record.after=1",
    ]  # fmt: skip
    parts = folder.glob
    found.kills = kill_when(
        arguments, folder / "log", lambda: lines_in(list(parts("*.jsonl"))) > 1, 6.0
    )
    for jsonl in sorted(parts("ride.0*.jsonl")):
        lost = check_recording(jsonl.with_suffix(".mp4"), jsonl, found.faults)
        found.lost = max(found.lost, lost)
        found.files += 2
    for clip in parts("*.event.*.mp4"):
        if clip.stat().st_size >= STUB:
            seconds_of(clip)
        found.files += 1
    events = folder / "ride.events.jsonl"
    if events.exists():
        read_lines(events)
        found.files += 1
    return found


def kill_training(folder: Path, given: Given) -> Found:
    """Kill a training, resume it, and kill it again."""
    out, log, again, found = folder / "run", folder / "log", folder / "log2", Found()
    train = ["train", "--out", str(out)]
    settings = small(given.pictures, epochs=1000, checkpoint_seconds=0.3)
    options = [f"{key}={json.dumps(value)}" for key, value in settings]
    begun = [*train, *(part for option in options for part in ("--set", option))]
    found.kills = kill_when(begun, log, (out / "checkpoint.pt").exists, 2.0, verb=True)
    if not (out / "checkpoint.pt").exists():
        found.faults.append(f"no checkpoint: {log.read_text()[-300:]!r}")
        return found
    resumed = [*train, "--resume"]
    found.kills += kill_when(
        resumed, again, lambda: again.exists() and "epoch " in again.read_text(), 2.0, verb=True
    )
    if "epoch " not in again.read_text():
        found.faults.append(f"does not go on: {again.read_text()[-300:]!r}")
    metrics = out / "metrics.jsonl"  # written from the end of the first epoch on
    epochs = [line["epoch"] for line in read_lines(metrics)] if metrics.exists() else []
    if epochs != list(range(1, len(epochs) + 1)):
        found.faults.append(f"metrics.jsonl has the epochs {epochs}")
    for path in out.glob("*.npz"):
        load_weights(path)
    found.files = 2 + len(list(out.glob("*.npz")))
    return found


def fleet_of(card: Path, out: Path) -> list[str]:
    """Return the command-line arguments of a fleet."""
    return ["fleet", str(card), "--out", str(out), "--local", "--event", "car>=1", "--no-progress"]


def kill_fleet(folder: Path, given: Given) -> Found:
    """Kill a fleet several times, then run it to its end and compare its tables."""
    out, found = folder / "out", Found()
    for number in range(FLEET_KILLS):
        done = len(list(out.glob("files/**/*.parquet")))
        found.kills += kill_when(
            fleet_of(given.card, out), folder / f"log{number}",
            lambda done=done: len(list(out.glob("files/**/*.parquet"))) > done, 0.5,
        )  # fmt: skip
        found.files += len(contents(str(out)))  # reads each of them
    last = forked.start(False, fleet_of(given.card, out), folder / "log")
    last.join(DEADLINE)
    tables = contents(str(out))
    found.files += len(tables)
    if last.exitcode != 0 or tables != given.tables:
        found.faults.append(f"exit code {last.exitcode}, tables differ: {tables != given.tables}")
    last.kill()
    return found


KINDS = {"file": kill_file, "live": kill_live, "training": kill_training, "fleet": kill_fleet}


def perform(kind: str, number: int, where: Path, given: Given, table: Table) -> None:
    """Do one run and check the files that it leaves."""
    folder = where / f"{kind}.{number}"
    folder.mkdir()
    try:
        found = KINDS[kind](folder, given)
    except TooSlow:
        found = Found(slow=1)
    except (av.FFmpegError, UserError, ValueError, OSError) as error:
        found = Found(faults=[repr(error)])
    table.add(kind, found, folder)


def prepare(where: Path, camera: str) -> Given:
    """Write the input of the programs."""
    video, pictures, card = where / "drive.mp4", where / "data", where / "card"
    write_video(video, FILE_FRAMES, size=SIZE)
    write_kitti(pictures, 4)
    card.mkdir()
    for number in range(FLEET_FILES):
        write_video(card / f"{number}.mp4", FLEET_FRAMES + number, size=SIZE)
    undisturbed = forked.start(False, fleet_of(card, where / "out"), where / "log")
    undisturbed.join()
    assert undisturbed.exitcode == 0, (where / "log").read_text()
    return Given(camera, video, pictures, card, contents(str(where / "out")))


def main() -> int:
    """Do all kills, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="number of kills, at least")
    parser.add_argument("--jobs", type=int, default=4, help="programs at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    where = Path(tempfile.mkdtemp(prefix="kills-"))
    table = Table()
    camera = Server("mjpeg", f"--fps={LIVE_FPS}", f"--seconds={arguments.kills * 60}")
    kinds = itertools.cycle(arguments.kinds.split(","))
    numbers = itertools.count()
    stop = threading.Event()
    try:
        given = prepare(where, camera.url())

        def work() -> None:
            while not stop.is_set() and sum(table.kills.values()) < arguments.kills:
                with table.lock:
                    kind, number = next(kinds), next(numbers)
                perform(kind, number, where, given, table)

        with (
            on_signals(lambda _: stop.set(), once=True),
            ThreadPoolExecutor(arguments.jobs) as pool,
        ):
            for run in [pool.submit(work) for _ in range(arguments.jobs)]:
                run.result()
    finally:
        camera.kill()
        print(table, flush=True)
    return bool(table.faults)


if __name__ == "__main__":
    sys.exit(main())
