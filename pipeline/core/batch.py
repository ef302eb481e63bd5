"""Frames that pass the stages together."""

from __future__ import annotations

from dataclasses import dataclass

from squeezedrive.engines.backends.base import Slot
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import Result


@dataclass(frozen=True)
class Batch:
    """Frames that the network takes at once, each with those before it that it does not see.

    Attributes
    ----------
    frames : tuple of Frame
        At least one; those of a source in their order.
    due : tuple of bool
        Which of them the network sees. The others have their objects on the way from where they
        were in the one before to where they are in the next one, or, if that is not there, going
        on as they went.
    slot : Slot or None
        Working memory of those that are due; None if there are none.
    spent : float
        Seconds worked on them so far.
    """

    frames: tuple[Frame, ...]
    due: tuple[bool, ...]
    slot: Slot | None
    spent: float = 0.0

    @property
    def worked_on(self) -> int:
        """How many frames the stages of the network work on."""
        return sum(self.due)


@dataclass(frozen=True)
class Results:
    """Frames with what was found in them.

    Attributes
    ----------
    results : tuple of Result
        One a frame.
    spent : float
        Seconds it took to find all of it.
    """

    results: tuple[Result, ...]
    spent: float

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames themselves."""
        return tuple(result.frame for result in self.results)

    @property
    def worked_on(self) -> int:
        """How many frames there are: the last stages work on every one."""
        return len(self.results)
