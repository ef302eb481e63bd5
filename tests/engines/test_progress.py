"""Progress lines, on a terminal and elsewhere."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezedrive.engines import progress
from squeezedrive.engines.progress import Progress, clock, counting

Tick = Callable[[float], None]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Tick:
    """Return a function that sets the time, in seconds after the start."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, 100.0 + seconds)


def become_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def test_writes_plain_lines_at_intervals(at: Tick, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(5.0) as line:
        for second in range(13):
            at(second)
            if line.due():
                line.show(f"{second} s")
        line.say("done")
    assert capsys.readouterr().err == "5 s\n10 s\ndone\n"
    assert Progress(5.0, at_once=True).due()


def test_writes_nothing_if_disabled(at: Tick, capsys: pytest.CaptureFixture[str]) -> None:
    line = Progress(5.0, enabled=False)
    at(6)
    assert line.due()  # a caller may also use `due` to time its work
    line.show("now")
    assert not line.due()
    line.say("done")
    assert capsys.readouterr().err == ""


def test_shows_one_line_on_a_terminal(
    at: Tick, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become_terminal(monkeypatch)
    with counting(3) as count:
        for second, done in ((0.1, 1), (2, 2), (4, 2)):
            at(second)
            count(done)
        shown = capsys.readouterr().err
        assert "1 of 3" not in shown
        assert shown.count("2 of 3 pictures") >= 2
        assert shown.count("\n") == 0
    assert capsys.readouterr().err.count("\n") == 1
    with counting(3) as count:
        count(3)  # finished before the first line was due
    assert capsys.readouterr().err == ""


def test_keeps_the_last_line_on_a_terminal(
    at: Tick, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become_terminal(monkeypatch)
    with counting(3) as count:
        at(2)
        count(2)
        at(2.1)
        count(3)
    shown = capsys.readouterr().err
    assert "2 of 3 pictures, 1 s left" in shown
    assert shown.index("2 of 3") < shown.index("3 of 3 pictures, 0 s left")
    assert shown.count("\n") == 1


def test_counting_writes_nothing_to_a_log(at: Tick, capsys: pytest.CaptureFixture[str]) -> None:
    with counting(1) as count:
        at(60)
        count(1)
    assert capsys.readouterr().err == ""


def test_goes_on_if_standard_error_is_closed() -> None:
    script = (
        "import os, sys\n"
        "from squeezedrive.engines.progress import Progress\n"
        "os.close(2)\n"
        "Progress(0.0).show('line')\n"
        "assert 'rich' not in sys.modules\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert done.stdout == b"alive\n"


def test_goes_on_if_the_terminal_is_closed(at: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError(errno.EIO, "Input/output error")

    closed = Closed()
    monkeypatch.setattr(sys, "stderr", closed)
    become_terminal(monkeypatch)
    with Progress(None) as line:
        for second in range(3):
            at(second)
            line.show(f"{second} s", second / 3)
        line.say("done")
    assert closed.tries


def test_clock_formats_durations() -> None:
    assert [clock(s) for s in (0.4, 59.6, 3599, 36610)] == [
        "0:00:00", "0:01:00", "0:59:59", "10:10:10"
    ]  # fmt: skip
