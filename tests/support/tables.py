"""Results of a few frames, and the rows of their tables."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult, Sink

ROAD = ["car", "cyclist", "pedestrian"]
TWO = Detections(
    np.array([[10.123, 20.456, 110.789, 220.0], [1, 2, 3, 4]], np.float32),
    np.array([0.87, 0.31239], np.float32),
    np.array([0, 2], np.int32),
)


def result(
    frame_id: int = 0, found: Detections = TWO, ids: list[int] | None = None, detected: bool = True
) -> FrameResult:
    """Return a frame of 64x48 pixels of a video of 29.97 frames a second."""
    frame = Frame(
        0, frame_id, 1001 * frame_id, Fraction(1, 30000), 0.0, np.zeros((48, 64, 3), np.uint8)
    )
    return FrameResult(frame, found, None if ids is None else np.array(ids, np.int32), detected)


def nothing(frame_id: int, followed: bool = False) -> FrameResult:
    return result(frame_id, Detections.empty(), [] if followed else None)


def written(sink: Sink, *results: FrameResult) -> Path:
    """Write results, close the sink, and return the path of its file."""
    for one in results:
        sink.write(one)
    sink.close()
    return Path(sink.name)


def jsonl_rows(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of a table with the content of JSON lines, the first of which is a header."""
    source = lines[0]["source"]["name"]
    return [
        (
            source,
            x["frame"],
            x["pts"],
            d["class"],
            d["score"],
            *d["box"],
            d.get("id"),
            *((x.get("gps") or {}).get(key) for key in ("lat", "lon")),
        )
        for x in lines[1:]
        for d in x["detections"]
    ]
