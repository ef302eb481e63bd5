"""Thousands of signals at random moments: `python -m tests.benchmarks.signals [--runs N]`.

Short runs of the whole program get one or two signals of SIGINT, SIGTERM and SIGHUP: while the
program starts, while the network loads, between two frames, or while the program ends. The source
is the clip demo:, or a live camera in segments with the live page. Each run must end by itself,
with a documented exit code or by the signal, without a traceback, and leave readable files. Faults
are printed, their folders are kept, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from tests.servers.process import Server

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 12
DEADLINE = 120.0  # seconds in which a run has to end
INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
ATTACKS: list[tuple[signal.Signals, ...]] = [
    (INT,), (TERM,), (HUP,),
    (INT, INT), (TERM, TERM), (HUP, HUP), (INT, TERM), (HUP, TERM), (HUP, INT),
]  # fmt: skip
# The codes in the README; -number is an end by that signal, which a shell shows as 128 + number.
CODES = {0, 128 + INT, 128 + TERM, -INT, -TERM, -HUP}
# Python prints this for a SIGINT before the first line of a program, which cannot prevent it.
PYTHON_STARTS = re.compile(r"Fatal Python error: init_|argv\[0\] is an import path entry")
PHASES = ("start", "load", "frames", "end")
KINDS = ("file", "live")
NETWORK = """\
architecture: squeezedet
weights: {weights}
classes: [car, pedestrian, cyclist]
input: {{width: 320, height: 96}}
"""


@dataclass(frozen=True)
class Run:
    """The plan of one run of the program."""

    number: int
    kind: str  # one of KINDS
    phase: str  # one of PHASES
    signals: tuple[signal.Signals, ...]
    wait: float  # seconds into the phase
    gap: float  # seconds between two signals

    def __str__(self) -> str:
        names = "+".join(number.name for number in self.signals)
        return f"run {self.number}: {self.kind}, {names} {self.wait:.3f} s into {self.phase}"


def choose(number: int) -> Run:
    """Return a random plan; its moments are spread over a whole run of 2 to 5 s."""
    signals = random.choice(ATTACKS)
    phase = random.choice(PHASES)
    longest = {"start": 0.3, "load": 3.0, "frames": 1.5, "end": 0.7}[phase]
    gap = random.choice([0.0, 0.0, random.uniform(0.0, 0.1)])
    kind = random.choices(KINDS, [3, 1])[0]
    return Run(number, kind, phase, signals, random.uniform(0.0, longest), gap)


def command(kind: str, folder: Path, network: Path, camera: str) -> list[str]:
    """Return the command that starts the program."""
    of_kind = {
        "file": ["demo:", "-n", str(FRAMES), "--summary", str(folder / "summary.json")],
        "live": [camera, "-c", "configs/live.yaml", "-n", str(FRAMES * 3), "--segment", "1",
                 "--event", "car>=1", "--track", "--preview", "0"],
    }[kind]  # fmt: skip
    return [
        sys.executable, str(ROOT / "run_pipeline.py"), *of_kind, "-o", str(folder / "out.mp4"),
        "--jsonl", str(folder / "out.jsonl"), "--csv", str(folder / "out.csv"), "-t", "0.02",
        "--no-progress", "--set", f"network={network}", "--set", "video.preset=ultrafast",
    ]  # fmt: skip


def begun(phase: str, folder: Path) -> bool:
    """Return whether a run has reached a phase, which its files show."""
    if phase in ("start", "load"):
        return phase == "start" or (folder / "stderr").exists()
    written = [path.read_bytes().count(b"\n") for path in folder.glob("out*.jsonl")]
    wanted = 1 if phase == "frames" else FRAMES
    return "info: source" in (folder / "stderr").read_text() and sum(written) >= wanted


def attack(run: Run, process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Send the signals at their moment; return whether the program was still running."""
    deadline = time.monotonic() + DEADLINE
    while not begun(run.phase, folder) and time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(run.wait)
    alive = process.poll() is None
    for number, one in enumerate(run.signals):
        if number:
            time.sleep(run.gap)
        process.send_signal(one)
    return alive


