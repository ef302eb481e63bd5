"""What the stages pass on: frames and results, each with its feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from squeezedrive.engines.backends.base import Slot
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.stages.feed import Feed


class BatchEntry(NamedTuple):
    """A frame on its way to the network.

    Attributes
    ----------
    feed : Feed
        Where it comes from.
    frame : Frame
        The picture.
    due : bool
        Whether the network sees it. If not, its objects are interpolated between the frames
        around it that the network sees, or, after the last of those, extrapolated.
    """

    feed: Feed
    frame: Frame
    due: bool


@dataclass(frozen=True)
class Batch:
    """Frames that the network takes at once, each with those before it that it does not see."""

    entries: tuple[BatchEntry, ...]  # at least one; those of a feed in their order
    slot: Slot | None  # working memory of those that are due; None if there are none
    spent: float = 0.0  # seconds worked on them so far

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames themselves."""
        return tuple(entry.frame for entry in self.entries)

    @property
    def worked_on(self) -> int:
        """How many frames the stages of the network work on."""
        return sum(entry.due for entry in self.entries)


class ResultEntry(NamedTuple):
    """The result of a frame, and the feed that it goes to."""

    feed: Feed
    result: FrameResult


@dataclass(frozen=True)
class Results:
    """The results of the frames of a batch."""

    entries: tuple[ResultEntry, ...]  # one a frame
    spent: float  # seconds it took to find all of it

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames themselves."""
        return tuple(entry.result.frame for entry in self.entries)

    @property
    def worked_on(self) -> int:
        """How many frames there are: the last stages work on every one."""
        return len(self.entries)
