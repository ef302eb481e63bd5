"""A fleet on one machine: `python -m tests.benchmarks.fleet --files 1000 [--kills SECONDS] ...`.

The command fleet processes short clips, with Ray or with --local. The benchmark compares its tables
with those of an undisturbed run:

--plain   no faults: the plain command and the fleet process the same clips in turn, N times, and
          the benchmark compares the detections;
--kills   each worker is killed (only with Ray) after SECONDS of processor time, and the command
          itself is killed twice;
--store   clips and tables are in an object store on the loopback interface (from the package
          moto[server], which is not in any extra), behind a proxy that answers some requests with
          503, does not answer others, and breaks off some answers.

It prints seconds, frames a second, the tries of files and the memory of the command over time, and
with --plain the processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import fs

from tests.support.media import write_video

VARYING = {"tries", "seconds", "finished", "host"}
DISTINCT = 5  # different clips; the others are copies of them
FAULTS = 0.1  # share of the requests to the store
LONGEST = 3600.0  # seconds that a run may take


def make_card(folder: Path, files: int, frames: int, size: tuple[int, int]) -> None:
    """Make short clips; one of a hundred is not a video."""
    folder.mkdir()
    for number in range(files):
        path = folder / f"{number:05}.mp4"
        if number % 100 == 99:
            path.write_text("nothing to see")
        elif number < DISTINCT:
            write_video(path, frames + number, size=size)
        else:
            shutil.copy(folder / f"{number % DISTINCT:05}.mp4", path)


def contents(out: str) -> dict[str, str]:
    """Return a digest of each part of the tables, without columns that differ from run to run."""
    filesystem, root = open_place(out)
    found = {}
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True)):
        if info.path.endswith(".parquet"):
            table = pq.read_table(filesystem.open_input_file(info.path))
            table = table.drop_columns([c for c in table.column_names if c in VARYING])
            text = str(table.to_pylist()).encode()
            found[info.path[len(root) :]] = hashlib.sha256(text).hexdigest()
    return found


def rows(out: str) -> list[dict[str, Any]]:
    """Return the rows of the table of files."""
    filesystem, root = open_place(out)
    selector = fs.FileSelector(f"{root}/files", recursive=True, allow_not_found=True)
    infos = filesystem.get_file_info(selector)
    parts = [info.path for info in infos if info.path.endswith(".parquet")]
    return [
        row for part in parts for row in pq.read_table(filesystem.open_input_file(part)).to_pylist()
    ]


def open_place(out: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and path of tables; a store is read without the proxy."""
    if not out.startswith("s3://"):
        return fs.LocalFileSystem(), out
    store = fs.S3FileSystem(endpoint_override=os.environ["STORE"], request_timeout=60)
    return store, out.removeprefix("s3://")


def finished(out: str) -> list[dict[str, Any]]:
    """Return the rows of files that are not processed again."""
    return [row for row in rows(out) if row["exit_kind"] != "infrastructure"]


