"""Writes detections as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SinkError
from pipeline.sinks.base import Result
from pipeline.sinks.disk import MakeRoom, making_room, write_all


class JsonlSink:
    """One line of JSON per frame, after a header line.

    The header is the mapping that `header` returns, with ``"type": "header"`` before it. Lines of
    frames have no type and exactly these keys: ``frame`` (int), ``pts`` (presentation time in
    seconds, not rounded), ``width``, ``height`` (pixels) and ``detections``, best score first, each
    with
    ``class`` (name), ``score`` (4 decimals) and ``box`` ([x1, y1, x2, y2] in pixels of the source,
    2 decimals).

    Every line reaches the operating system whole and at once, so that another program can follow
    the file and a crash leaves nothing but complete lines. When the disk fills up, the line that
    found no room is taken back.

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
    name : str
        The path, or "standard output".
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
        self._path = None if str(path) == "-" else Path(path)
        self.name = "standard output" if self._path is None else str(path)
        self._header = header
        self._class_names = list(class_names)
        self._make_room = make_room
        self.frames = 0
        self._fd: int | None = None
        self._size = 0  # bytes of whole lines

    def write(self, result: Result) -> None:
        """Add the line of one frame."""
        if self._fd is None:
            self._fd = self._open()
            self._write_line(self._fd, {"type": "header", **self._header()})
        frame, found = result.frame, result.detections
        height, width = frame.picture.shape[:2]
        # In float64, where rounded numbers print as short as they are.
        boxes = np.round(found.boxes.astype(np.float64), 2).tolist()
        scores = np.round(found.scores.astype(np.float64), 4).tolist()
        names = [self._class_names[k] for k in found.classes.tolist()]
        line = {
            "frame": frame.frame_id,
            "pts": frame.seconds,
            "width": width,
            "height": height,
            "detections": [
                {"class": name, "score": score, "box": box}
                for name, score, box in zip(names, scores, boxes, strict=True)
            ],
        }
        self._write_line(self._fd, line)
        self.frames += 1

    @property
    def safe(self) -> int:
        """How many of the frames are in the file for certain: every one."""
        return self.frames

    def close(self) -> None:
        """Close the file; standard output stays open."""
        fd, self._fd = self._fd, None
        if fd is not None and self._path is not None:
            try:
                os.close(fd)
            except OSError as err:
                raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err

    def _open(self) -> int:
        try:
            if self._path is None:
                sys.stdout.flush()
                return sys.stdout.fileno()
            path, flags = self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            return making_room(lambda: os.open(path, flags, 0o666), self._make_room)
        except FileNotFoundError as err:
            folder = self._path.parent if self._path else ""
            raise SinkError(f"{self.name}: the folder {folder} does not exist") from err
        except OSError as err:
            raise SinkError(f"{self.name}: cannot write: {err.strerror or err}") from err

    def _write_line(self, fd: int, line: dict[str, Any]) -> None:
        # No buffer: one system call per frame is cheaper than a flush that comes too late.
        data = json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            write_all(fd, data, self._make_room)
        except OSError as err:
            if self._path is not None:
                with contextlib.suppress(OSError):  # not a regular file: nothing to take back
                    os.ftruncate(fd, self._size)
            raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err
        self._size += len(data)
