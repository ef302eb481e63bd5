"""The whole program during faults of all kinds: `python -m tests.benchmarks.soak [--seconds N]`.

Two cameras on the loopback interface are recorded in segments on a small disk, with the live page.
Faults come in random order: cameras are cut off, killed, frozen, silenced, garbled and refused, the
disk hangs, and crowds of clients never read. If root runs the benchmark, the disk is a tmpfs and is
sometimes full. The benchmark prints for each fault the lost frames and the time until all cameras
gave fresh pictures again, then the change of memory, threads and file handles, and whether all
files can be read at the end. SIGINT ends it early, with all tables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import av

from tests.servers.faults import FAULTS, fault
from tests.servers.process import Server, rtsp_missing
from tests.servers.proxy import Proxy

FPS = 10
DISK_MB = 48
KEEP_GB = 0.02
SEGMENT_SECONDS = 20
DEADLINE = 60.0  # seconds until all cameras must work again
FRESH_MS = 1000
TICK = 0.1
CROWD = 60  # clients at the same time

# The program on a disk that hangs while a certain file exists. SIGUSR2 prints the stacks of all
# threads.
PROGRAM = """
import faulthandler, os, runpy, signal, sys, time
faulthandler.register(signal.SIGUSR2)
flag, sync = sys.argv.pop(1), os.fdatasync
def hanging(descriptor):
    while os.path.exists(flag):
        time.sleep(0.1)
    sync(descriptor)
os.fdatasync = hanging
sys.path.insert(0, os.getcwd())
runpy.run_path("run_pipeline.py", run_name="__main__")
"""


@dataclass
class Row:
    """The measurements of one kind of fault."""

    lost: list[int] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)


class Clock:
    """A clock of the time in which this process could run, without the time it was stopped."""

    def __init__(self) -> None:
        self.seconds = 0.0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            self.seconds += min(now - last, 10 * TICK)
            last = now


class Rig:
    """The program, its cameras and its disk."""

    def __init__(self, disk: Path, seconds: float, config: list[str]) -> None:
        self.disk = disk
        self.clock = Clock()
        self.flag = disk.with_name("hang")
        kinds = ["mjpeg", "mjpeg"] if rtsp_missing() else ["rtsp", "mjpeg"]
        life = f"--seconds={3 * seconds + 600:.0f}"  # this process may be stopped for a while
        self.servers = [Server(kind, f"--fps={FPS}", life) for kind in kinds]
        self.proxies = [Proxy(server.port) for server in self.servers]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        urls = [s.url(p.port) for s, p in zip(self.servers, self.proxies, strict=True)]
        self.program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.flag), *urls, "-c", "configs/live.yaml",
             "-o", str(disk / "ride.mp4"), "--jsonl", str(disk / "ride.jsonl"),
             "--segment", str(SEGMENT_SECONDS), "--keep", str(KEEP_GB), "--event", "car>=1",
             "--track", "--preview", str(self.port), "--no-progress",
             "--summary", str(disk.with_name("summary.json")), *config],
            stdout=disk.with_name("stdout").open("w"), stderr=disk.with_name("log").open("w"),
        )  # fmt: skip

    def get(self, path: str) -> Any:
        """Ask the live page; return its JSON, or None if the answer is not JSON."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.HTTPError, ValueError):
            return None

    def read(self) -> int:
        """Return the number of frames read from all cameras."""
        while (status := self.get("/status")) is None:  # a crowd has taken all connections
            time.sleep(0.1)
        return sum(source["read"] for source in status["sources"])

    def is_well(self) -> bool:
        """Return whether all cameras give fresh pictures."""
        status = self.get("/status")
        return status is not None and all(
            source["state"] == "connected" and (source["age_ms"] or FRESH_MS) < FRESH_MS
            for source in status["sources"]
        )

    def wait_until_well(self) -> None:
        deadline = self.clock.seconds + DEADLINE
        while not self.is_well():
            assert self.program.poll() is None, "the program has ended"
            assert self.clock.seconds < deadline, f"does not recover: {self.get('/status')}"
            time.sleep(TICK)

    def end(self) -> str:
        """Send SIGTERM; return a text about the end of the program, or that it still runs."""
        begin = self.clock.seconds
        self.program.send_signal(signal.SIGTERM)
        while self.program.poll() is None and self.clock.seconds < begin + DEADLINE:
            time.sleep(TICK)
        if self.program.poll() is None:
            self.program.send_signal(signal.SIGUSR2)
            time.sleep(1.0)
            return f"SIGTERM: still there after {DEADLINE:g} s; its threads are in the log"
        ended = self.clock.seconds - begin
        return f"SIGTERM: ended in {ended:.1f} s with exit code {self.program.returncode}"

    def close(self) -> None:
        self.flag.unlink(missing_ok=True)
        if self.program.poll() is None:
            self.program.kill()
        for proxy in self.proxies:
            proxy.close()
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def camera_fault(rig: Rig, name: str, seconds: float) -> Iterator[None]:
    number = random.randrange(len(rig.servers))
    with fault(name, rig.servers[number], rig.proxies[number], seconds):
        pass  # waits until the fault is over and a killed server answers again
    yield


@contextlib.contextmanager
def hanging_disk(rig: Rig, seconds: float) -> Iterator[None]:
    rig.flag.touch()
    time.sleep(seconds)
    rig.flag.unlink()
    yield


