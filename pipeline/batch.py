"""Frames that pass the stages together: at most one of each source."""

from __future__ import annotations

from dataclasses import dataclass

from engines.backend import Slot
from pipeline.frame import Frame
from pipeline.sinks.base import Result


@dataclass(frozen=True)
class InSlot:
    """Frames that occupy a slot.

    Attributes
    ----------
    frames : tuple of Frame
        As many as the back end takes at once, at least one.
    slot : Slot
        Their working memory.
    spent : float
        Seconds worked on them so far.
    """

    frames: tuple[Frame, ...]
    slot: Slot
    spent: float

    @property
    def frame(self) -> Frame:
        """The first of them, for who observes the stages."""
        return self.frames[0]


@dataclass(frozen=True)
class Found:
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
    def frame(self) -> Frame:
        """The first of them, for who observes the stages."""
        return self.results[0].frame
