"""The tables of a fleet: detections, events and files, a part of each for every file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from squeezedrive.pipeline.config import RecordConfig
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import VideoPart
from squeezedrive.pipeline.fleet.job import FileRow
from squeezedrive.pipeline.sinks.files.parquet import detection_schema, with_header
from squeezedrive.pipeline.sinks.recordings.events import Event, EventDetector

if TYPE_CHECKING:
    from fractions import Fraction

TABLES = ("detections", "events", "files")  # the last one commits a file
# Metadata of parts of files.
_KEY, _KIND, _FOLLOWING = (f"squeezedrive.{x}".encode() for x in ("key", "exit_kind", "following"))

EVENTS = pa.schema(
    [
        ("source", pa.string()),
        ("event", pa.int64()),  # counted from 0 in each file
        ("conditions", pa.list_(pa.string())),
        ("classes", pa.string()),
        ("begin", pa.float64()),  # seconds on the source's clock: the first frame in which a
        ("end", pa.float64()),  # condition held, and the last
        ("best_score", pa.float64()),
    ]
)
FILES = pa.schema(
    [
        ("source", pa.string()),
        ("key", pa.string()),
        ("size", pa.int64()),
        ("part", pa.int32()),
        ("parts", pa.int32()),
        ("exit_kind", pa.string()),
        ("stage", pa.string()),
        ("message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("frames", pa.int64()),
        ("skipped", pa.int64()),
        ("video_seconds", pa.float64()),
        ("detections", pa.int64()),
        ("events", pa.int64()),
        ("warnings", pa.list_(pa.string())),
        ("tries", pa.int32()),
        ("seconds", pa.float64()),
        ("finished", pa.timestamp("us", tz="UTC")),
        ("host", pa.string()),
    ]
)


class EventTable(Sink):
    """Collects the events of one file as rows, which `write_events` writes."""

    def __init__(self, source: str, record: RecordConfig, class_names: Sequence[str]) -> None:
        self.name = "events"
        self._source = source
        self._detector = EventDetector(record.events, class_names, record.before, record.after)
        self._event: Event | None = None
        self._time_base: Fraction | None = None
        self.rows: list[dict[str, Any]] = []

    def write(self, result: FrameResult) -> None:
        """Take one frame."""
        event = self._detector.at(result)
        self._time_base = result.frame.time_base
        if event is not self._event:
            self._finish()
            self._event = event

    def close(self) -> None:
        """Add the event that is going on."""
        self._finish()

    def _finish(self) -> None:
        event, self._event = self._event, None
        if event is None or self._time_base is None:
            return
        self.rows.append(
            {
                "source": self._source,
                "event": len(self.rows),
                "conditions": list(event.conditions),
                "classes": event.what,
                "begin": float(event.first * self._time_base),
                "end": float(event.last * self._time_base),
                "best_score": event.best_score,
            }
        )


def write_events(path: Path, rows: list[dict[str, Any]], header: Mapping[str, Any]) -> None:
    """Write the part of the table of events."""
    pq.write_table(pa.Table.from_pylist(rows, with_header(EVENTS, header)), path)


def write_empty(table: str, path: Path, header: Mapping[str, Any]) -> None:
    """Write the part of a table of a file without rows in it."""
    schema = detection_schema() if table == "detections" else EVENTS
    pq.write_table(with_header(schema, header).empty_table(), path)


def write_row(path: Path, row: FileRow, header: Mapping[str, Any]) -> None:
    """Write the part of the table of files, whose metadata says what `read_mark` reads."""
    schema = with_header(FILES, header)
    following = json.dumps([asdict(job.part) for job in row.following if job.part is not None])
    mark = {_KEY: row.key, _KIND: row.exit_kind, _FOLLOWING: following}
    values = {name: getattr(row, name) for name in FILES.names}
    values["finished"] = round(row.finished * 1e6)
    table = pa.Table.from_pylist([values], schema.with_metadata({**schema.metadata, **mark}))
    pq.write_table(table, path)


@dataclass(frozen=True)
class RowMark:
    """What a later run asks about a row of the table of files.

    Attributes
    ----------
    key, exit_kind : str
        As in the row.
    following : tuple of VideoPart
        The other parts of the recording, if the row is that of the first.
    """

    key: str
    exit_kind: str
    following: tuple[VideoPart, ...]

    def is_final(self, key: str) -> bool:
        """Return whether a job with this key need not be done."""
        return self.key == key and self.exit_kind != "infrastructure"


def read_mark(part: pa.NativeFile) -> RowMark | None:
    """Return what a part of the table of files is marked with; None if it is not one."""
    try:
        metadata = pq.read_metadata(part).metadata or {}
        following = tuple(VideoPart(**values) for values in json.loads(metadata[_FOLLOWING]))
        return RowMark(metadata[_KEY].decode(), metadata[_KIND].decode(), following)
    except (pa.ArrowInvalid, KeyError):
        return None
