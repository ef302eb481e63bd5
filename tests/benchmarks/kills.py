"""Power cuts by the hundred: `python -m tests.benchmarks.kills [--runs N] [--kinds K,K]`.

The program is killed by SIGKILL at a random moment: while it marks the clip demo:, while it records
a live camera in segments with clips of events, while it trains. Everything it leaves has to be
readable, a recording may lack at most its last second, and a training has to go on from where it
was. What is not so is printed, its folder kept, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
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
from tests.benchmarks.signals import NETWORK, ROOT, cancelling
from tests.servers.process import Server
from tests.support.rectangles import small, write_kitti

DEADLINE = 600.0  # seconds until a program has something that can be lost
LAST_SECOND = 1.2  # seconds of a recording that may be missing: a fragment, and a frame or two,
LAST_FRAMES = 3  # or so many frames, where fewer come in a second
STUB = 1024  # bytes; a video that was begun in its last second holds no picture yet
LIVE_FPS = 20


@dataclass
class Table:
    """What was seen of each kind of run, by many threads."""

    runs: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    lost: dict[str, float] = field(default_factory=dict)  # most seconds of video
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, files: int, lost: float, faults: list[str], folder: Path) -> None:
        """Take a run in; its folder is kept if something was wrong."""
        with self.lock:
            self.runs[kind] += 1
            self.files[kind] += files
            self.lost[kind] = max(self.lost.get(kind, 0.0), lost)
            if faults:
                self.faults.append(f"{folder}: {kind}: {'; '.join(faults)}")
                print(self.faults[-1], flush=True)
            if not sum(self.runs.values()) % 20:
                print(f"{sum(self.runs.values())} kills, {len(self.faults)} faults", flush=True)
        if not faults:
            shutil.rmtree(folder)

    def __str__(self) -> str:
        rows = ["| kind | kills | files read | most seconds lost |", "|---|---|---|---|"]
        rows += [
            f"| {kind} | {count} | {self.files[kind]} | {self.lost[kind]:.2f} |"
            for kind, count in self.runs.items()
        ]
        return "\n".join([*rows, f"faults: {len(self.faults)}"])


def kill_when(command: list[str], log: Path, ready: Callable[[], bool], most: float) -> None:
    """Start a program and kill it up to `most` seconds after it is ready."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    deadline = time.monotonic() + DEADLINE
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, most))
    process.kill()
    process.wait()


def lines_in(paths: list[Path]) -> int:
    """Return how many whole lines files have."""
    return sum(path.read_bytes().count(b"\n") for path in paths if path.exists())


def read_lines(path: Path) -> list[dict[str, object]]:
    """Return the lines of a file that are whole; raise ValueError if one of them is not JSON."""
    *lines, _ = path.read_text().split("\n")
    return [json.loads(line) for line in lines]


