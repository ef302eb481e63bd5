"""Pictures in a folder, matched by a pattern, or a single one."""

from __future__ import annotations

import glob
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from pipeline.errors import SourceError
from pipeline.frame import Frame, Image
from pipeline.sources import IMAGE_SUFFIXES
from pipeline.sources.base import SourceInfo, SourceOptions, SourceReport

DEFAULT_FPS = Fraction(25)


class ImageSource:
    """Images as frames of a video, in the order a person would number them (2 before 10).

    Grey, transparent and 16-bit images come as 8-bit BGR, turned upright by their EXIF tag. An
    image that cannot be read is left out, counted as "corrupt" and named in a warning; the
    following ones keep their `frame_id` and `pts`.

    Parameters
    ----------
    spec : str
        A folder, not searched below its first level; a pattern with `*`, `?` or `[]`; or one file.
    options : SourceOptions
        `fps` sets how long an image is shown.

    Raises
    ------
    SourceError
        If there are no images.
    """

    def __init__(self, spec: str, options: SourceOptions) -> None:
        self._files = _find(spec)
        self._options = options
        fps = options.fps or DEFAULT_FPS
        self._next = round(options.start * fps)
        if self._next >= len(self._files):
            raise SourceError(
                f"{spec}: expected a start before {float(len(self._files) / fps):g} s,"
                f" the end of its {len(self._files)} images, got {options.start:g} s"
            )
        self.report = SourceReport()
        frames, origin = len(self._files) - self._next, self._next
        self._first = self._load_next()
        height, width = (0, 0) if self._first is None else self._first[1].shape[:2]
        self.info = SourceInfo(spec, "images", width, height, fps, frames, 1 / fps, origin)

    def read(self) -> Frame | None:
        """Return the next image that can be read, or None at the end."""
        loaded, self._first = self._first or self._load_next(), None
        if loaded is None:
            return None
        index, image = loaded
        return Frame(
            self._options.source_id, index, index, self.info.time_base, time.monotonic(), image
        )

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def stem(self, frame_id: int) -> str:
        """Return the name of a frame's file without its suffix."""
        return self._files[frame_id].stem

    def _load_next(self) -> tuple[int, Image] | None:
        while self._next < len(self._files):
            index, self._next = self._next, self._next + 1
            image = _load(self._files[index])
            if image is not None:
                return index, image
            self.report.skipped["corrupt"] += 1
            self.report.warn(f"{self._files[index]}: cannot be read as an image, left out")
        return None


def _find(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_file():
        return [path]
    names = path.iterdir() if path.is_dir() else map(Path, glob.glob(spec, recursive=True))
    files = [p for p in names if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not files:
        where = "folder holds no images" if path.is_dir() else "pattern matches no images"
        raise SourceError(f"{spec}: {where}, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    # Digits sort as numbers; the text itself decides between 1 and 01.
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _load(path: Path) -> Image | None:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    # An empty buffer is an error to OpenCV, not an unreadable image.
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    return cast("Image | None", image)
