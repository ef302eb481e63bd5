"""Segments: when a recording goes on in new files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squeezedrive.pipeline.core.moments import exactly
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel, utc
from squeezedrive.pipeline.sinks.recordings.clock import RecordingClock

if TYPE_CHECKING:
    from squeezedrive.pipeline.core.frame import Frame


class Segments:
    """Decide when a segment ends: by time, for all files of a recording at the same frame.

    Parameters
    ----------
    archive : Archive
        Gives the segments their numbers.
    seconds : float
        Length of a segment; it ends before the first frame that is so much later than its first.
    clock : RecordingClock, optional
        Dates the segments; this computer's clock if not given.
    """

    def __init__(
        self, archive: Archive, seconds: float, clock: RecordingClock | None = None
    ) -> None:
        self.clock = clock or RecordingClock()
        self._archive = archive
        self._seconds = exactly(seconds)
        self._label: SegmentLabel | None = None
        self._start = 0

    def at(self, frame: Frame) -> SegmentLabel:
        """Return the label of the segment a frame belongs to. Frames are given in their order."""
        elapsed = (frame.pts - self._start) * frame.time_base
        if self._label is None or elapsed >= self._seconds:
            taken_at = utc(self.clock.see(frame))
            self._label = SegmentLabel(next(self._archive.segment_numbers), taken_at)
            self._start = frame.pts
        return self._label
