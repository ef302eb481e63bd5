"""The program in a process of its own, and readers of what it wrote."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str | Path, cwd: Path | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start the program; `options` are those of `subprocess.Popen`."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_pipeline.py"), *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def readable_frames(path: Path) -> int:
    """Count the frames that can be decoded from a file whose end is missing."""
    count = 0
    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        for _ in container.decode(video=0):
            count += 1
    return count


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_lines(process: subprocess.Popen[str], path: Path, count: int) -> None:
    """Wait until the program has written so many lines; fail if it ends or takes 100 s."""
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"the run wrote fewer than {count} lines")