def faults_of(code: int | None, folder: Path) -> list[str]:
    """Return the faults of a run."""
    faults = []
    if code is None:
        faults.append(f"still there {DEADLINE:g} s after the signal")
    elif code not in CODES and not PYTHON_STARTS.search((folder / "stderr").read_text()):
        faults.append(f"exit code {code}")
    text = (folder / "stderr").read_text()
    if not PYTHON_STARTS.search(text) and re.search("Traceback|Error|Fatal|xception", text):
        faults.append("a traceback")
    finished = code in (0, 128 + INT, 128 + TERM)
    for path in sorted(folder.glob("out*")):
        try:
            read_back(path, finished)
        except (av.FFmpegError, ValueError, OSError) as error:
            faults.append(f"{path.name} ({path.stat().st_size} bytes): {error}")
    summary = folder / "summary.json"
    if summary.exists():
        try:
            json.loads(summary.read_text())
        except ValueError as error:
            faults.append(f"summary.json: {error}")
    if finished and code != 0 and (folder / "out.mp4").exists() and not faults:
        frames = frames_of(folder / "out.mp4")
        lines = (folder / "out.jsonl").read_bytes().count(b"\n") - 1
        if frames != max(lines, 0):
            faults.append(f"{frames} frames of video, {lines} lines")
    return faults


def read_back(path: Path, finished: bool) -> None:
    """Read a file to its end; raise the errors of FFmpeg, or ValueError for wrong lines."""
    if path.suffix == ".mp4" and (path.stat().st_size or finished):
        frames_of(path)
    elif path.suffix == ".jsonl":
        lines = path.read_text().split("\n")
        for line in lines[:-1]:
            json.loads(line)
        if lines[-1] and finished:
            raise ValueError("ends within a line")


def frames_of(path: Path) -> int:
    """Decode a video; return its number of frames."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


class Table:
    """The counts of all ends of runs, filled by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: Counter[tuple[str, bool]] = Counter()
        self.codes: Counter[int | None] = Counter()
        self.faults: list[str] = []

    def add(self, run: Run, alive: bool, code: int | None, faults: Sequence[str]) -> None:
        """Add a run."""
        with self._lock:
            self.sent[run.phase, alive] += 1
            self.codes[code] += 1
            if faults:
                self.faults.append(f"{run}: {'; '.join(faults)}")
                print(self.faults[-1], flush=True)
            if not sum(self.codes.values()) % 50:
                print(f"{sum(self.codes.values())} runs, {len(self.faults)} faults", flush=True)

    def __str__(self) -> str:
        rows = ["| phase | signals while it ran | after its end |", "|---|---|---|"]
        rows += [f"| {p} | {self.sent[p, True]} | {self.sent[p, False]} |" for p in PHASES]
        codes = ", ".join(f"{code}: {n}" for code, n in self.codes.most_common())
        return "\n".join([*rows, f"exit codes: {codes}", f"faults: {len(self.faults)}"])


def perform(run: Run, table: Table, where: Path, network: Path, camera: str) -> None:
    """Run the program once with its signals, and check the files that it leaves."""
    folder = where / str(run.number)
    folder.mkdir()
    with (folder / "stderr").open("wb") as log:
        process = subprocess.Popen(
            command(run.kind, folder, network, camera),
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
        alive = attack(run, process, folder)
        code: int | None = None
        try:
            code = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    faults = faults_of(code, folder)
    table.add(run, alive, code, faults)
    if not faults:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@contextmanager
def cancelling(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """Cancel all runs that have not begun when the block is interrupted."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def main() -> int:
    """Do all runs, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    for number in (INT, HUP):  # a shell may make programs in the background ignore them
        signal.signal(number, signal.default_int_handler)
    where = Path(tempfile.mkdtemp(prefix="signals-"))
    network = where / "small.yaml"
    weights = ROOT / "engines" / "shipped" / "squeezedrive-v3.npz"
    network.write_text(NETWORK.format(weights=weights))
    table = Table()
    camera = Server("mjpeg", "--fps=20", f"--seconds={arguments.runs * 60}")
    try:
        with cancelling(ThreadPoolExecutor(arguments.jobs)) as pool:
            runs = [choose(number) for number in range(arguments.runs)]
            for done in [
                pool.submit(perform, run, table, where, network, camera.url()) for run in runs
            ]:
                done.result()
    except KeyboardInterrupt:
        print("ended early")
    finally:
        camera.kill()
        print(table, flush=True)
    if table.faults:
        print(f"The files of these runs are in {where}/RUN")
    return bool(table.faults)


if __name__ == "__main__":
    sys.exit(main())
