"""One source with its queue, its outputs and its counts."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Condition
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import Policy, StageQueue
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source, SourceInfo
from squeezedrive.pipeline.core.timing import Durations, Rate
from squeezedrive.pipeline.tracking.tracker import FORGET, Tracker

# Draws a result into its picture, with a line of figures about the run.
Draw = Callable[[FrameResult, str], None]


class Captured(NamedTuple):
    """A frame as its source gave it, and the feed it comes from."""

    feed: Feed
    frame: Frame

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frame alone."""
        return (self.frame,)

    @property
    def worked_on(self) -> int:
        """One: it was read."""
        return 1


class QueueOptions(BaseModel):
    """Options of the queues between the stages: a group of keys of the configuration.

    Attributes
    ----------
    policy : str
        What happens when frames come faster than they are processed; "auto": "latest" for sources
        that have no end of their own, "lossless" for the others.
    depth : int
        Frames between two stages; between a source and the network, of each source.
    max_age : float
        Seconds, for the policy "bounded_age".
    slots : int
        Batches of frames between preprocess and postprocess.
    batch : int
        Frames that the network takes at once, if so many wait, of whatever source; 0: one of each
        source if the back end is faster that way, else one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    policy: Literal["auto", Policy] = "auto"
    depth: Annotated[int, Field(ge=1, le=1000)] = 2
    max_age: Annotated[float, Field(gt=0)] = 0.15
    slots: Annotated[int, Field(ge=1, le=64)] = 3
    batch: Annotated[int, Field(ge=0, le=64)] = 0

    def new_queue(self, info: SourceInfo, changed: Condition | None = None) -> StageQueue[Captured]:
        """Return the queue between a source and the network.

        All queues of a pipeline are made with the same `changed`.
        """
        policy: Policy = "latest" if info.live else "lossless"
        return StageQueue(
            max(self.depth, self.batch),
            policy if self.policy == "auto" else self.policy,
            self.max_age,
            lambda captured: captured.frame.captured_at,
            changed,
        )


class Feed:
    """A source, the outputs of its frames, and their counts.

    Parameters
    ----------
    source : Source
        Where frames come from.
    queue : StageQueue of Captured
        Where its frames wait for the network; see `QueueOptions.new_queue`.
    sinks : sequence of Sink
        Where its results go.
    draw : callable or None
        Draws into its frames, see `Draw`; None leaves the pixels alone.
    limit : int or None
        Frames to read at most.
    tracker : Tracker or None
        Follows its objects.
    every : int
        With a tracker: the network sees one frame in so many, see `due`.

    Attributes
    ----------
    read, processed, detected : int
        Frames taken from the source, frames that reached every sink, and those of them that the
        network has seen.
    stale : int
        Frames that were too old to be shown after the network.
    found, now : Counter
        Detections by class index: of all frames, and of the last one.
    latency : Durations
        From the arrival of a picture until all sinks had it.
    newest : float or None
        `captured_at` of the last frame that reached every sink.
    read_at : float
        `time.monotonic()` when the last frame was read.
    rate : Rate
        Of the frames that reach every sink.
    broken : bool
        Whether one of its outputs has failed: nothing more is read or written.
    """

    def __init__(
        self,
        source: Source,
        queue: StageQueue[Captured],
        sinks: Sequence[Sink],
        draw: Draw | None = None,
        limit: int | None = None,
        tracker: Tracker | None = None,
        every: int = 1,
    ) -> None:
        self.source = source
        self.queue = queue
        self.sinks = list(sinks)
        self.draw = draw
        self.tracker = tracker
        self.every = 1 if tracker is None else every
        self.read = self.processed = self.detected = self.stale = 0
        self.found: Counter[int] = Counter()
        self.now: Counter[int] = Counter()
        self.latency = Durations()
        self.newest: float | None = None
        self.read_at = time.monotonic()
        self.rate = Rate()
        self.broken = False
        self._limit = limit
        self._skipped = self.every  # frames since the network saw one,
        self._seen = -math.inf  # and when in the source that was

    @property
    def wanted(self) -> bool:
        """Whether another frame is to be read."""
        return not self.broken and (self._limit is None or self.read < self._limit)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were read but not shown, by reason."""
        counts = Counter(self.queue.dropped)
        if self.stale:
            counts["too old when done"] = self.stale
        return counts

    def take(self) -> Frame | None:
        """Read the next frame of the source, or None at its end."""
        frame = self.source.read()
        if frame is not None:
            self.read += 1
            self.read_at = frame.captured_at
            track = self.source.gps
            if track is not None:
                frame = replace(frame, has_gps=True, gps=track.at(frame.seconds))
        return frame

    @property
    def is_next_due(self) -> bool:
        """Whether the network sees the next frame, whatever its time."""
        return self._skipped + 1 >= self.every

    def due(self, frame: Frame) -> bool:
        """Return whether the network sees a frame; call it once for each, in their order.

        It sees one frame in `every`, and the first after a gap longer than objects are remembered.
        """
        self._skipped += 1
        if self._skipped < self.every and 0 <= frame.seconds - self._seen <= FORGET:
            return False
        self._skipped, self._seen = 0, frame.seconds
        return True

    def write(self, result: FrameResult) -> None:
        """Give a result to every sink.

        Raises
        ------
        SinkError
            If one of them cannot take it.
        """
        for sink in self.sinks:
            sink.write(result)
        self.now = Counter(result.detections.classes.tolist())
        self.found.update(self.now)
        self.newest, now = result.frame.captured_at, time.monotonic()
        self.latency.add(now - self.newest)
        self.rate.tick(now)
        self.processed += 1
        self.detected += result.detected
