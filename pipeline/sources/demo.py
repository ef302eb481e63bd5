"""The clip that comes with the program: `demo:`, and `demo:loop`, which repeats it from memory."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.planes import YuvPicture
from squeezedrive.pipeline.core.source import Source, SourceInfo, SourceOptions
from squeezedrive.pipeline.sources.decoder import AnyFrame
from squeezedrive.pipeline.sources.video import VideoSource

CLIP = Path(__file__).with_name("demo.mp4")
STEM = Path("demo")  # outputs lie in the current folder, not beside the clip
LOOPED = 150  # first frames of the clip that are repeated: 207 MB in memory


def open_demo(spec: str, options: SourceOptions) -> Source:
    """Open the clip as a file, or as a loop.

    Parameters
    ----------
    spec : str
        "demo:", "demo:loop" or "demo:loop,frames=N".
    options : SourceOptions
        How to open it.

    Raises
    ------
    SourceError
        If the name is another one, or the clip ends before `options.start`.
    """
    match = re.fullmatch(r"demo:(loop(?:,frames=([1-9][0-9]{0,11}))?)?", spec)
    if match is None:
        raise SourceError(
            f"{spec}: expected demo:, demo:loop or demo:loop,frames=N, N a whole number from 1 on"
        )
    if match[1] is None:
        return DemoClip(str(CLIP), options)
    return DemoLoop(options, None if match[2] is None else int(match[2]))


class DemoClip(VideoSource):
    """The clip as the file it is, under a name of its own."""

    def _describe(self, location: str, first: AnyFrame | None) -> SourceInfo:
        return replace(super()._describe(location, first), name="demo", stem=STEM)


class DemoLoop(Source):
    """The beginning of the clip again and again, from memory: a source that costs next to nothing.

    Opening it decodes the pictures. Timestamps go on at the clip's rate, there is no sound.

    Parameters
    ----------
    options : SourceOptions
        `start` skips the frames before it; those passed on keep their numbers.
    frames : int or None
        Number of the frame before which it ends; None: it does not.

    Raises
    ------
    SourceError
        If it ends before `start`.
    """

    def __init__(self, options: SourceOptions, frames: int | None) -> None:
        super().__init__()
        clip = VideoSource(str(CLIP), SourceOptions())
        try:
            fps = clip.info.fps
            assert fps is not None
            first = math.ceil(Fraction(str(options.start)) * fps)
            if frames is not None and first >= frames:
                raise SourceError(
                    f"demo:loop of {frames} frames is {float(frames / fps):g} s long, expected a"
                    f" start before its end, got {options.start:g} s"
                )
            self._pictures: list[YuvPicture] = []
            while len(self._pictures) < LOOPED and (frame := clip.read()) is not None:
                assert isinstance(frame.picture, YuvPicture)  # that is how our own clip is
                self._pictures.append(frame.picture)
        finally:
            clip.close()
        self._source_id = options.source_id
        self._next, self._end = first, frames
        self.info = SourceInfo(
            name="demo:loop",
            kind="demo",
            width=clip.info.width,
            height=clip.info.height,
            fps=fps,
            frames=None if frames is None else frames - first,
            time_base=1 / fps,
            origin=first,
            stem=STEM,
        )

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        index = self._next
        if not self._pictures or (self._end is not None and index >= self._end):
            return None
        self._next += 1
        picture = self._pictures[index % len(self._pictures)].copy()
        return Frame(self._source_id, index, index, self.info.time_base, time.monotonic(), picture)

    def close(self) -> None:
        """End the source and let its memory go."""
        self._pictures = []
