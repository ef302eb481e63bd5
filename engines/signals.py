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
    came: set[int] = set()

    def act(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and number in came:
            return
        second = once and bool(came)
        came.add(number)
        if second:
            _act_as(before[number], number, frame)
        else:
            handle(signal.SIGTERM if number == signal.SIGHUP else number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, act)
    try:
        yield
    finally:
        for changed, handler in before.items():
            signal.signal(changed, handler)


def _act_as(handler: Any, number: int, frame: FrameType | None) -> None:
    """Do with a signal what a handler, or the system without one, does."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        # Only now and for this one: Python complains of signals that came while they had a handler
        # and are acted upon when they have none.
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
