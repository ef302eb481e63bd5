"""Run a program: print any text without failing, and return a meaningful exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from squeezedrive.engines.errors import UserError


def exit_code(run: Callable[[], int]) -> int:
    """Run a program and return its exit code.

    This is the program's own code, 2 for a `UserError`, 130 if it is interrupted, and 141 if the
    reader of its output is gone, as for programs that a closed pipe ends.
    """
    print_any_text()
    try:
        return run()
    except UserError as error:
        _complain(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    finally:
        _drop_unread()


def print_any_text() -> None:
    r"""Print characters that the terminal's encoding lacks as \x..; file names may hold them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _complain(line: str) -> None:
    with suppress(OSError):  # the reader of the output is gone
        print(line, file=sys.stderr, flush=True)


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
