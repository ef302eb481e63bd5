"""Write detections as a table of comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.jsonl import frame_record
from squeezedrive.pipeline.sinks.files.lines import LineFile
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

COLUMNS = ("source", "frame", "pts", "class", "score", "x1", "y1", "x2", "y2", "id", "lat", "lon")


def table_rows(
    result: FrameResult, source: str, class_names: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Return a row of `COLUMNS` for each detection of a frame; None for what is not known.

    Numbers are those of the JSON lines, see `frame_record`.
    """
    record = frame_record(result, class_names)
    gps = record.get("gps") or {}
    return [
        (source, record["frame"], record["pts"], found["class"], found["score"], *found["box"],
         found.get("id"), gps.get("lat"), gps.get("lon"))
        for found in record["detections"]
    ]  # fmt: skip


class CsvSink(Sink):
    """One row per detection, after a header row, in a file as `LineFile` keeps it.

    The columns are `COLUMNS`: the name of the source, the frame's number from 0, its presentation
    time in seconds, class, score, the corners of the box in pixels of the source, the number of the
    object, which is empty if nothing is followed, and latitude and longitude in degrees, which are
    empty where they are not known; numbers are those of the JSON lines, see `frame_record`. A frame
    without detections has no row. Text is UTF-8, quoted as RFC 4180 has it; lines end with a line
    feed.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists; "-" for standard output.
    source : str
        Name of the source.
    class_names : sequence of str
        Names in the order of the class indices.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    """

    def __init__(self, path: str | Path, source: str, class_names: Sequence[str]) -> None:
        self._lines = LineFile(path)
        self.name = self._lines.name
        self._source = source
        self._class_names = list(class_names)

    def write(self, result: FrameResult) -> None:
        """Add the rows of one frame."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        if not self._lines.is_open:
            table.writerow(COLUMNS)
        table.writerows(table_rows(result, self._source, self._class_names))
        self._lines.append(text.getvalue())

    def close(self) -> None:
        """Close the file; standard output stays open."""
        self._lines.close()


def _open(context: SinkContext) -> Sink:
    return CsvSink(context.path, context.source.info.name, context.class_names)


SPEC = SinkSpec(
    option="csv",
    metavar="OUT.csv",
    help="detections, a row each; - for stdout",
    open=_open,
    stdout=True,
)
