"""Parts of recordings for tests: frames with known numbers, their detections, and disks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import Source, SourceInfo, SourceOptions
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import number_of, picture, read_all

NAMES = ("car", "cyclist", "pedestrian")
TIME_BASE = Fraction(1, 25)


class Pictures(Source):
    """A source that only describes itself to a sink; the tests make the frames."""

    def __init__(self, time_base: Fraction = TIME_BASE, live: bool = False) -> None:
        kind = "camera" if live else "demo"
        self.info = SourceInfo("made", kind, 160, 120, Fraction(25), None, time_base)  # type: ignore[arg-type]
        super().__init__()

    def read(self) -> Frame | None:
        return None

    def close(self) -> None:
        pass


def found(*classes: str, score: float = 0.5) -> Detections:
    """Return one detection of each class given."""
    n = len(classes)
    return Detections(
        np.tile(np.float32([1, 2, 30, 40]), (n, 1)),
        np.full(n, score, np.float32),
        np.array([NAMES.index(name) for name in classes], np.int32),
    )


def results(
    pts: Iterable[int],
    detections: Detections | None = None,
    time_base: Fraction = TIME_BASE,
    noise: bool = False,
) -> list[FrameResult]:
    """Make a result for each pts; its frame number is its pts, and the picture shows it."""
    made = []
    rng = np.random.default_rng(0)
    for stamp in pts:
        image = picture(stamp)
        if noise:  # makes files larger
            image[90:] = rng.integers(0, 256, image[90:].shape, np.uint8)
        frame = Frame(0, stamp, stamp, time_base, 0.0, image)
        made.append(FrameResult(frame, detections or Detections.empty()))
    return made


def renumbered(result: FrameResult, number: int) -> FrameResult:
    """Return a result whose picture shows this number in place of its pts."""
    return replace(result, frame=replace(result.frame, picture=picture(number)))


def numbers(path: Path) -> list[int]:
    """Return the frame numbers that the pictures in a file show."""
    return [number_of(f.image) for f in read_all(VideoSource(str(path), SourceOptions()))]


def used(folder: Path) -> int:
    """Return the total size of all files in a folder, in bytes."""
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another thread has just deleted it
            total += path.stat().st_size
    return total


class Disk:
    """A disk between the sinks and a folder, which may be full or hang.

    Attributes
    ----------
    room : int or None
        Bytes that the files in the folder may take; None: no limit.
    goes_on : Event
        While it is not set, writing to MP4 files hangs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.room: int | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._folder = folder
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.parent == self._folder:
            if path.suffix == ".mp4":
                assert self.goes_on.wait(60)
            if self.room is not None and used(self._folder) + len(data) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data)
