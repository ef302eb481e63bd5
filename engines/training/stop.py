"""Stopping in order: SIGINT and SIGTERM are noted, and acted upon when the time is right."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopSignal:
    """Notes that SIGINT or SIGTERM came; a second one acts as if this was not there.

    Attributes
    ----------
    number : int
        Of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def came(self) -> bool:
        """Return whether a signal came."""
        return self.number != 0

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
