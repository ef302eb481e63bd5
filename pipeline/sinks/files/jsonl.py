"""Write detections as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.pipeline.core.sink import STDOUT, FrameResult, Sink
from squeezedrive.pipeline.sinks.disk import MakeRoom
from squeezedrive.pipeline.sinks.files.lines import LineFile
from squeezedrive.pipeline.sinks.recordings.archive import Archive
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sinks.recordings.series import Series
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config


def frame_record(result: FrameResult, class_names: Sequence[str]) -> dict[str, Any]:
    """Return what is written of one frame, a mapping that `json` can write.

    It has exactly these keys: ``frame`` (int), ``pts`` (presentation time in seconds, not rounded),
    ``width``, ``height`` (pixels) and ``detections``, best score first, each with ``class`` (name),
    ``score`` (4 decimals) and ``box`` ([x1, y1, x2, y2] in pixels of the source, 2 decimals). If
    objects are tracked, a detection also has ``id`` (int, the same for one object in all frames),
    and a frame ``detected``: false where the network has not seen it and boxes are interpolated
    between two frames that it has. If the source has a track of positions, a frame has ``gps``, see
    `GpsFix.record`, or null where there was no fix.

    Parameters
    ----------
    result : FrameResult
        What was found in the frame.
    class_names : sequence of str
        Names in the order of the class indices.
    """
    frame, found = result.frame, result.detections
    height, width = frame.picture.shape[:2]
    # In float64, where rounded numbers print as short as they are.
    boxes = found.boxes.astype("float64").round(2).tolist()
    scores = found.scores.astype("float64").round(4).tolist()
    names = [class_names[k] for k in found.classes.tolist()]
    detections: list[dict[str, Any]] = [
        {"class": name, "score": score, "box": box}
        for name, score, box in zip(names, scores, boxes, strict=True)
    ]
    record: dict[str, Any] = {
        "frame": frame.frame_id,
        "pts": frame.seconds,
        "width": width,
        "height": height,
    }
    if frame.has_gps:
        record["gps"] = None if frame.gps is None else frame.gps.record()
    if result.ids is not None:
        ids = result.ids.tolist()
        detections = [{"id": i, **d} for i, d in zip(ids, detections, strict=True)]
        record["detected"] = result.detected
    return {**record, "detections": detections}


class JsonlSink(Sink):
    """One line of JSON per frame, after a header line, in a file as `LineFile` keeps it.

    The header is the mapping that `header` returns, with ``"type": "header"`` before it. Lines of
    frames have no type; `frame_record` says what is in them.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists; "-" for standard output.
    header : callable
        Returns what the file is about, a mapping of anything `json` can write; asked when the
        first frame is there, for what is known of a camera only then.
    class_names : sequence of str
        Names in the order of the class indices.
    make_room : callable, optional
        Asked for room when the disk is full, see `making_room`.

    Attributes
    ----------
    frames : int
        Lines of frames in the file.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    """

    def __init__(
        self,
        path: str | Path,
        header: Callable[[], Mapping[str, Any]],
        class_names: Sequence[str],
        make_room: MakeRoom | None = None,
    ) -> None:
        self._lines = LineFile(path, make_room)
        self.name = self._lines.name
        self._header = header
        self._class_names = list(class_names)
        self.frames = 0

    def write(self, result: FrameResult) -> None:
        """Add the line of one frame."""
        if not self._lines.is_open:
            self._lines.append(_line({"type": "header", **self._header()}))
        self._lines.append(_line(frame_record(result, self._class_names)))
        self.frames += 1

    @property
    def safe(self) -> int:
        """How many of the frames are in the file for certain: every one."""
        return self.frames

    def close(self) -> None:
        """Close the file; standard output stays open."""
        self._lines.close()


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
    """

    def __init__(
        self,
        archive: Archive,
        segments: Segments,
        header: Callable[[], Mapping[str, Any]],
        class_names: Sequence[str],
    ) -> None:
        def open_file(path: Path, _: FrameResult) -> JsonlSink:
            return JsonlSink(path, header, class_names, archive.room)

        self.name = archive.jsonl_pattern
        self._segments = segments
        self._series: Series[FrameResult] = Series(
            self.name, archive, open_file, archive.jsonl, archive.segment_numbers,
            lambda result: segments.clock.see(result.frame),
        )  # fmt: skip

    @property
    def lost(self) -> int:
        """Frames whose line could not be written."""
        return self._series.lost

    @property
    def warnings(self) -> list[str]:
        """One line for what is missing."""
        return self._series.warnings

    def write(self, result: FrameResult) -> None:
        """Add the line of one frame."""
        self._series.write(result, self._segments.at(result.frame))

    def close(self) -> None:
        """Close the file."""
        self._series.close()


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def _in_series(config: Config) -> bool:
    return config.record.segment is not None


def _open(context: SinkContext) -> Sink:
    split = context.split
    if split is None or split.segments is None or context.path == STDOUT:
        return JsonlSink(context.path, context.header, context.class_names)
    return SegmentedJsonlSink(split.archive, split.segments, context.header, context.class_names)


SPEC = SinkSpec(
    option="jsonl",
    metavar="OUT.jsonl",
    help="detections, a line a frame; - for stdout",
    open=_open,
    stdout=True,
    in_series=_in_series,
)
