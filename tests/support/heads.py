"""Network heads and outputs for tests of decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Grid, Head, HeadLayout, anchor_grid

KITTI_SHAPES = (
    *((36, 37), (366, 174), (115, 59)),
    *((162, 87), (38, 90), (258, 173)),
    *((224, 108), (78, 170), (72, 43)),
)


def padded_grid(width: int, height: int) -> Grid:
    """Return the grid of a network whose padding keeps the size: a cell for each 16 pixels."""
    return Grid(width, height, -(-width // 16), -(-height // 16), stride=16, first=8)


def kitti_head(layout: HeadLayout = "per_anchor", exp_threshold: float = 1.0) -> Head:
    """Return the head of the published network: 1248x384, nine anchors, three classes."""
    grid = padded_grid(1248, 384)
    anchors = anchor_grid(grid, KITTI_SHAPES, "half_stride")
    return Head(3, anchors, 9, layout, exp_threshold, grid)


def small_head(
    width: int = 64,
    height: int = 32,
    classes: int = 3,
    shapes: tuple[tuple[int, int], ...] = ((20, 10), (8, 16)),
    layout: HeadLayout = "per_anchor",
    exp_threshold: float = 1.0,
    reach: float = 0.0,
) -> Head:
    """Return a small head, by default with 4x2 cells and 16 anchors."""
    grid = padded_grid(width, height)
    anchors = anchor_grid(grid, shapes, "half_stride")
    return Head(classes, anchors, len(shapes), layout, exp_threshold, grid, reach)


def pack(head: Head, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network output that holds `values` (A, classes + 5), one row per anchor."""
    channels, rows, columns = head.output_shape
    output = np.empty((channels, rows, columns), np.float32)
    cells = values.reshape(rows, columns, head.anchors_per_cell, -1)
    for anchor in range(head.anchors_per_cell):
        for value in range(values.shape[1]):
            output[head.channels[anchor, value]] = cells[:, :, anchor, value]
    return output


def silent(head: Head) -> NDArray[np.float32]:
    """Return `values` for `pack` in which no anchor has an object: scores of 0, deltas of 0."""
    values = np.zeros((len(head.anchors), head.classes + 5), np.float32)
    values[:, head.classes] = -1000
    return values


def palette(classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return class and confidence logits of some anchors, and their clearly different scores.

    The logits are exact in half precision.
    """
    rng = np.random.default_rng(classes)
    logits = rng.normal(scale=2.5, size=(400, classes + 1)).astype(np.float16).astype(np.float32)
    scores = []
    for row in logits.astype(np.float64):
        softmax = np.exp(row[:-1]) / np.exp(row[:-1]).sum()
        scores.append(softmax.max() / (1 + np.exp(-row[-1])))
    order = np.argsort(scores)
    apart = [order[0]]
    for i in order[1:]:
        if scores[i] - scores[apart[-1]] > 1e-3:
            apart.append(i)
    return logits[apart], np.array(scores, np.float32)[apart]


PALETTES = {classes: palette(classes) for classes in range(1, 5)}


def assert_same(actual: Detections, expected: Detections, score_error: float = 1e-6) -> None:
    """Assert that both have the same detections in the same order, except for rounding."""
    assert actual.classes.tolist() == expected.classes.tolist()
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=score_error, atol=1e-37)
    np.testing.assert_allclose(actual.boxes, expected.boxes, atol=0.01)
    arrays = (actual.boxes, actual.scores, actual.classes)
    assert [a.dtype for a in arrays] == [np.float32, np.float32, np.int32]
