"""Network heads and outputs for tests of decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.head import Grid, Head, Layout, anchor_grid

KITTI_SHAPES = (
    *((36, 37), (366, 174), (115, 59)),
    *((162, 87), (38, 90), (258, 173)),
    *((224, 108), (78, 170), (72, 43)),
)


def padded_grid(width: int, height: int) -> Grid:
    """Return the grid of a network whose padding keeps the size: a cell for each 16 pixels."""
    return Grid(width, height, -(-width // 16), -(-height // 16), stride=16, first=8)


def kitti_head(layout: Layout = "per_anchor", exp_threshold: float = 1.0) -> Head:
    """Return the head of the published network: 1248x384, nine anchors, three classes."""
    grid = padded_grid(1248, 384)
    anchors = anchor_grid(grid, KITTI_SHAPES, "half_stride")
    return Head(3, anchors, 9, layout, exp_threshold, grid)


def small_head(
    width: int = 64,
    height: int = 32,
    classes: int = 3,
    shapes: tuple[tuple[int, int], ...] = ((20, 10), (8, 16)),
    layout: Layout = "per_anchor",
    exp_threshold: float = 1.0,
) -> Head:
    """Return a head small enough to think about: by default 4x2 cells, 16 anchors."""
    grid = padded_grid(width, height)
    anchors = anchor_grid(grid, shapes, "half_stride")
    return Head(classes, anchors, len(shapes), layout, exp_threshold, grid)


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
    """Return `values` for `pack` in which no anchor sees anything: scores of 0, deltas of 0."""
    values = np.zeros((len(head.anchors), head.classes + 5), np.float32)
    values[:, head.classes] = -1000
    return values
