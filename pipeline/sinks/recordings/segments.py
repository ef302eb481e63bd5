"""Segments: when a recording goes on in new files, and detections that do so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import Result, Sink
from squeezedrive.pipeline.sinks.files.jsonl import JsonlSink
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel
from squeezedrive.pipeline.sinks.recordings.series import Series


class Segments:
    """Decides for all files of a recording when a segment ends: by time, at the same frame.

    Parameters
    ----------
    archive : Archive
        Gives the segments their numbers.
    seconds : float
        Length of a segment; it ends before the first frame that is so much later than its first.
    """

    def __init__(self, archive: Archive, seconds: float) -> None:
        self._archive = archive
        self._seconds = seconds
        self._label: SegmentLabel | None = None
        self._start = 0

    def at(self, frame: Frame) -> SegmentLabel:
        """Return the label of the segment a frame belongs to. Frames are given in their order."""
        elapsed = (frame.pts - self._start) * frame.time_base
        if self._label is None or elapsed >= self._seconds:
            self._label = self._archive.next_segment()
            self._start = frame.pts
        return self._label


class SegmentedJsonlSink(Sink):
    """Detections as JSON lines, in files that begin and end with the segments of the video.

    A file that cannot be written does not end the run, see `Series`.

    Parameters
    ----------
    archive : Archive
        Names the files.
    segments : Segments
        Shared with the video.
    header, class_names
        As for `JsonlSink`; each file has the header.

    Attributes
    ----------
    name : str
        A pattern that all files match.
    lost : int
        Frames whose line could not be written.
    """

    def __init__(
        self,
        archive: Archive,
        segments: Segments,
        header: Callable[[], Mapping[str, Any]],
        class_names: Sequence[str],
    ) -> None:
        def open_file(path: Path, _: Result) -> JsonlSink:
            return JsonlSink(path, header, class_names, archive.room)

        self.name = archive.jsonl_pattern
        self._segments = segments
        self._series: Series[Result] = Series(
            self.name, archive, open_file, archive.jsonl, archive.next_segment
        )

    @property
    def lost(self) -> int:
        """Frames whose line could not be written."""
        return self._series.lost

    @property
    def warnings(self) -> list[str]:
        """One line for what is missing."""
        return self._series.warnings

    def write(self, result: Result) -> None:
        """Add the line of one frame."""
        self._series.write(result, self._segments.at(result.frame))

    def close(self) -> None:
        """Close the file."""
        self._series.close()
