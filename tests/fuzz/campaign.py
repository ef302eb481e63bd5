"""Starts and watches workers, and keeps the inputs that the program handled wrongly."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case
from tests.fuzz.observe import ROOT

START_SECONDS = 300.0  # at least, for the first input: the worker loads libraries, makes seeds
PATIENCE = 10.0  # seconds for one input on an idle machine
KILL_MEMORY = 3 << 30  # bytes of a worker; the observer already reports less
LOOK_SECONDS = 0.1
WORKER = "tests.fuzz.worker"  # the module that a process runs
PER_WORKER = 2000  # inputs that one process runs
KEPT = 3  # inputs to keep of each kind of fault


@dataclass
class Outcome:
    """The results of the inputs of a target.

    Attributes
    ----------
    inputs : int
        Number of inputs that were run.
    ended : Counter of str
        How many ended in which way: "done", "refused", "died" and so on.
    found : dict of str to list of int
        Numbers of the inputs for each kind of fault.
    kept : dict of str to list of Path
        Folders of the kept inputs for each kind of fault.
    seconds : float
        Wall-clock time.
    """

    inputs: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[int]] = field(default_factory=dict)
    kept: dict[str, list[Path]] = field(default_factory=dict)
    seconds: float = 0.0


def run_target(
    name: str,
    seed: int,
    inputs: int,
    keep: Path | None = None,
    first: int = 0,
    said: Callable[[str], None] = lambda line: None,
    patience: float = PATIENCE,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run inputs of a target in worker processes; start a new worker when one dies.

    Parameters
    ----------
    name : str
        Name of the target.
    seed : int
        The same seed makes the same inputs.
    inputs : int
        Number of inputs.
    keep : Path, optional
        Folder for inputs that went wrong; None keeps no input.
    first : int
        Number of the first input.
    said : callable
        Called with a message for each new kind of fault.
    patience : float
        Seconds after which a worker is killed in the middle of an input.
    stop : threading.Event, optional
        Ends the run after the current input when it is set.
    """
    outcome = Outcome()
    start = time.monotonic()
    position, end = first, first + inputs
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch)
        while position < end and not (stop and stop.is_set()):
            count = min(PER_WORKER, end - position)
            arguments = ["--seed", str(seed), "--first", str(position), "--count", str(count)]
            worker = _Worker(name, folder, arguments, patience)
            began = position
            for event in worker.events():
                if "begin" in event:
                    position = int(event["begin"])
                    continue
                outcome.inputs += 1
                outcome.ended[event["ended"]] += 1
                for kind, detail in event["found"]:
                    there = folder / ("case" if event["ended"] == "died" else str(position))
                    _note(outcome, name, kind, detail, position, there, keep, said)
                shutil.rmtree(folder / str(position), ignore_errors=True)
                position += 1
                if stop and stop.is_set():
                    break
            if worker.failed and position == began and not worker.has_begun:
                raise RuntimeError(f"{name}: no worker could be started: {worker.last_words}")
        outcome.seconds = time.monotonic() - start
    return outcome


def replay(name: str, kept: Path, patience: float = PATIENCE) -> tuple[list[tuple[str, str]], str]:
    """Run a kept input again, alone; return its faults and how it ended."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch) / "case"
        shutil.copytree(kept, folder)
        worker = _Worker(name, folder, [], patience)
        for event in worker.events():
            if "end" in event:
                return [(kind, detail) for kind, detail in event["found"]], event["ended"]
    return [], "?"


def write_input(name: str, seed: int, number: int, folder: Path) -> Case:
    """Write one input of a target into a folder and return it."""
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.worker import cases_of

    case = next(cases_of(name, TARGETS[name], seed, number))
    case.write(folder)
    return case


def _note(
    outcome: Outcome,
    name: str,
    kind: str,
    detail: str,
    number: int,
    case: Path,
    keep: Path | None,
    said: Callable[[str], None],
) -> None:
    numbers = outcome.found.setdefault(kind, [])
    numbers.append(number)
    if len(numbers) == 1:
        said(f"{name} {number}: {kind}\n{detail}")
    if keep is None or len(numbers) > KEPT:
        return
    words = re.sub(r"[^A-Za-z0-9.]+", "-", kind).strip("-")[:60]
    place = keep / name / f"{words}-{zlib.crc32(kind.encode()):08x}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(case, place, ignore=shutil.ignore_patterns("out"))
    (place / "found.txt").write_text(f"{name} {number}: {kind}\n{detail}\n", errors="replace")
    outcome.kept.setdefault(kind, []).append(place)


class _Worker:
    """A process that runs inputs and reports; it is killed if it hangs or takes too much memory.

    Attributes
    ----------
    has_begun : bool
        Whether it has reached its first input.
    failed : bool
        Whether it died.
    last_words : str
        The end of its standard error.
    """

    def __init__(self, name: str, folder: Path, arguments: list[str], patience: float) -> None:
        self._words = folder.parent / f"{folder.name}.stderr"
        self._patience = patience
        self.has_begun = self.failed = False
        self.last_words = ""
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        environment.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # as the program does at its start
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, name, str(folder), *arguments],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=words, stdin=subprocess.DEVNULL,
                env=environment,
            )  # fmt: skip

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its reports; if it dies during an input, yield a report about that."""
        try:
            running = yield from self._reported()
        finally:
            with suppress(ProcessLookupError):
                self._process.kill()
            code = self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self.last_words = self._words.read_text(errors="replace")[-3000:]
            self._words.unlink(missing_ok=True)
        why = self._killed_for or (f"died of {-code}" if code < 0 else f"ended with {code}")
        self.failed = running or code != 0
        if running:
            yield {"end": -1, "ended": "died", "found": [[why, self.last_words]]}

    def _reported(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        output = self._process.stdout
        os.set_blocking(output.fileno(), False)
        self._killed_for = ""
        running = False
        rest = b""
        since = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if selector.select(LOOK_SECONDS):
                    data = output.read()
                    if data == b"":
                        return running
                    *lines, rest = (rest + (data or b"")).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        running, since = "begin" in event, time.monotonic()
                        self.has_begun = True
                        yield event
                limit = (
                    self._patience if self.has_begun else max(START_SECONDS, 10 * self._patience)
                )
                if time.monotonic() - since > limit:
                    self._killed_for = "hang"
                elif self._memory() > KILL_MEMORY:
                    self._killed_for = "memory"
                if self._killed_for:
                    return running

    def _memory(self) -> int:
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):  # the process has just ended
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
