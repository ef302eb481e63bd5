"""The program when its terminal is closed."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from squeezedrive.engines.signals import on_signals

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 100  # seconds


@pytest.fixture
def outputs(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "out.mp4", tmp_path / "out.jsonl"


def command(small_network: Path, outputs: tuple[Path, Path], *more: str) -> list[str]:
    video, jsonl = outputs
    return [
        sys.executable, str(ROOT / "run_pipeline.py"), "demo:loop", "-o", str(video),
        "--jsonl", str(jsonl), "--set", f"network={small_network}", *more,
    ]  # fmt: skip


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; kill it when the block ends."""
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_lines(jsonl: Path, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if jsonl.exists() and jsonl.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"the run wrote fewer than {count} lines")


def read_until(terminal: int, text: bytes) -> None:
    deadline = time.monotonic() + DEADLINE
    shown = b""
    while text not in shown:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        if not ready:
            pytest.fail(f"expected {text!r} on the terminal, got {shown!r}")
        shown += os.read(terminal, 4096)


def check_finished(outputs: tuple[Path, Path]) -> None:
    """Check that video and detections are whole and have the same frames."""
    video, jsonl = outputs
    frames = [json.loads(line) for line in jsonl.read_text().splitlines()][1:]
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(frames) > 0


def test_closing_the_terminal_ends_the_run_cleanly(
    small_network: Path, outputs: tuple[Path, Path], tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    pid, terminal = pty.fork()
    if pid == 0:  # the child leads a session with a terminal of its own
        arguments = command(small_network, outputs, "--summary", str(summary))
        os.execv(arguments[0], arguments)
    try:
        read_until(terminal, b"frame ")  # the line of progress is on the screen
        wait_for_lines(outputs[1], 20)
        os.close(terminal)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    check_finished(outputs)
    assert json.loads(summary.read_text())["ended"] == "SIGTERM"


def test_a_second_hang_up_is_ignored(small_network: Path, outputs: tuple[Path, Path]) -> None:
    with started(command(small_network, outputs, "--no-progress")) as process:
        wait_for_lines(outputs[1], 20)
        process.send_signal(signal.SIGHUP)  # from the shell
        time.sleep(0.02)
        process.send_signal(signal.SIGHUP)  # from the system
        assert process.wait(DEADLINE) == 128 + signal.SIGTERM
    check_finished(outputs)


def test_a_run_under_nohup_survives_a_hang_up(
    small_network: Path, outputs: tuple[Path, Path]
) -> None:
    with started(["nohup", *command(small_network, outputs, "--no-progress")]) as process:
        wait_for_lines(outputs[1], 20)
        process.send_signal(signal.SIGHUP)
        lines = outputs[1].read_bytes().count(b"\n")
        wait_for_lines(outputs[1], lines + 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 128 + signal.SIGTERM
    check_finished(outputs)


@pytest.mark.parametrize("once", [False, True])
def test_signal_handlers_are_restored(once: bool) -> None:
    def handlers() -> list[Callable[..., object] | int | None]:
        return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    before = handlers()
    received: list[int] = []
    with on_signals(received.append, once):
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert received == [signal.SIGTERM]
    assert handlers() == before


def test_an_ignored_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        received: list[int] = []
        with on_signals(received.append):
            signal.raise_signal(signal.SIGHUP)
        assert not received
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