def seconds_of(path: Path) -> tuple[float, float]:
    """Decode a video; return the times of its first and last frame, 0 and 0 if it has none."""
    with av.open(str(path)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    return (times[0], times[-1]) if times else (0.0, 0.0)


def check_recording(video: Path, jsonl: Path, faults: list[str]) -> float:
    """Compare a video with its lines; return how many seconds the video lacks."""
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


def kill_file(folder: Path, network: Path, _: str) -> tuple[int, float, list[str]]:
    """Kill a run that marks a file; return files read, seconds lost and what is wrong."""
    video, jsonl = folder / "out.mp4", folder / "out.jsonl"
    command = [
        sys.executable, "run_pipeline.py", "demo:loop", "-o", str(video), "--jsonl", str(jsonl),
        "--csv", str(folder / "out.csv"), "--no-progress", "-t", "0.02",
        "--set", f"network={network}", "--set", "video.preset=ultrafast",
    ]  # fmt: skip
    kill_when(command, folder / "log", lambda: lines_in([jsonl]) > 1, 5.0)
    faults: list[str] = []
    return 2, check_recording(video, jsonl, faults), faults


def kill_live(folder: Path, network: Path, camera: str) -> tuple[int, float, list[str]]:
    """Kill a live recording in segments; as `kill_file`."""
    command = [
        sys.executable, "run_pipeline.py", camera, "-c", "configs/live.yaml",
        "-o", str(folder / "ride.mp4"), "--jsonl", str(folder / "ride.jsonl"), "--segment", "2",
        "--keep", "0.05", "--event", "car>=1", "--track", "--no-progress", "-t", "0.02",
        "--set", f"network={network}", "--set", "record.before=1", "--set", "record.after=1",
    ]  # fmt: skip
    kill_when(command, folder / "log", lambda: lines_in(list(folder.glob("*.jsonl"))) > 1, 7.0)
    faults: list[str] = []
    lost, read = 0.0, 0
    for jsonl in sorted(folder.glob("ride.0*.jsonl")):
        lost = max(lost, check_recording(jsonl.with_suffix(".mp4"), jsonl, faults))
        read += 2
    for clip in folder.glob("*.event.*.mp4"):
        if clip.stat().st_size >= STUB:
            seconds_of(clip)
        read += 1
    events = folder / "ride.events.jsonl"
    if events.exists():
        read_lines(events)
        read += 1
    return read, lost, faults


def kill_training(folder: Path, _: Path, data: str) -> tuple[int, float, list[str]]:
    """Kill a training, let it go on, and kill it again; as `kill_file`."""
    out, log, again = folder / "run", folder / "log", folder / "log2"
    train = [sys.executable, "-m", "engines", "train", "--out", str(out)]
    settings = small(Path(data), epochs=1000, checkpoint_seconds=1)
    options = [f"{key}={json.dumps(value)}" for key, value in settings]
    begun = [*train, *(part for option in options for part in ("--set", option))]
    kill_when(begun, log, (out / "checkpoint.pt").exists, 5.0)
    if not (out / "checkpoint.pt").exists():
        return 0, 0.0, [f"no checkpoint within {DEADLINE:g} s"]
    kill_when([*train, "--resume"], again, lambda: "epoch " in again.read_text(), 3.0)
    faults = []
    if "epoch " not in again.read_text():
        faults.append(f"does not go on: {again.read_text()[-300:]!r}")
    metrics = out / "metrics.jsonl"  # which begins with the end of the first epoch
    epochs = [line["epoch"] for line in read_lines(metrics)] if metrics.exists() else []
    if epochs != list(range(1, len(epochs) + 1)):
        faults.append(f"metrics.jsonl has the epochs {epochs}")
    for path in out.glob("*.npz"):
        load_weights(path)
    return 2 + len(list(out.glob("*.npz"))), 0.0, faults


KINDS = {"file": kill_file, "live": kill_live, "training": kill_training}


def perform(kind: str, number: int, where: Path, network: Path, given: str, table: Table) -> None:
    """Do one run, and look at what is left."""
    folder = where / f"{kind}.{number}"
    folder.mkdir()
    try:
        read, lost, faults = KINDS[kind](folder, network, given)
    except (av.FFmpegError, UserError, ValueError, OSError) as error:
        read, lost, faults = 0, 0.0, [repr(error)]
    table.add(kind, read, lost, faults, folder)


def main() -> int:
    """Do all runs, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="file,live,training")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    where = Path(tempfile.mkdtemp(prefix="kills-"))
    network, data = where / "small.yaml", where / "data"
    weights = ROOT / "engines" / "shipped" / "squeezedrive-v3.npz"
    network.write_text(NETWORK.format(weights=weights))
    write_kitti(data, 4)
    table = Table()
    camera = Server("mjpeg", f"--fps={LIVE_FPS}", f"--seconds={arguments.runs * 60}")
    kinds = arguments.kinds.split(",")
    try:
        with cancelling(ThreadPoolExecutor(arguments.jobs)) as pool:
            done = []
            for number in range(arguments.runs):
                kind = kinds[number % len(kinds)]
                given = str(data) if kind == "training" else camera.url()
                done.append(pool.submit(perform, kind, number, where, network, given, table))
            for run in done:
                run.result()
    except KeyboardInterrupt:
        print("ended early")
    finally:
        camera.kill()
        print(table, flush=True)
    return bool(table.faults)


if __name__ == "__main__":
    sys.exit(main())
