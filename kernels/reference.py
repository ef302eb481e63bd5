"""The specification of detection, in NumPy: short, obvious, slow. Compiled forms agree with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.boxes import iou
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams


def detect(output: NDArray[np.floating], head: Head, params: DetectParams) -> Detections:
    """Return the objects in one image.

    Parameters
    ----------
    output : float array (channels, rows, columns)
        The network's output for one image; half precision is decoded in float32.
    head : Head
        How to read the output.
    params : DetectParams
        Which boxes to keep.

    Returns
    -------
    Detections
        In pixels of the network's input, best first; equal scores in the order of the anchors.

    Raises
    ------
    ValueError
        If the output does not have the head's shape, or a class to keep does not exist.
    """
    boxes, scores, classes = decode(output, head)
    # Thresholds come before top N and NMS, so that a box below its class's threshold takes no place
    # and suppresses nothing. With one threshold for all classes, the order would not matter.
    wanted = scores >= params.thresholds(head.classes)[classes]
    keep = np.flatnonzero(wanted)
    keep = keep[top_n(scores[keep], params.top_n)]
    keep = keep[nms(boxes[keep], scores[keep], classes[keep], params.nms_iou, params.greedy)]
    return Detections(boxes[keep], scores[keep], classes[keep])


def decode(
    output: NDArray[np.floating], head: Head
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Return box, score and class of every anchor; for the formulas see `kernels.formulas`.

    Returns
    -------
    boxes : float32 array (A, 4)
        Corners x1, y1, x2, y2 in pixels of the network's input, clipped to
        0..width - 1 and 0..height - 1, each side farther by the head's reach.
    scores : float32 array (A,)
        Probability of the best class times confidence.
    classes : int32 array (A,)
        The class with the largest logit, the first of equals.
    """
    head.check(output)
    values = output.astype(np.float32)[head.channels]  # (anchor, value, y, x)
    values = values.transpose(2, 3, 0, 1).reshape(len(head.anchors), -1)
    logits, confidence, deltas = np.split(values, [head.classes, head.classes + 1], axis=1)

    softmax_sum = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    z = np.exp(-np.abs(confidence[:, 0]))
    scores = np.where(confidence[:, 0] >= 0, 1, z) / (1 + z) / softmax_sum

    threshold = np.float32(head.exp_threshold)
    with np.errstate(over="ignore", invalid="ignore"):  # clipped or not chosen by np.where
        line = np.exp(threshold) * (deltas[:, 2:] - threshold + 1)
        grow = np.where(deltas[:, 2:] <= threshold, np.exp(deltas[:, 2:]), line)
        half = head.anchors[:, 2:] * grow / 2
    centre = head.anchors[:, :2] + deltas[:, :2] * head.anchors[:, 2:]
    corners = np.concatenate([centre - half, centre + half], axis=1)
    last_pixel = np.array([head.grid.width - 1, head.grid.height - 1] * 2, np.float32)
    boxes = np.clip(corners, np.float32(-head.reach), last_pixel + np.float32(head.reach))
    return boxes, scores.astype(np.float32), logits.argmax(axis=1).astype(np.int32)


def top_n(scores: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Return the indices of the `n` best scores, best first; of equal scores, the lower index."""
    return np.argsort(-scores, kind="stable")[:n]


def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int32],
    iou_threshold: float,
    greedy: bool = True,
) -> NDArray[np.intp]:
    """Return the indices of the boxes that non-maximum suppression keeps, best first.

    Parameters
    ----------
    boxes : float32 array (n, 4)
    scores : float32 array (n,)
    classes : int32 array (n,)
        A box suppresses boxes of its own class only.
    iou_threshold, greedy
        See `DetectParams`.
    """
    order = top_n(scores, len(scores))
    suppressed = np.zeros(len(scores), np.bool_)
    for rank, i in enumerate(order):
        if greedy and suppressed[i]:
            continue
        lower = order[rank + 1 :]
        overlaps = iou(boxes[i : i + 1], boxes[lower])[0] > np.float32(iou_threshold)
        suppressed[lower[overlaps & (classes[lower] == classes[i])]] = True
    return order[~suppressed[order]]
