"""Runs one input and looks for things that the program must never do."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezedrive.kernels.cache_folder import cache_folder
from tests.fuzz.case import OUTPUT

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_MEMORY = 2 << 30  # bytes of the process
MAX_SECONDS = 10.0  # seconds of processor time
MAX_LINE = 2000  # characters of a message
THREAD_SECONDS = 2.0  # for threads to end after the program

ERROR = re.compile(r"(error|[\w. -]+\.py\b.*: error|python -m \w+.*: error): ")
# Messages of the program, of argparse with the usage before them, and warnings of libjpeg and
# libpng about damage, which OpenCV cannot turn off.
MESSAGE = re.compile(
    r"(error|warning|info): |interrupted|.+: error: |usage: |\s|(frame|file) \d+|\d+ of \d+"
    "|in, train: |Corrupt JPEG|Inconsistent progr|Invalid SOS|Premature end|Unsupported marker"
    "|Bogus |libpng |Warning: unknown JFIF"
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
PLACE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')

WRITES = frozenset({
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown",
})  # fmt: skip
STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"})


@dataclass(frozen=True)
class Violation:
    """A thing that the program did and must never do.

    Attributes
    ----------
    kind : str
        What happened and where in the program; the same for all inputs with the same cause.
    detail : str
        The traceback, or other details.
    """

    kind: str
    detail: str


class Observer:
    """Runs inputs in a folder, one after the other, and looks for faults in each run.

    It redirects standard output and error of the process and adds an audit hook, which sees files
    that are opened. Python cannot remove such a hook, so the process can do nothing else later.

    Parameters
    ----------
    folder : Path
        The current folder, with the input as `Case.write` writes it.
    allows_connections : bool
        Whether the inputs may make connections.
    """

    def __init__(self, folder: Path, allows_connections: bool = False) -> None:
        self._folder = folder.resolve()
        self._beside = self._folder.parent / "printed"
        self._allows_connections = allows_connections
        self._touched: list[str] = []
        self._is_watching = False
        self._handles = 0
        cache = cache_folder("")
        self._allowed = (f"{self._folder / OUTPUT}{os.sep}", "/dev/", "/proc/", f"{cache}{os.sep}")
        self._files = [self._capture(number) for number in (1, 2)]
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
            for number in (1, 2)
        )
        warnings.simplefilter("always", RuntimeWarning)
        sys.addaudithook(self._audit)

    def run(self, program: Callable[[], object]) -> tuple[list[Violation], str]:
        """Run a program; return its faults, and how it ended in one word."""
        for number, file in zip((1, 2), self._files, strict=True):
            os.ftruncate(number, 0)
            os.lseek(number, 0, os.SEEK_SET)
            file.seek(0)
        threads = set(threading.enumerate())
        before = _snapshot(self._folder)
        self._touched.clear()
        _reset_peak()
        found: list[Violation] = []
        code: object = None
        start = time.process_time()
        with self._watching():
            try:
                code = program()
            except SystemExit as error:
                code = error.code
            except BaseException as error:
                found.append(_escaped(error))
                code = "exception"
                del error
        seconds = time.process_time() - start
        printed, said = (self._printed(file) for file in self._files)
        found += self._of_messages(code, printed, said) + self._of_threads(threads)
        found += self._of_files(before) + self._of_handles()
        if seconds > MAX_SECONDS:
            found.append(Violation("hang", f"{seconds:.1f} s"))
        peak = _peak()
        if peak > MAX_MEMORY:
            found.append(Violation("memory", f"{peak / 2**20:.0f} MiB"))
        return found, "done" if code in (0, None) else "refused" if code == 2 else str(code)

    def _capture(self, number: int) -> Any:
        path = self._beside.with_name(f"printed.{number}")
        file = path.open("w+b")
        os.dup2(file.fileno(), number)
        return file

    def _printed(self, file: Any) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        with open(file.name, "rb") as again:
            return again.read(1 << 20).decode("utf-8", "backslashreplace")

    def _of_messages(self, code: object, printed: str, said: str) -> list[Violation]:
        found = []
        if "Traceback (most recent call last)" in said:
            found.append(Violation(f"traceback {_last_place(said)}", said[-3000:]))
            return found
        lines = said.split("\n")
        errors = [line for line in lines if ERROR.match(line)]
        if code == 2 and len(errors) != 1 and not (printed and not errors):
            found.append(Violation(f"{len(errors)} lines of error", said[-3000:]))
        elif code not in (0, 2, None, "exception"):
            found.append(Violation(f"exit code {code}", said[-3000:]))
        for line in lines:
            if len(line) > MAX_LINE:
                found.append(Violation("long line", line[:MAX_LINE]))
            elif not MESSAGE.match(line) and line:
                words = re.sub(r"0x\w+|\d+", "N", line)
                found.append(Violation(f"noise {words[:60]}", said[-3000:]))
                break
        for text in (printed, said):
            if unprintable := CONTROL.search(text):
                at = unprintable.start()
                start = text.rfind("\n", 0, at) + 1
                line = text[start : at + 40]
                if ": error: " in line:
                    continue  # argparse repeats what the user has typed
                found.append(Violation(f"control characters {line.split(':')[0][:20]!a}", line))
                break
        return found

    def _of_threads(self, before: set[threading.Thread]) -> list[Violation]:
        end = time.monotonic() + THREAD_SECONDS
        left = set(threading.enumerate()) - before
        while left and time.monotonic() < end:
            time.sleep(0.005)
            left = set(threading.enumerate()) - before
        names = sorted(thread.name for thread in left)
        return [Violation("threads left", ", ".join(names))] if names else []

    def _of_files(self, before: dict[str, tuple[int, int]]) -> list[Violation]:
        after = _snapshot(self._folder)
        changed = sorted(name for name in before | after if before.get(name) != after.get(name))
        found = [Violation("file outside the output", ", ".join(changed))] if changed else []
        return found + [Violation(f"forbidden {what}", what) for what in self._touched[:1]]

    def _of_handles(self) -> list[Violation]:
        handles = _open_files()
        if handles > self._handles:
            gc.collect()
            handles = _open_files()
        grown, self._handles = handles - self._handles, max(handles, self._handles)
        if grown <= 0 or self._handles == grown:  # files of the first input may stay open
            return []
        names = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")[-9:-1]]
        return [Violation("handles left", f"{grown}: {names}")]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._is_watching = True
        try:
            yield
        finally:
            self._is_watching = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_watching:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or (
                isinstance(mode, str) and bool(set(mode) & set("wxa+"))
            )
            if writes and isinstance(path, str | bytes):
                self._check_path(event, path)
        elif event in WRITES:
            self._check_path(event, arguments[0])
        elif event in STARTS or (event == "socket.connect" and not self._allows_connections):
            self._touched.append(f"{event} {arguments[:2]!r}"[:100])

    def _check_path(self, event: str, path: Any) -> None:
        place = os.path.realpath(os.path.join(self._folder, os.fsdecode(path)))
        if event == "os.mkdir":
            place += os.sep  # the output folder itself is allowed
        if not place.startswith(self._allowed) and "__pycache__" not in place:
            self._touched.append(f"{event} {path!r}"[:100])


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything in a folder, except in its output."""
    found = {}
    for place, folders, files in os.walk(folder):
        if place == str(folder) and OUTPUT in folders:
            folders.remove(OUTPUT)
        for name in (*folders, *files):
            path = os.path.join(place, name)
            state = os.lstat(path)
            found[path] = (state.st_size, state.st_mtime_ns) if name in files else (0, 0)
    return found


def _escaped(error: BaseException) -> Violation:
    text = "".join(traceback.format_exception(error))
    return Violation(f"exception {_last_place(text)}", text[-3000:])


def _last_place(text: str) -> str:
    """Return the kind of the last error in a text, and the last place in the program's code."""
    place = "somewhere"
    for path, _, function in PLACE.findall(text):
        if path.startswith(f"{ROOT}{os.sep}") and f"{os.sep}tests{os.sep}" not in path:
            place = f"{Path(path).relative_to(ROOT)}:{function}"
    kinds = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", text, re.MULTILINE)
    return f"{kinds[-1] if kinds else '?'} in {place.removeprefix('squeezedrive/')}"


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
