"""The line that tells how a training is getting on."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TextIO

TERMINAL_SECONDS = 0.5
FILE_SECONDS = 30.0


@dataclass(frozen=True)
class Position:
    """Where a training is: epoch from 0, step of the epoch from 1, and how many there are."""

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def left(self) -> int:
        """Steps that remain."""
        return (self.epochs - self.epoch) * self.steps - self.step


class Progress:
    """Writes one line again and again to a terminal, or a line now and then to a file."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_SECONDS if self._terminal else FILE_SECONDS
        self._last = 0.0
        self._steps = 0
        self._seconds = 0.0
        self._mark: float | None = None
        self._open = False

    def tick(self) -> bool:
        """Count a step; return whether it is time for `show`."""
        now = time.monotonic()
        if self._mark is not None:
            self._seconds += now - self._mark
            self._steps += 1
        self._mark = now
        return now - self._last >= self._interval

    def pause(self) -> None:
        """Leave the time until the next step out of the speed: it is spent on something else."""
        self._mark = None

    def show(self, position: Position, losses: dict[str, float], rate: float, batch: int) -> None:
        """Write the line with losses, learning rate, speed and remaining time."""
        self._last = time.monotonic()
        if self._quiet:
            return
        parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        pace = ""
        if self._steps:
            seconds = self._seconds / self._steps
            pace = f", {batch / seconds:.3g} pictures/s, {clock(position.left * seconds)} left"
        line = (
            f"epoch {position.epoch + 1}/{position.epochs}, step {position.step}/{position.steps}:"
            f" loss {sum(losses.values()):.3f} ({parts}), rate {rate:.2g}{pace}"
        )
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}")
            self._open = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._quiet:
            return
        if self._open:
            self._stream.write("\n")
            self._open = False
        self._stream.write(f"{text}\n")
        self._stream.flush()


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
