"""The result of a check, and the way to ask libraries that may end the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

Presence = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Observation:
    """The result of a check: its name, a state, a text, and a remedy for a problem."""

    name: str
    state: Presence
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Answer:
    """The output of another Python process, or the reason of its failure in one line."""

    text: str
    failed: bool = False


def ask(*arguments: str, seconds: float = 60.0) -> Answer:
    """Run Python with these arguments in another process and return its output.

    A library that is broken, or lacks a driver, may end the process that imports it.
    """
    # The same packages, but none that happens to lie in the current folder (Python 3.11 or later).
    search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    environment = os.environ | {"PYTHONPATH": search, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(f"no answer within {seconds:.0f} s", failed=True)
    except OSError as error:
        return Answer(f"{sys.executable} cannot be run: {error}", failed=True)
    if done.returncode == 0:
        return Answer(done.stdout.strip())
    if done.returncode < 0:
        return Answer(f"ended by {_signal(-done.returncode)}", failed=True)
    lines = done.stderr.strip().splitlines()
    return Answer(lines[-1] if lines else f"exit status {done.returncode}", failed=True)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def installed(names: Iterable[str]) -> str | None:
    """Return the version of the first of these distributions that is installed; None without."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def numbers(version: str) -> tuple[int, ...]:
    """Return major and minor of a version, for comparison; () where they are no numbers."""
    parts = version.split("+")[0].split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
