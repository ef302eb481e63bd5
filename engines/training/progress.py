"""The progress line of a training."""

from __future__ import annotations

import time
from dataclasses import dataclass

from squeezedrive.engines.progress import Progress, clock

PLAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Position:
    """The position in a training: epoch from 0, step of the epoch from 1, and their totals."""

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def left(self) -> int:
        """The number of remaining steps."""
        return (self.epochs - self.epoch) * self.steps - self.step


class TrainingProgress(Progress):
    """Shows a training's losses, speed and remaining time; nothing if `enabled` is false."""

    def __init__(self, enabled: bool = True) -> None:
        super().__init__(PLAIN_SECONDS, at_once=True, enabled=enabled)
        self._steps = 0
        self._spent = 0.0
        self._mark: float | None = None

    def tick(self) -> bool:
        """Count a step; return whether it is time for `show_step`."""
        now = time.monotonic()
        if self._mark is not None:
            self._spent += now - self._mark
            self._steps += 1
        self._mark = now
        return self.due()

    def pause(self) -> None:
        """Exclude the time until the next step from the speed, because other work takes it."""
        self._mark = None

    def show_step(
        self, position: Position, losses: dict[str, float], rate: float, batch: int
    ) -> None:
        """Write the line with losses, learning rate, speed and remaining time."""
        parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        pace = ""
        if self._steps:
            seconds = self._spent / self._steps
            pace = f", {batch / seconds:.3g} pictures/s, {clock(position.left * seconds)} left"
        self.show(
            f"epoch {position.epoch + 1}/{position.epochs}, step {position.step}/{position.steps}:"
            f" loss {sum(losses.values()):.3f} ({parts}), rate {rate:.2g}{pace}"
        )
