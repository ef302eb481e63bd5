"""Run a program: print any text without failing, and return a meaningful exit code."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.signals import on_signals


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run the program that is all of this process, and end with its exit code.

    Before it acts upon signals and when it is done, SIGINT ends the process as SIGTERM does: Python
    would print a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())


MAX_LINE = 1200  # characters of a message: names of files have up to 255, paths a few of them

# What moves the cursor, changes colours, ends a line or turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def exit_code(run: Callable[[], int]) -> int:
    """Run a program in the main thread and return its exit code.

    Its own, 2 for a `UserError`, 130 or 143 if a signal interrupts it, 141 if nobody reads what it
    prints, as for programs that such a pipe ends. A first signal is a `KeyboardInterrupt`, which
    leaves time to tidy up; a second one does what it did before.
    """
    print_any_text()
    # OpenCV reads it when it is loaded. What is wrong with a picture is reported here.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    received: list[int] = []

    def interrupt(number: int) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        with on_signals(interrupt, once=True):
            return run()
    except BaseException as error:
        # Libraries that are interrupted while they are imported raise errors of their own.
        if received or isinstance(error, KeyboardInterrupt):
            _complain("interrupted")
            return 128 + (received or [signal.SIGINT])[0]
        if isinstance(error, UserError):
            _complain(f"error: {error}")
            return 2
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        # Many simple questions about files lead to this one.
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _complain(f"error: {error.filename}: {error.strerror}")
            return 2
        raise
    finally:
        _drop_unread()


def print_any_text() -> None:
    r"""Print characters that the terminal's encoding lacks as \x..; file names may hold them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    r"""Return a line in which nothing controls a terminal: such characters become \x..

    Names of files, classes and tracks come with files of strangers.
    """
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def printable_lines(text: str) -> str:
    """Return a text of several lines as `printable` does each of them."""
    return "\n".join(map(printable, text.split("\n")))


class ProgramParser(argparse.ArgumentParser):
    """A parser whose errors are lines to read, however long an argument is and whatever is in it.

    A shell replaces * by names of files, which may come from strangers.
    """

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong; exit with code 2."""
        super().error(_cut(printable(message)))


def _cut(line: str) -> str:
    """Leave out the middle of a message that repeats something very long."""
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 300]}...{line[-300:]}"


def _complain(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        print(_cut(printable(line)), file=sys.stderr, flush=True)


def _drop_unread() -> None:
    """Drop output whose reader is gone; otherwise Python would end with exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
