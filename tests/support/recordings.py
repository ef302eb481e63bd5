"""Parts of recordings for tests: frames with known numbers, what was found in them, disks."""

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
    """A source that tells a sink about itself; the test makes the frames."""

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
    """Make a result for each pts; the picture spells the number of the frame, which is its pts."""
    made = []
    rng = np.random.default_rng(0)
    for stamp in pts:
        image = picture(stamp)
        if noise:  # so that files grow
            image[90:] = rng.integers(0, 256, image[90:].shape, np.uint8)
        frame = Frame(0, stamp, stamp, time_base, 0.0, image)
        made.append(FrameResult(frame, detections or Detections.empty()))
    return made


def renumbered(result: FrameResult, number: int) -> FrameResult:
    """Let the picture of a result spell another number than its pts."""
    return replace(result, frame=replace(result.frame, picture=picture(number)))


def numbers(path: Path) -> list[int]:
    """Read the numbers of the frames in a file."""
    return [number_of(f.image) for f in read_all(VideoSource(str(path), SourceOptions()))]


def used(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another thread has just deleted it
            total += path.stat().st_size
    return total


class Disk:
    """Stands between the sinks and a folder: it may be small, or hang.

    Attributes
    ----------
    room : int or None
        Bytes that the files in the folder may take; None: any.
    goes_on : Event
        While it is not set, what is written to MP4 files hangs.
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
