"""Decode, top N and non-maximum suppression on the CPU, compiled by Numba.

The results are those of `kernels.reference.detect`, in a fraction of a millisecond. Importing this
module compiles the code, or loads the machine code that an earlier start compiled.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from squeezedrive.kernels import formulas
from squeezedrive.kernels.compile import jit
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams

# These are compiled together with `_detect` below, whose machine code contains theirs.
_inner = numba.njit(error_model="numpy")
_safe_exp = _inner(formulas.safe_exp)
_sigmoid = _inner(formulas.sigmoid)
_best_class = _inner(formulas.best_class)
_box_corners = _inner(formulas.box_corners)
_box_iou = _inner(formulas.box_iou)


def detect(output: NDArray[np.floating], head: Head, params: DetectParams) -> Detections:
    """Return the objects in one image: `kernels.reference.detect`, compiled.

    Several threads may call this function at the same time; it holds no state and releases the GIL.
    """
    head.check(output)
    n = min(params.top_n, len(head.anchors))
    boxes = np.empty((n, 4), np.float32)
    scores = np.empty(n, np.float32)
    classes = np.empty(n, np.int32)
    thresholds = params.thresholds(head.classes)
    found = _detect(
        np.ascontiguousarray(output, np.float32).reshape(-1),
        head.anchors,
        head.channels,
        thresholds,
        head.exp_threshold,
        head.grid.width - 1,
        head.grid.height - 1,
        head.reach,
        formulas.logit_cutoff(float(thresholds.min())),
        params.nms_iou,
        params.greedy,
        boxes,
        scores,
        classes,
    )
    return Detections(boxes[:found], scores[:found], classes[:found])


@_inner
def _select(
    output: NDArray[np.float32],
    channels: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    logit_cutoff: np.float32,
    scores: NDArray[np.float32],
    classes: NDArray[np.int32],
    chosen: NDArray[np.int64],
) -> int:
    """Write score, class and index of the best anchors, best first, and return their number.

    Each anchor is inserted into a sorted list. This takes at most anchors x N steps, no more than
    the suppression after it takes in its worst case.
    """
    per_cell, values = channels.shape
    n_classes = values - 5
    cells = output.size // channels.size
    found = 0
    for cell in range(cells):
        for k in range(per_cell):
            confidence = output[channels[k, n_classes] * cells + cell]
            if confidence < logit_cutoff:
                continue
            start = channels[k, 0] * cells + cell
            best, probability = _best_class(output, start, cells, n_classes)
            score = _sigmoid(confidence) * probability
            # "not >=" also drops NaN, which a broken network outputs.
            if not score >= thresholds[best]:
                continue
            if found < scores.size:
                found += 1
            elif score <= scores[found - 1]:
                continue  # of equal scores the earlier anchor wins
            i = found - 1
            while i > 0 and scores[i - 1] < score:
                scores[i], classes[i], chosen[i] = scores[i - 1], classes[i - 1], chosen[i - 1]
                i -= 1
            scores[i], classes[i], chosen[i] = score, best, cell * per_cell + k
    return found


@_inner
def _suppressed(
    i: int,
    boxes: NDArray[np.float32],
    classes: NDArray[np.int32],
    kept: NDArray[np.bool_],
    nms_iou: np.float32,
    greedy: bool,
) -> bool:
    """Return whether a better box of the same class suppresses box `i`."""
    for j in range(i):
        if classes[j] != classes[i] or (greedy and not kept[j]):
            continue
        iou = _box_iou(
            boxes[j, 0],
            boxes[j, 1],
            boxes[j, 2],
            boxes[j, 3],
            boxes[i, 0],
            boxes[i, 1],
            boxes[i, 2],
            boxes[i, 3],
        )
        if iou > nms_iou:
            return True
    return False


_f4 = types.float32


@jit(
    types.int64(
        types.Array(_f4, 1, "C", readonly=True),
        types.Array(_f4, 2, "C", readonly=True),
        types.Array(types.int64, 2, "C", readonly=True),
        types.Array(_f4, 1, "C", readonly=True),
        *(_f4, _f4, _f4, _f4, _f4, _f4, types.boolean),
        types.Array(_f4, 2, "C"),
        types.Array(_f4, 1, "C"),
        types.Array(types.int32, 1, "C"),
    )
)
def _detect(
    output: NDArray[np.float32],
    anchors: NDArray[np.float32],
    channels: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    exp_threshold: np.float32,
    x_max: np.float32,
    y_max: np.float32,
    reach: np.float32,
    logit_cutoff: np.float32,
    nms_iou: np.float32,
    greedy: bool,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int32],
) -> int:
    """Write the boxes that are kept, best first, and return their number."""
    chosen = np.empty(scores.size, np.int64)
    found = _select(output, channels, thresholds, logit_cutoff, scores, classes, chosen)

    per_cell, values = channels.shape
    cells = output.size // channels.size
    for i in range(found):
        cell, k = divmod(chosen[i], per_cell)
        first = channels[k, values - 4] * cells + cell
        anchor = chosen[i]
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = _box_corners(
            anchors[anchor, 0],
            anchors[anchor, 1],
            anchors[anchor, 2],
            anchors[anchor, 3],
            output[first],
            output[first + cells],
            _safe_exp(output[first + 2 * cells], exp_threshold),
            _safe_exp(output[first + 3 * cells], exp_threshold),
            x_max,
            y_max,
            reach,
        )

    kept = np.empty(found, np.bool_)
    for i in range(found):
        kept[i] = not _suppressed(i, boxes, classes, kept, nms_iou, greedy)

    n = 0
    for i in range(found):
        if kept[i]:
            for corner in range(4):
                boxes[n, corner] = boxes[i, corner]
            scores[n], classes[n] = scores[i], classes[i]
            n += 1
    return n
