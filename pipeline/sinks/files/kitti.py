"""Write detections as KITTI result files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from squeezedrive.engines.files import replacing, without_hidden
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec


def has_results(folder: str | Path) -> bool:
    """Return whether a folder exists and holds result files (``*.txt``) already."""
    return bool(without_hidden(Path(folder).glob("*.txt")))


class KittiSink(Sink):
    """One result file per frame, in the format of the KITTI object benchmark.

    Each detection is a line of 16 columns: type (``Car``), truncation, occlusion, alpha, the box
    x1 y1 x2 y2 in pixels of the source, height, width, length, x, y, z, rotation and score. What a
    detector in the image plane does not know has the value the benchmark's development kit names
    for it: -1, -10 for angles, -1000 for places. A frame without detections gets an empty file,
    which the kit expects.

    Parameters
    ----------
    folder : str or Path
        Where the files go. It is made at the first frame if its parent exists; files of the same
        name are replaced.
    class_names : sequence of str
        Names in the order of the class indices; written with a capital and without spaces.
    stem : callable
        File name, without ``.txt``, for a frame number; six digits, ``000042``, if not given.

    Raises
    ------
    SinkError
        From `write`, if the folder or a file cannot be written. A file is there whole or not at
        all.
    """

    def __init__(
        self,
        folder: str | Path,
        class_names: Sequence[str],
        stem: Callable[[int], str] = "{:06d}".format,
    ) -> None:
        self.name = str(folder)
        self._folder = Path(folder)
        self._types = ["_".join((name[:1].upper() + name[1:]).split()) for name in class_names]
        self._stem = stem
        self._made = False

    def write(self, result: FrameResult) -> None:
        """Write the file of one frame."""
        if not self._made:
            self._make_folder()
            self._made = True
        found = result.detections
        lines = [
            f"{self._types[k]} -1 -1 -10 {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f}"
            f" -1 -1 -1 -1000 -1000 -1000 -10 {score:.4f}\n"
            for k, (x1, y1, x2, y2), score in zip(
                found.classes.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True
            )
        ]
        path = self._folder / f"{self._stem(result.frame.frame_id)}.txt"
        try:
            with replacing(path) as unfinished:
                unfinished.write_text("".join(lines), encoding="utf-8")
        except OSError as err:
            raise SinkError(f"{path}: cannot write: {err.strerror}") from err

    def close(self) -> None:
        """Do nothing: every file is finished when it is written."""

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
        except FileExistsError as err:
            raise SinkError(f"{self.name}: is a file, expected a folder for KITTI results") from err
        except FileNotFoundError as err:
            parent = self._folder.parent
            raise SinkError(f"{self.name}: the folder {parent} does not exist") from err
        except OSError as err:
            raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err


def _open(context: SinkContext) -> Sink:
    return KittiSink(context.path, context.class_names, context.source.stem)


SPEC = SinkSpec(
    option="kitti",
    kind="folder",
    metavar="DIR",
    help="detections, a KITTI result file a frame",
    open=_open,
    exists=has_results,
)
