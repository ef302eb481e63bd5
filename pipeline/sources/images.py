"""Pictures in a folder, matched by a pattern, or a single one."""

from __future__ import annotations

import glob
import math
import os
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from squeezedrive.engines.files import readable, without_hidden
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.source import DEFAULT_FPS, Source, SourceInfo, SourceOptions
from squeezedrive.pipeline.sources.names import IMAGE_SUFFIXES


class ImageSource(Source):
    """Images as frames of a video, in the order a person would number them (2 before 10).

    Grey, transparent and 16-bit images come as 8-bit BGR, turned upright by their EXIF tag. An
    image that cannot be read is left out, counted as "corrupt" and named in a warning; the
    following ones keep their `frame_id` and `pts`.

    Parameters
    ----------
    spec : str
        A folder, not searched below its first level nor for hidden files; a pattern with `*`, `?`
        or `[]`; or one file.
    options : SourceOptions
        `fps` sets how long an image is shown.

    Raises
    ------
    SourceError
        If there are no images.
    """

    def __init__(self, spec: str, options: SourceOptions) -> None:
        super().__init__()
        self._files = _find(spec)
        self._options = options
        stems = {file.stem for file in self._files}
        self._stems_differ = len(stems) == len(self._files)
        fps = options.fps or DEFAULT_FPS
        self._next = math.ceil(Fraction(str(options.start)) * fps)
        if self._next >= len(self._files):
            raise SourceError(
                f"{spec}: expected a start before {float(len(self._files) / fps):g} s,"
                f" the end of its {len(self._files)} images, got {options.start:g} s"
            )
        frames, origin = len(self._files) - self._next, self._next
        self._first = self._load_next()
        height, width = (0, 0) if self._first is None else self._first[1].shape[:2]
        self._size = (width, height)
        self.info = SourceInfo(
            readable(spec), "images", width, height, fps, frames, 1 / fps, origin,
            inputs=tuple(self._files), stem=_output_stem(Path(spec), self._files),
        )  # fmt: skip

    def read(self) -> Frame | None:
        """Return the next image that can be read, or None at the end."""
        loaded, self._first = self._first or self._load_next(), None
        if loaded is None:
            return None
        index, image = loaded
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            (w, h), (width, height) = self._size, size
            self.report.warn(f"images differ in size: {w}x{h}, {width}x{height} and maybe more")
            self._size = size
        return Frame(
            self._options.source_id, index, index, self.info.time_base, time.monotonic(), image
        )

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def stem(self, frame_id: int) -> str:
        """Return the name of a frame's file without its suffix, or its number if names recur."""
        return self._files[frame_id].stem if self._stems_differ else f"{frame_id:06d}"

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
    if path.exists() and not path.is_dir():
        raise SourceError(f"{spec}: expected a video, an image or a folder, got a special file")
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(spec, recursive=True))
    names = without_hidden(found) if path.is_dir() else found
    files = [p for p in names if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not files:
        where = "folder holds no images" if path.is_dir() else "pattern matches no images"
        if "[" in spec and not path.is_dir():
            where += " ([ begins a set of characters; a bracket in a name is written [[])"
        raise SourceError(f"{spec}: {where}, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(files, key=_natural)


def _output_stem(spec: Path, files: list[Path]) -> Path:
    """Return where outputs lie: beside a single image, or beside the folder that holds all."""
    if spec.is_file():
        return spec.with_suffix("")
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    try:  # as short as the user wrote it
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder


def _natural(path: Path) -> list[tuple[int, str]]:
    # Digits sort as numbers; the text itself decides between 1 and 01.
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _load(path: Path) -> Image | None:
    try:
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # OpenCV's: the file is empty, or the picture beyond its limits
        return None
    return cast("Image | None", image)
