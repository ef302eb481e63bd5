"""Label footage with a large detector: an OpenVINO model of vehicles, persons, two-wheelers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.errors import DatasetError
from squeezedrive.pipeline.core.frame import Image

VEHICLE, PERSON, TWO_WHEELER = 0, 1, 2
TILE = (675, 375)  # width and height; objects that are small in the picture are large in a tile
STEP = 0.7  # from one tile to the next, as a share of the side
MARGIN = 4  # pixels: a box that ends so near an inner edge of a tile is cut off there
LOWEST = 0.1  # scores below are noise
SAME = 0.55  # IoU from which two boxes of one class are the same object


@dataclass(frozen=True)
class TeacherBoxes:
    """The objects that the teacher sees in a picture.

    Attributes
    ----------
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels, best first.
    scores : float32 array (n,)
    classes : int array (n,)
        `VEHICLE` (trucks and buses among them), `PERSON` or `TWO_WHEELER`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.intp]


class Teacher:
    """A detector such as person-vehicle-bike-detection-2003 of the Open Model Zoo.

    It sees the whole picture, resized to the model's input, for large objects, and tiles of it for
    small ones. Boxes that a tile cuts off are left to its neighbours and to the whole picture.

    Parameters
    ----------
    path : Path
        OpenVINO's XML file, the weights beside it. Input: (1, 3, height, width), BGR, 0 to 255.
        Outputs: "boxes" (n, 5), corners in pixels of the input and score; "labels" (n,), as
        `TeacherBoxes.classes`.
    tiles : bool
        Whether to use tiles as well; a picture no larger than a tile has none.

    Raises
    ------
    DatasetError
        If a file is missing, or is not such a model.
    """

    def __init__(self, path: Path, tiles: bool = True) -> None:
        for file in (path, path.with_suffix(".bin")):
            if not file.is_file():
                raise DatasetError(f"{file}: no such file, expected the teacher's OpenVINO model")
        try:
            model = core().read_model(path)
            inputs = [str(one.partial_shape) for one in model.inputs]
            outputs = {name for one in model.outputs for name in one.names}
            self._height, self._width = _input_size(path, inputs, outputs)
            self._network = compile_model(model, {"PERFORMANCE_HINT": "LATENCY"})
        except RuntimeError as error:  # OpenVINO's errors have many lines
            reason = str(error).strip().splitlines()[-1].strip()
            raise DatasetError(f"{path}: OpenVINO cannot read it: {reason}") from None
        self._tiles = tiles

    def detect(self, image: Image) -> TeacherBoxes:
        """Find all vehicles, persons and two-wheelers in a BGR picture."""
        height, width = image.shape[:2]
        parts = [self._look(image, (0, 0), image)]
        if self._tiles and (width > TILE[0] or height > TILE[1]):
            for y in _starts(height, TILE[1]):
                for x in _starts(width, TILE[0]):
                    tile = image[y : y + TILE[1], x : x + TILE[0]]
                    parts.append(self._look(tile, (x, y), image))
        rows, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept = _best_of_each(rows, classes)
        return TeacherBoxes(rows[kept, :4], rows[kept, 4], classes[kept])

    def _look(
        self, part: Image, corner: tuple[int, int], image: Image
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return boxes with scores (n, 5) and classes of a part, in pixels of the picture."""
        height, width = part.shape[:2]
        squeezed = cv2.resize(part, (self._width, self._height), interpolation=cv2.INTER_LINEAR)
        blob = squeezed.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
        found = self._network(blob)
        rows, classes = found["boxes"], found["labels"]
        good = rows[:, 4] > LOWEST
        rows, classes = rows[good].astype(np.float32), classes[good].astype(np.intp)
        rows[:, :4] *= np.tile((width / self._width, height / self._height), 2)
        rows[:, :4] = np.clip(rows[:, :4], 0, (width, height) * 2)
        whole = _not_cut(rows, corner, (width, height), image.shape[1::-1])
        rows[:, :4] += corner * 2
        return rows[whole], classes[whole]


def _input_size(path: Path, inputs: list[str], outputs: set[str]) -> tuple[int, int]:
    """Return height and width from the shapes of a model's inputs; `outputs` are names."""
    match = re.fullmatch(r"\[1,3,(\d+),(\d+)\]", " ".join(inputs))
    if match is None:
        raise DatasetError(
            f"{path}: expected one input of shape [1,3,height,width], got {' '.join(inputs)}"
        )
    if not {"boxes", "labels"} <= outputs:
        came = ", ".join(sorted(outputs)) or "none with a name"
        raise DatasetError(f"{path}: expected the outputs boxes and labels, got {came}")
    return int(match[1]), int(match[2])


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin so that they cover a length evenly."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * STEP))) + 1
    return [int(n) for n in np.linspace(0, length - side, count).round()]


def _not_cut(
    boxes: NDArray[np.float32],
    corner: tuple[int, int],
    part: tuple[int, int],
    picture: tuple[int, ...],
) -> NDArray[np.bool_]:
    """Return which boxes do not end at an edge of the part that is inside the picture."""
    whole = np.ones(len(boxes), np.bool_)
    for axis in (0, 1):
        if corner[axis] > 0:
            whole &= boxes[:, axis] > MARGIN
        if corner[axis] + part[axis] < picture[axis]:
            whole &= boxes[:, axis + 2] < part[axis] - MARGIN
    return whole


def _best_of_each(rows: NDArray[np.float32], classes: NDArray[np.intp]) -> list[int]:
    """Return the best of several boxes of one class on one object, best first."""
    if not len(rows):
        return []
    corners, sizes = rows[:, :2], rows[:, 2:4] - rows[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(
        np.hstack((corners, sizes)).tolist(), rows[:, 4].tolist(), classes.tolist(), LOWEST, SAME
    )
    return sorted(map(int, kept), key=lambda index: -float(rows[index, 4]))
