"""Read results that were written as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from squeezedrive.engines.files import readable
from squeezedrive.engines.json_text import load_json
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.gps import GpsFix
from squeezedrive.pipeline.core.moments import parse_moment
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import Source, SourceInfo

MAX_SIDE = 65535  # pixels of a picture
MAX_FRAME = 2**31 - 1


class ResultFile(Source):
    """A file of JSON lines: its frames, with black pictures, and their detections.

    Damaged lines are left out and reported in `report`. Without a header, the file's name stands
    for its source, and the classes are those of its detections.

    Parameters
    ----------
    path : Path
        What `JsonlSink` has written.

    Attributes
    ----------
    header : dict
        The file's header, which describes its run, see `JsonlSink`.
    class_names : list of str
        Names in the order of the class indices.
    followed : bool
        Whether detections have ids.
    results : iterator of FrameResult
        The frames in the file's order, once.

    Raises
    ------
    SourceError
        If the file cannot be read or has no frame.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists() and not path.is_file() and not path.is_dir():
            raise SourceError(f"{path}: expected a regular file, which can be read twice")
        try:
            self.header = self._find_header()
            try:
                self.class_names = [str(name) for name in self.header["model"]["classes"]]
                name, kind = str(self.header["source"]["name"]), self.header["source"]["kind"]
            except (LookupError, TypeError):
                self.class_names, name, kind = self._find_classes(), readable(path), "file"
            self.info = SourceInfo(name, kind, 0, 0, None, None, Fraction(1), inputs=(path,))
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
        results = self._read()
        first = next(results, None)
        if first is None:
            raise SourceError(f"{path}: expected frames as --jsonl writes them, got none")
        self.followed = first.ids is not None
        self.results = chain([first], results)

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        result = next(self.results, None)
        return None if result is None else result.frame

    def close(self) -> None:
        """Do nothing: the file is closed when it was read."""

    def _find_header(self) -> dict[str, Any]:
        with self._path.open("rb") as file:
            record = _parse(file.readline())
        return record if record is not None and record.pop("type", None) == "header" else {}

    def _find_classes(self) -> list[str]:
        names: dict[str, None] = {}
        with self._path.open("rb") as file:
            for line in file:
                found = (_parse(line) or {}).get("detections")
                for one in found if isinstance(found, list) else []:
                    if isinstance(one, dict) and isinstance(one.get("class"), str):
                        names[one["class"]] = None
        return list(names)

    def _read(self) -> Iterator[FrameResult]:
        indices = {name: k for k, name in enumerate(self.class_names)}
        first, damaged, last = 0, 0, "its beginning"  # of the lines that are not frames
        where = ""
        followed: bool | None = None  # whether the first frame has ids: all or none have them
        with self._path.open("rb") as file:
            for number, line in enumerate(self._lines_of(file), 1):
                record = _parse(line)
                if record is not None and record.get("type") == "header":
                    continue
                result = None if record is None else _result(record, indices)
                if result is not None and followed in (None, result.ids is not None):
                    followed = result.ids is not None
                    last = f"frame {result.frame.frame_id}"
                    yield result
                    continue
                damaged += 1
                if damaged == 1:
                    first, where = number, last
        if damaged:
            ended = where == last  # no frame came after it
            self.report.warn(
                f"{self._path}: ends in line {first}, which is cut off, after {where}"
                if ended
                else f"{self._path}: damaged lines were left out: {damaged}, the first is line"
                f" {first}, after {where}; the file ends after {last}"
            )

    def _lines_of(self, file: BinaryIO) -> Iterator[bytes]:
        try:
            yield from file
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be read on: {error.strerror}") from None


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line; None if it is damaged."""
    try:
        record = load_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _fix(record: dict[str, Any] | None) -> GpsFix | None:
    """Return the position in a record of `GpsFix.record`."""
    if record is None:
        return None
    utc = None if record["utc"] is None else parse_moment(record["utc"])
    known = {key: record[key] for key in ("alt", "speed", "course")}
    known = {key: None if value is None else _real(value) for key, value in known.items()}
    return GpsFix(
        _real(record["lat"]),
        _real(record["lon"]),
        known["alt"],
        known["speed"],
        known["course"],
        None if utc is None else float(utc),
    )


def _result(record: dict[str, Any], indices: dict[str, int]) -> FrameResult | None:
    """Return the frame of a record, see `frame_record`; None if something is missing or wrong."""
    try:
        detections = record["detections"]
        n = len(detections)
        with np.errstate(over="ignore"):  # too large a number becomes infinite: damage
            boxes = np.array([d["box"] for d in detections], np.float32).reshape(n, 4)
            scores = np.array([d["score"] for d in detections], np.float32)
        classes = np.array([indices[d["class"]] for d in detections], np.int32)
        ids = np.array([d["id"] for d in detections], np.int32) if "detected" in record else None
        seconds = Fraction(_real(record["pts"]))  # exactly what the line has
        shape = _whole(record["height"], MAX_SIDE), _whole(record["width"], MAX_SIDE), 3
        # One pixel stands for all: nothing looks at the picture.
        picture = np.broadcast_to(np.zeros(3, np.uint8), shape)
        frame = Frame(
            0, _whole(record["frame"], MAX_FRAME), seconds.numerator,
            Fraction(1, seconds.denominator), 0.0, picture,
            has_gps="gps" in record, gps=_fix(record.get("gps")),
        )  # fmt: skip
        found = Detections(boxes, scores, classes)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        return None
    finite = np.isfinite(boxes).all() and np.isfinite(scores).all()
    each_one = all(one.shape == (n,) for one in (scores, *([] if ids is None else [ids])))
    whole = finite and each_one
    return FrameResult(frame, found, ids, bool(record.get("detected", True))) if whole else None


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError
    return value


def _real(value: Any) -> float:
    """Return a number as a double; an integer may be too large for one."""
    if type(value) not in (int, float):
        raise ValueError
    return float(value)
