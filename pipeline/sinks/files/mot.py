"""Write followed objects in the text format of the MOT Challenge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.lines import LineFile
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

# The benchmark's own numbers (Milan et al. 2016, "MOT16", table 2). A cyclist is a person on a
# vehicle. What it does not know is numbered after its last, 13, which is a crowd.
MOT_CLASSES = {
    "pedestrian": 1, "person": 1, "cyclist": 2, "car": 3, "bicycle": 4, "motorbike": 5,
    "motorcycle": 5,
}  # fmt: skip
FIRST_OTHER = 14


class MotSink(Sink):
    """One line per object and frame, in a file as `LineFile` keeps it.

    A line has nine values with commas between, in the order of the benchmark's ground truth since
    MOT16::

        frame, id, left, top, width, height, conf, class, visibility

    ``frame`` is the frame's position in the source, counted from 1; ``id`` is the object's number,
    from 1, the same in all frames; ``left``, ``top``, ``width`` and ``height`` are the box in
    pixels of the source with 2 decimals, where the top left pixel of the picture is (1, 1), as
    everything is counted from 1 there; ``conf`` is the score, 0 to 1, with 4 decimals; ``class``
    is the benchmark's number: 1 pedestrian, 2 cyclist (there: person on vehicle), 3 car; names
    it does not have follow from 14 on, in the order of `class_names`; ``visibility`` is -1: not
    known. A frame without objects has no line.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists; "-" for standard output.
    class_names : sequence of str
        Names in the order of the class indices.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    ValueError
        From `write`, if the result has no ids.
    """

    def __init__(self, path: str | Path, class_names: Sequence[str]) -> None:
        self._lines = LineFile(path)
        self.name = self._lines.name
        others = [name for name in class_names if name not in MOT_CLASSES]
        self._numbers = [
            MOT_CLASSES.get(name) or FIRST_OTHER + others.index(name) for name in class_names
        ]

    def write(self, result: FrameResult) -> None:
        """Add the lines of one frame."""
        if result.ids is None:
            raise ValueError(f"{self.name}: expected detections with ids, got none")
        frame, found = result.frame.frame_id + 1, result.detections
        rows = zip(
            result.ids.tolist(),
            found.boxes.tolist(),
            found.scores.tolist(),
            found.classes.tolist(),
            strict=True,
        )
        lines = [
            f"{frame},{number},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
            f"{score:.4f},{self._numbers[k]},-1\n"
            for number, (x1, y1, x2, y2), score, k in rows
        ]
        self._lines.append("".join(lines))  # creates the file even if nothing is found

    def close(self) -> None:
        """Close the file; standard output stays open."""
        self._lines.close()


def _open(context: SinkContext) -> Sink:
    return MotSink(context.path, context.class_names)


SPEC = SinkSpec(
    option="mot",
    metavar="OUT.txt",
    help="followed objects, as MOT Challenge has them; - for stdout",
    open=_open,
    stdout=True,
    turns_on=("track.enabled",),
)
