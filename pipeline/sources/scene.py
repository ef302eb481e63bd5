"""The source that renders a street itself: no files, any size, rate and length, exact truth."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from pathlib import Path

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import SourceInfo, SourceOptions, SourceReport
from tests.street.spec import parse_scene
from tests.street.street import Street


class SceneSource:
    """A rendered street as a source of frames; pts are frame indexes, one per 1/fps seconds.

    Parameters
    ----------
    spec : str
        A scene as `pipeline.scene.spec.parse_scene` reads it.
    options : SourceOptions
        `start` skips the frames before it; those passed on keep their numbers.

    Raises
    ------
    SourceError
        If the scene is not understood, or ends before `start`.
    """

    def __init__(self, spec: str, options: SourceOptions) -> None:
        scene = parse_scene(spec)
        first = math.ceil(Fraction(str(options.start)) * scene.fps)
        if first >= scene.frames:
            length = float(scene.frames / scene.fps)
            raise SourceError(
                f"{spec} is {length:g} s long, expected a start before its end, "
                f"got {options.start:g} s"
            )
        self._street = Street(scene)
        self._source_id = options.source_id
        self._next, self._end = first, scene.frames
        self.report = SourceReport()
        self.info = SourceInfo(
            name=spec,
            kind="scene",
            width=scene.width,
            height=scene.height,
            fps=scene.fps,
            frames=scene.frames - first,
            time_base=1 / scene.fps,
            origin=first,
            stem=Path("scene"),
        )

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        index = self._next
        if index >= self._end:
            return None
        self._next += 1
        image = self._street.render(index)
        return Frame(self._source_id, index, index, self.info.time_base, time.monotonic(), image)

    def close(self) -> None:
        """End the source; there is nothing to release."""
        self._next = self._end
