"""The objects found in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.errors import PackageMissing
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.files.jsonl import frame_record

if TYPE_CHECKING:
    import supervision


class Result:
    """A picture and the n objects in it, best score first.

    A result owns its picture and arrays: it stays valid as long as you keep it.

    Attributes
    ----------
    source : int
        Which of the sources the picture is from, counted from 0.
    frame : int
        Number of the frame in its source, counted from 0.
    pts : float
        Presentation time in seconds on the source's own clock.
    image : uint8 array (height, width, 3)
        BGR, upright; drawn on if the run draws.
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels of the picture; x to the right, y down.
    scores : float32 array (n,)
        0 to 1.
    classes : int32 array (n,)
        Index of each object's class among the network's classes.
    class_names : list of str
        Name of each object's class, n of them.
    ids : int32 array (n,) or None
        Number of each object, the same in all frames; None if nothing is tracked.
    detected : bool
        Whether the network has seen this frame. If not, boxes are interpolated between detected
        frames.
    """

    __slots__ = ("_names", "_result")

    def __init__(self, result: FrameResult, names: Sequence[str]) -> None:
        self._result = result
        self._names = names

    @property
    def source(self) -> int:
        """Which of the sources the picture is from, counted from 0."""
        return self._result.frame.source_id

    @property
    def frame(self) -> int:
        """Number of the frame in its source, counted from 0."""
        return self._result.frame.frame_id

    @property
    def pts(self) -> float:
        """Presentation time in seconds on the source's own clock."""
        return self._result.frame.seconds

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, uint8 (height, width, 3), BGR, upright; drawn on if the run draws."""
        return self._result.frame.image

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Corners x1, y1, x2, y2 in pixels of the picture, float32 (n, 4)."""
        return self._result.detections.boxes

    @property
    def scores(self) -> NDArray[np.float32]:
        """Score of each object, 0 to 1, float32 (n,)."""
        return self._result.detections.scores

    @property
    def classes(self) -> NDArray[np.int32]:
        """Index of each object's class among the network's classes, int32 (n,)."""
        return self._result.detections.classes

    @property
    def class_names(self) -> list[str]:
        """Name of each object's class."""
        return [self._names[index] for index in self.classes.tolist()]

    @property
    def ids(self) -> NDArray[np.int32] | None:
        """Number of each object, the same in all frames; None if nothing is tracked."""
        return self._result.ids

    @property
    def detected(self) -> bool:
        """Whether the network has seen this frame."""
        return self._result.detected

    def __len__(self) -> int:
        return len(self._result.detections)

    def __repr__(self) -> str:
        counts = Counter(self.class_names)
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
        return f"<Result frame {self.frame}, {self.pts:.3f} s: {found}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the frame as `--jsonl` writes it, a dict that `json.dumps` takes."""
        return frame_record(self._result, self._names)

    def to_supervision(self) -> supervision.Detections:
        """Return the objects as `supervision.Detections`, with names under "class_name".

        Raises
        ------
        PackageMissing
            If the package supervision is not installed.
        """
        try:
            library = import_module("supervision")
        except ImportError as error:
            raise PackageMissing(
                f"the package supervision cannot be imported ({error}): pip install supervision"
            ) from None
        found: supervision.Detections = library.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.classes.astype(np.int64),
            tracker_id=None if self.ids is None else self.ids.astype(np.int64),
            data={"class_name": np.array(self.class_names, dtype=str)},
        )
        return found