def memory_of(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def descendants(pid: int) -> dict[int, tuple[str, float]]:
    """Return a process and its descendants; all processes if `pid` is 0.

    Each has its command line and its processor time in seconds.
    """
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            number = int(entry.name)
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[number] = int(fields[1])
            taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[number] = ((entry / "cmdline").read_text(), taken)

    def descends(number: int) -> bool:
        while number > 1 and number != pid:
            number = parents.get(number, 0)
        return number == pid or not pid

    return {number: one for number, one in found.items() if descends(number)}


def measure(command: list[str]) -> tuple[int, float, float, str]:
    """Run a command; return its exit status, seconds, processor time and output."""
    begun = time.monotonic()
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    taken: dict[int, float] = {}
    while program.poll() is None:
        taken |= {number: time for number, (_, time) in descendants(program.pid).items()}
        time.sleep(0.2)
    return (
        program.returncode,
        time.monotonic() - begun,
        sum(taken.values()),
        program.communicate()[0],
    )


def compare_with_plain(card: Path, work: Path, options: list[str], repeats: int) -> None:
    """Print the time of the fleet relative to the plain command; run both in turn."""
    settings = options[options.index("--set") :]
    for number in range(repeats):
        plain, fleet = work / f"plain{number}", work / f"fleet{number}"
        plain.mkdir()
        program = [sys.executable, "run_pipeline.py"]
        one = [*program, str(card), "--no-video", "--no-track", "--parquet", f"{plain}/", *settings]
        other = [*program, "fleet", str(card), "--out", str(fleet), *options]
        figures = [measure([*command, "--no-progress"]) for command in (one, other)]
        for name, (status, seconds, taken, _) in zip(("plain", "fleet"), figures, strict=True):
            print(f"{name}: exit status {status}, {seconds:.1f} s, processor {taken:.1f} s")
        wall, processor = (figures[1][k] / figures[0][k] for k in (1, 2))
        print(f"fleet / plain: time {wall:.3f}, processor time {processor:.3f}", flush=True)
        parts = {path.stem: path for path in plain.rglob("*.parquet")}
        tables = {path.name[:5]: path for path in (fleet / "detections").rglob("*.parquet")}
        same = [pq.read_table(parts[n]).equals(pq.read_table(tables[n])) for n in parts]
        print(f"detections: {len(parts)} files, {same.count(False)} differ", flush=True)


def tired_workers(pid: int, seconds: float) -> list[int]:
    """Return the Ray workers of a process with more than `seconds` of processor time.

    If `pid` is 0, return those of all processes.
    """
    found = descendants(pid).items()
    return [n for n, (name, t) in found if name.startswith("ray::FleetWorker") and t > seconds]


def run(
    sources: str, out: str, options: list[str], kills: float | None = None, files: int = 0
) -> None:
    """Run the command again until it ends by itself; kill it and its workers in the meantime.

    Workers are killed after `kills` seconds of processor time; `files` is the number of all files.
    """
    command = [sys.executable, "run_pipeline.py", "fleet", sources, "--out", out, *options]
    begun = time.monotonic()
    driver_kills = 2 if kills else 0  # after a third and two thirds of the files
    killed = 0
    while True:
        program = subprocess.Popen([*command, "--no-progress"], stdout=subprocess.PIPE, text=True)
        memory: list[float] = []
        try:
            while program.poll() is None and time.monotonic() - begun < LONGEST:
                time.sleep(0.5)
                memory.append(memory_of(program.pid))
                if not kills:
                    continue
                for worker in tired_workers(0 if "--address" in options else program.pid, kills):
                    killed += 1
                    os.kill(worker, signal.SIGKILL)
                if driver_kills and len(rows(out)) >= files * (3 - driver_kills) // 3:
                    driver_kills -= 1
                    program.kill()
        finally:
            program.kill()
        text, _ = program.communicate()
        if program.returncode >= 0:
            break
    seconds = time.monotonic() - begun
    tenths = [round(memory[len(memory) * k // 10]) for k in range(10)] if memory else []
    print(f"  {' '.join(options)}: {seconds:.0f} s, exit status {program.returncode}")
    print(f"  killed: {killed} workers, the command {2 * bool(kills) - driver_kills} times")
    print(f"  MB of the command: {tenths}")
    print("  " + "\n  ".join(text.splitlines()[:3]), flush=True)


class Faulty(BaseHTTPRequestHandler):
    """A proxy that forwards requests to the store, or fails."""

    protocol_version = "HTTP/1.1"
    target: tuple[str, int]
    rate = 0.0
    counts: dict[str, int]

    def handle_any(self) -> None:
        """Answer a request, maybe with a fault."""
        body = self._body()
        fault = random.choice(["503", "silence", "cut"]) if random.random() < self.rate else ""
        if fault:
            self.counts[fault] = self.counts.get(fault, 0) + 1
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "silence":
            time.sleep(1.0)
            self.close_connection = True
            return
        store = http.client.HTTPConnection(*self.target, timeout=60)
        left_out = ("transfer-encoding", "content-length", "expect", "connection")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
        store.request(self.command, self.path, body, headers)
        answer = store.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        self.close_connection = self.close_connection or fault == "cut"
        store.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # the lines after the body
            pass
        return body

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def store_with_faults(card: Path) -> Iterator[dict[str, int]]:
    """Start a store with the clips, behind a faulty proxy; yield the counts of the faults."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    Faulty.target, Faulty.counts = ("127.0.0.1", port), {}
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "STORE": f"http://127.0.0.1:{port}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
    }  # fmt: skip
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.5)
        store = fs.S3FileSystem(
            endpoint_override=os.environ["STORE"], allow_bucket_creation=True, request_timeout=60
        )
        for bucket in ("rides", "results"):
            store.create_dir(bucket)
        for clip in card.iterdir():
            with store.open_output_stream(f"rides/{clip.name}") as stream:
                stream.write(clip.read_bytes())
        yield Faulty.counts
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.kill()
        moto.wait()


def compare(name: str, found: dict[str, str], expected: dict[str, str], out: str) -> None:
    """Compare tables with those of the undisturbed run; print the highest number of tries."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())[:5]
    differing = [part for part in found if found[part] != expected[part]]
    tried = sorted(row["tries"] for row in rows(out))
    print(f"{name}: {len(found)} parts, {len(differing)} differ; tries at most {tried[-1]}")
    assert not differing, differing[:5]


def main() -> None:
    """Run the chosen comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--address", help="of a running Ray; without it, Ray is started")
    parser.add_argument("--kills", type=float, metavar="SECONDS")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--plain", type=int, metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--network", help="configuration file of another network")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    options = ["--local"] if arguments.local else ["--cores", "1"]
    options += ["--address", arguments.address] if arguments.address else []
    options += ["--set", "backend=cpu", "--threshold", "0.01"]
    options += ["--set", f"network={arguments.network}"] if arguments.network else []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_card(work / "card", arguments.files, arguments.frames, tuple(arguments.size))
        if arguments.plain:
            compare_with_plain(work / "card", work, options, arguments.plain)
            return
        calm = str(work / "calm")
        run(str(work / "card"), calm, options)
        expected = contents(calm)
        print(f"undisturbed: {len(expected)} parts")
        if arguments.kills:
            out = str(work / "killed")
            run(str(work / "card"), out, options, arguments.kills, arguments.files)
            compare("kills", contents(out), expected, out)
        if arguments.store:
            with store_with_faults(work / "card") as counts:
                for rate, name in ((0.0, "calm"), (FAULTS, "faults")):
                    Faulty.rate = rate
                    run("s3://rides", f"s3://results/{name}", options)
                    again = 3  # further runs, which repeat files that failed three times
                    while again and len(finished(f"s3://results/{name}")) < arguments.files:
                        again -= 1
                        run("s3://rides", f"s3://results/{name}", options)
                print(f"faults: {counts}")
                out = "s3://results/faults"
                compare("store", contents(out), contents("s3://results/calm"), out)


if __name__ == "__main__":
    main()
