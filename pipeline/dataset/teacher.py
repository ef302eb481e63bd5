"""A large detector of COCO classes that labels footage: YOLOX in ncnn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.errors import DatasetError
from squeezedrive.pipeline.core.frame import Image

Boxes = NDArray[np.float32]

SIDE = 640  # pixels of the teacher's square input
STRIDES = (8, 16, 32)
TILES = (375, 800)  # sides of the square tiles; small ones find small objects, large ones large
STEP = 0.7  # from one tile to the next, as a share of the side
MARGIN = 4  # pixels: a box that ends so near an inner edge of a tile is cut off there
LOWEST = 0.1  # scores below are noise
SAME = 0.55  # IoU from which on two boxes of one class are the same object
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255  # RGB, of ImageNet
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255


@dataclass(frozen=True)
class Found:
    """What the teacher sees in a picture.

    Attributes
    ----------
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels, best first.
    scores : float32 array (n,)
    classes : int array (n,)
        COCO's 80 classes in their usual order: 0 person, 1 bicycle, 2 car, ...
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.intp]


class Teacher:
    """YOLOX (Ge et al., arXiv 2107.08430) that looks at a picture tile by tile.

    Parameters
    ----------
    param : Path
        ncnn's description of a network without the focus layer; its weights lie beside it, of the
        same name without `-nofocus` and with `.bin`. Input blob "683", output blob "output".
    threads : int
        Threads to compute with.

    Raises
    ------
    DatasetError
        If ncnn or a file is missing.
    """

    def __init__(self, param: Path, threads: int = 1) -> None:
        try:
            import ncnn
        except ImportError:
            raise DatasetError("a teacher needs ncnn: pip install -e '.[teacher]'") from None
        weights = param.with_name(param.name.replace("-nofocus", "")).with_suffix(".bin")
        for path in (param, weights):
            if not path.is_file():
                raise DatasetError(f"{path}: no such file, expected the teacher's network")
        self._ncnn: Any = ncnn
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
            raise DatasetError(f"{param}: ncnn cannot read the teacher's network")
        self._cells, self._strides = _grid()

    def detect(self, image: Image) -> Found:
        """Find everything in a BGR picture."""
        height, width = image.shape[:2]
        boxes, scores, classes = [], [], []
        for side in TILES:
            for x in _starts(width, side):
                for y in _starts(height, side):
                    tile = image[y : y + side, x : x + side]
                    found = self._detect_tile(tile, SIDE / side)
                    whole = _not_cut(found.boxes, (x, y), tile, (width, height))
                    boxes.append(found.boxes[whole] + np.array([x, y, x, y], np.float32))
                    scores.append(found.scores[whole])
                    classes.append(found.classes[whole])
        return _distinct(
            Found(np.concatenate(boxes), np.concatenate(scores), np.concatenate(classes))
        )

    def _detect_tile(self, tile: Image, scale: float) -> Found:
        height, width = (round(n * scale) for n in tile.shape[:2])
        canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
        canvas[:height, :width] = cv2.resize(tile, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = (canvas[..., ::-1].astype(np.float32) - MEAN) / STD
        # The focus layer: every second pixel, in the order of the network's training.
        slices = [pixels[y::2, x::2] for x in (0, 1) for y in (0, 1)]
        blob = np.ascontiguousarray(np.concatenate(slices, axis=2).transpose(2, 0, 1))
        extractor = self._net.create_extractor()
        extractor.input("683", self._ncnn.Mat(blob))
        _, output = extractor.extract("output")
        raw = np.array(output)
        each = raw[:, 5:] * raw[:, 4:5]
        classes = each.argmax(axis=1)
        scores = each[np.arange(len(each)), classes]
        kept = scores > LOWEST
        centre = (raw[kept, :2] + self._cells[kept]) * self._strides[kept]
        half = np.exp(raw[kept, 2:4]) * self._strides[kept] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1) / scale
        size = np.array(tile.shape[1::-1] * 2, np.float32)
        return _distinct(Found(np.clip(boxes, 0, size), scores[kept], classes[kept]))


def _grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cell (x, y) and stride of each output row."""
    cells, strides = [], []
    for stride in STRIDES:
        count = SIDE // stride
        y, x = np.mgrid[:count, :count]
        cells.append(np.stack([x, y], axis=2).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin so that they cover a length evenly."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * STEP))) + 1
    return [int(n) for n in np.linspace(0, length - side, count).round()]


def _not_cut(
    boxes: Boxes, corner: tuple[int, int], tile: Image, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return which boxes do not end at an edge of the tile inside the picture."""
    whole = np.ones(len(boxes), np.bool_)
    for axis in (0, 1):
        end = tile.shape[1 - axis]
        if corner[axis] > 0:
            whole &= boxes[:, axis] > MARGIN
        if corner[axis] + end < size[axis]:
            whole &= boxes[:, axis + 2] < end - MARGIN
    return whole


def _distinct(found: Found) -> Found:
    """Keep the best of several boxes of one class on one object."""
    order = np.argsort(-found.scores, kind="stable")
    kept: list[int] = []
    for index in order.tolist():
        same = [k for k in kept if found.classes[k] == found.classes[index]]
        if not same or overlap(found.boxes[index], found.boxes[same]).max() < SAME:
            kept.append(index)
    return Found(found.boxes[kept], found.scores[kept], found.classes[kept])


def overlap(box: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Return intersection over union of a box (4,) with others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    ratio: NDArray[np.float32] = shared / np.maximum(areas - shared, 1e-6)
    return ratio
