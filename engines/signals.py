"""Handle SIGINT, SIGTERM and SIGHUP during long work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def on_signals(handle: Callable[[int], None], once: bool = False) -> Iterator[None]:
    """Call `handle` with the number of each SIGINT and SIGTERM that arrives inside the context.

    SIGHUP counts as SIGTERM. When a terminal is closed, both the shell and the system send SIGHUP;
    only the first one counts. Under `nohup`, SIGHUP is ignored.

    Parameters
    ----------
    handle : callable
        The handler, which may raise. `list.append` collects the signals for later.
    once : bool
        Whether a second signal has the effect that it has outside the context.
    """
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def act(number: int, _: FrameType | None) -> None:
        if once:
            restore()
        if number == signal.SIGHUP:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            number = signal.SIGTERM
        handle(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, act)
    try:
        yield
    finally:
        restore()
