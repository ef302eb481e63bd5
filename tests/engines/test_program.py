"""Output and exit codes of programs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NAME = os.fsdecode(b"fahrt_\xfc \xe2\x86\x92.mp4")
RUN = """
import sys
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.program import exit_code
{body}
sys.exit(exit_code(run))
"""


def start(body: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", RUN.format(body=body), *arguments],
        cwd=ROOT, timeout=100, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "utf-8:strict"])
def test_prints_any_file_name_in_any_encoding(encoding: str) -> None:
    body = "def run(): print('wrote', sys.argv[1]); raise UserError(sys.argv[1] + ': is wrong')"
    done = start(
        body, NAME, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 2, done.stderr
    # The invalid byte is escaped, and so is the arrow if the encoding lacks it.
    arrow = "→" if encoding.startswith("utf-8") else "\\u2192"
    assert done.stdout.decode() == f"wrote fahrt_\\udcfc {arrow}.mp4\n"
    assert done.stderr.decode() == f"error: fahrt_\\udcfc {arrow}.mp4: is wrong\n"


@pytest.mark.parametrize(
    ("end", "code"), [("return 143", 143), ("raise UserError('no')", 2),
                      ("raise KeyboardInterrupt", 130)],
)  # fmt: skip
def test_keeps_the_programs_exit_code_if_nobody_reads_its_output(end: str, code: int) -> None:
    done = start_unread("def run():\n    print('much')\n    " + end)
    assert done.returncode == code
    assert b"Exception ignored" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_ends_quietly_if_nobody_reads_the_output() -> None:
    done = start_unread("def run():\n    print('much', flush=True)\n    return 0")
    assert done.returncode == 128 + signal.SIGPIPE
    assert not done.stderr


def start_unread(body: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose standard output is a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        return start(body, stdout=writing, env=buffered)
    finally:
        os.close(writing)


def test_runs_without_output_streams() -> None:
    body = "def run(): print('much'); return 7"
    script = RUN.format(body=body)
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=ROOT, timeout=100).returncode == 7


INTERRUPTED = """
import os, signal, time
def run():
    try:
        os.kill(os.getpid(), signal.{})
        time.sleep(60)
    finally:
        {}
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
@pytest.mark.parametrize(
    "then", ["pass", "raise ImportError('what a library makes of it')", "raise UserError('no')"]
)
def test_a_signal_is_an_interruption(name: str, code: int, then: str) -> None:
    done = start(INTERRUPTED.format(name, then))
    assert (done.returncode, done.stderr) == (code, b"interrupted\n")


def test_a_second_signal_ends_the_program_at_once() -> None:
    done = start(INTERRUPTED.format("SIGINT", "os.kill(os.getpid(), signal.SIGTERM)"))
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, b"")


TOGETHER = """
import os, signal, time
from squeezedrive.engines.program import exit_code, run_program

numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
for number in numbers:
    signal.signal(number, signal.SIG_DFL)

def run():
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    time.sleep(60)

run_program(lambda: exit_code(run))
"""


def test_of_signals_that_come_together_the_second_ends_the_program() -> None:
    """Python calls signal handlers in the order of the signal numbers; SIGHUP is the lowest."""
    assert run_script(TOGETHER) == (-signal.SIGINT, b"")


AT_THE_END = """
import os, signal, threading, time
from squeezedrive.engines.program import exit_code, run_program

def send():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

def run():
    threading.Thread(target=send).start()
    return 0

run_program(lambda: exit_code(run))
"""


def test_a_signal_while_python_ends_is_no_traceback() -> None:
    assert run_script(AT_THE_END) == (-signal.SIGINT, b"")


def run_script(script: str) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, timeout=100, stderr=subprocess.PIPE
    )
    return done.returncode, done.stderr
