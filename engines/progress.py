"""The progress of long work: a line that a terminal updates in place, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

TERMINAL_SECONDS = 0.5


class Progress:
    """Shows the progress of work on standard error; a context manager, or closed by the caller.

    Parameters
    ----------
    plain_seconds : float or None
        Seconds between lines if standard error is not a terminal; None for no lines there.
    at_once : bool
        Whether the first line comes at once; for work whose steps may take long.
    enabled : bool
        Whether to show anything at all.
    leaves : bool
        Whether the last line stays on a terminal when it is closed.
    """

    def __init__(
        self,
        plain_seconds: float | None,
        at_once: bool = False,
        enabled: bool = True,
        leaves: bool = True,
    ) -> None:
        self._terminal = sys.stderr.isatty()
        self._seconds = TERMINAL_SECONDS if self._terminal else plain_seconds
        self._enabled = enabled
        self._leaves = leaves
        self._shown = float("-inf") if at_once else time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def due(self, last: bool = False) -> bool:
        """Return whether it is time for the next line; the `last` line replaces any line shown."""
        if last and self._live is not None:
            return True
        return self._seconds is not None and time.monotonic() - self._shown >= self._seconds

    def show(self, line: str, part: float | None = None) -> None:
        """Write a line, which the next one replaces on a terminal.

        A terminal shows `part`, the part of the work that is done (0 to 1), as a bar.
        """
        self._shown = time.monotonic()
        if not self._enabled or self._seconds is None:
            return
        if not self._terminal:
            _print(line)
            return
        with suppress(OSError):  # the work goes on if the terminal is closed
            if self._live is None:
                self._live = _open_live(self._leaves)
            self._live.update(_row(line, part), refresh=True)

    def say(self, line: str) -> None:
        """Write a line that is not replaced."""
        if self._enabled:
            self.close()
            _print(line)

    def close(self) -> None:
        """End the line, so that later output starts on a new line."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()


@contextmanager
def counting(total: int, unit: str = "pictures") -> Iterator[Callable[[int], None]]:
    """Provide a function that is called with the number done and shows the time left."""
    start = time.monotonic()
    with Progress(None) as progress:

        def show(done: int) -> None:
            if progress.due(last=done == total):
                left = (time.monotonic() - start) / done * (total - done)
                progress.show(f"{done} of {total} {unit}, {left:.0f} s left", done / total)

        yield show


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _open_live(leaves: bool) -> Live:
    from rich.console import Console
    from rich.live import Live

    live = Live(
        console=Console(stderr=True),
        auto_refresh=False,
        transient=not leaves,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live


def _row(line: str, part: float | None) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    text = Text(line, no_wrap=True, overflow="ellipsis")
    row = Table.grid(padding=(0, 1))
    if part is None:
        row.add_row(text)
    else:
        row.add_row(ProgressBar(1.0, part, width=30), text)
    return row


def _print(line: str) -> None:
    with suppress(OSError):  # the work goes on if the reader of the output is gone
        print(line, file=sys.stderr, flush=True)
