"""The first stage: reads the frames of one source."""

from __future__ import annotations

from threading import Event

from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.stages.feed import Captured, Feed


class Capture:
    """Reads the source of a feed until it ends, or no more frames are wanted.

    `stopping` is set when the run ends and no source is read any more.
    """

    name: StageName = "capture"

    def __init__(self, feed: Feed, stopping: Event) -> None:
        self._feed = feed
        self._stopping = stopping

    def take(self) -> Feed | None:
        """Return the feed if another frame of it is wanted."""
        return self._feed if self._feed.wanted and not self._stopping.is_set() else None

    def work(self, feed: Feed) -> Captured | None:
        """Read the next frame, or None at the end of the source."""
        frame = feed.take()
        return None if frame is None else Captured(feed, frame)