@contextlib.contextmanager
def full_disk(rig: Rig, seconds: float) -> Iterator[None]:
    intruder = rig.disk / "intruder"
    with contextlib.suppress(OSError), intruder.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    time.sleep(seconds)
    intruder.unlink()
    yield


@contextlib.contextmanager
def crowd(rig: Rig, seconds: float) -> Iterator[None]:
    """Open many connections, request the picture, and never read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        clients = []
        for _ in range(CROWD):
            with contextlib.suppress(OSError):
                client = socket.create_connection(("127.0.0.1", rig.port), timeout=1)
                client.sendall(b"GET /pictures/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                clients.append(client)
        time.sleep(0.5)
        for client in clients:
            client.close()
    yield


Usage = tuple[float, int, int]


def usage(pid: int) -> Usage:
    """Return resident memory in MB, threads and file handles of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    handles = len(os.listdir(f"/proc/{pid}/fd"))
    return int(values["VmRSS"]) / 1024, int(values["Threads"]), handles


def soak(rig: Rig, seconds: float, pace: float, rows: dict[str, Row], used: list[Usage]) -> None:
    """Cause faults until the time is over; report the usage about once a minute."""
    kinds: dict[str, Callable[[float], contextlib.AbstractContextManager[None]]] = {
        **{name: (lambda s, n=name: camera_fault(rig, n, s)) for name in FAULTS},
        "disk hangs": lambda s: hanging_disk(rig, s),
        "crowd of clients": lambda s: crowd(rig, s),
    }
    if rig.disk.is_mount():
        kinds["disk full"] = lambda s: full_disk(rig, s)
    rig.wait_until_well()
    clock = rig.clock
    begin, report = clock.seconds, 0.0
    while clock.seconds - begin < seconds:
        for name in random.sample(list(kinds), len(kinds)):
            time.sleep(random.uniform(2.0, 5.0) / pace)
            before, start = rig.read(), clock.seconds
            with kinds[name](random.uniform(1.0, 6.0) / pace):
                over = clock.seconds
                rig.wait_until_well()
            row = rows.setdefault(name, Row())
            row.recovery.append(clock.seconds - over)
            time.sleep(2.0 / pace)
            due = (clock.seconds - start) * FPS * len(rig.servers)
            row.lost.append(max(round(due - (rig.read() - before)), 0))
            if clock.seconds > report:
                report = clock.seconds + 60
                used.append(usage(rig.program.pid))
                memory, threads, handles = used[-1]
                print(
                    f"{clock.seconds - begin:6.0f} s: {sum(len(r.lost) for r in rows.values())}"
                    f" faults, {memory:.0f} MB, {threads} threads,"
                    f" {handles} file handles, {rig.read()} frames read",
                    flush=True,
                )


def print_usage(used: list[Usage]) -> None:
    """Compare the median usage in the first and in the last quarter of the time."""
    quarter = max(len(used) // 4, 1)
    print("\n| | first quarter | last quarter | most |\n|---|---|---|---|")
    for name, values in zip(
        ("memory, MB", "threads", "file handles"), zip(*used, strict=True), strict=True
    ):
        first, last = median(values[:quarter]), median(values[-quarter:])
        print(f"| {name} | {first:.0f} | {last:.0f} | {max(values):.0f} |")


def check_files(disk: Path) -> str:
    """Decode every video and read every line; return a text with their numbers."""
    frames = lines = 0
    videos = sorted(disk.glob("*.mp4"))
    for video in videos:
        with av.open(str(video)) as container:
            frames += sum(1 for _ in container.decode(video=0))
    for path in disk.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)
            lines += 1
    return f"{len(videos)} videos with {frames} frames and {lines} lines of JSON, all readable"


def main() -> None:
    """Run the soak and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pace", type=float, default=1.0, help="factor by which faults begin and end faster"
    )
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    config = [part for setting in arguments.settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, "disk")
        disk.mkdir()
        mounted = (
            os.getuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)]
            ).returncode
        )
        rig = Rig(disk, arguments.seconds, config)
        try:
            rows: dict[str, Row] = {}
            used: list[Usage] = []
            failure = None
            try:
                soak(rig, arguments.seconds, arguments.pace, rows, used)
            except KeyboardInterrupt:
                print("ended early")
            except AssertionError as error:  # the tables are printed all the same
                failure = error
                rig.program.send_signal(signal.SIGUSR2)
            end = rig.end()
            print(
                "\n| fault | times | frames lost, mean (most) | seconds to recover, mean (most) |"
            )
            print("|---|---|---|---|")
            for name, row in rows.items():
                print(
                    f"| {name} | {len(row.lost)} | {sum(row.lost) / len(row.lost):.0f}"
                    f" ({max(row.lost)}) | {sum(row.recovery) / len(row.recovery):.1f}"
                    f" ({max(row.recovery):.1f}) |"
                )
            if used:
                print_usage(used)
            print(f"\n{end}")
            print(check_files(disk))
            print(Path(folder, "stdout").read_text())
            print(threading.active_count(), "threads left in the benchmark")
            if failure is not None:
                raise failure
        finally:
            rig.close()
            log = Path(folder, "log").read_text().splitlines()
            print(*log[-200:], sep="\n")
            if mounted:
                subprocess.run(["umount", "--lazy", str(disk)], check=False)


if __name__ == "__main__":
    main()
