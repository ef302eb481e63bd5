"""Pictures in a folder, matched by a pattern, or a single one."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from pathlib import Path

from squeezedrive.engines.datasets.images import decode_image
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.source import DEFAULT_FPS, Source, SourceInfo, SourceOptions
from squeezedrive.pipeline.sources.pictures import find_pictures, pictures_stem


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
        self._files = find_pictures(spec)
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
            inputs=tuple(self._files), stem=pictures_stem(Path(spec), self._files),
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


def _load(path: Path) -> Image | None:
    try:
        return decode_image(path.read_bytes())
    except OSError:
        return None
