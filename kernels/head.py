"""The meaning of the network's output: the numbers that its last layer, ConvDet, computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

HeadLayout = Literal["per_anchor", "by_kind"]
Centres = Literal["half_stride", "even"]


@dataclass(frozen=True)
class Grid:
    """The cells of the network's output, and where they lie on its input.

    Attributes
    ----------
    width, height : int
        Size of the network's input in pixels.
    columns, rows : int
        Cells of the output.
    stride : int
        Pixels from one cell to the next.
    first : float
        Centre of the first column and of the first row, in pixels.

    Raises
    ------
    ValueError
        If a size is smaller than 1.
    """

    width: int
    height: int
    columns: int
    rows: int
    stride: int
    first: float

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.columns, self.rows) < 1:
            raise ValueError(
                f"expected an input and a grid of at least 1x1, got {self.width}x{self.height}"
                f" and {self.columns}x{self.rows}"
            )


def anchor_grid(grid: Grid, shapes: ArrayLike, centres: Centres) -> NDArray[np.float32]:
    """Return the anchors of the whole grid.

    Parameters
    ----------
    grid : Grid
        The cells.
    shapes : array-like (K, 2)
        Width and height of the K anchors of every cell, in pixels.
    centres : str
        Where the centre of cell i of n lies on an axis of L pixels: "half_stride" at
        `grid.first` + 16 i, the middle of the pixels that the cell stands for; "even" at L (i + 1)
        / (n + 1), as in the authors' code. The weights determine the choice.

    Returns
    -------
    float32 array (A, 4)
        cx, cy, w, h in input pixels, row-major in (y, x, anchor).

    Raises
    ------
    ValueError
        If an argument is not as described.
    """
    sizes = np.asarray(shapes, np.float32)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or len(sizes) == 0:
        raise ValueError(f"expected anchor shapes (K, 2) of width and height, got {sizes.shape}")
    columns, rows = np.arange(grid.columns), np.arange(grid.rows)
    if centres == "half_stride":
        x = grid.first + columns * grid.stride
        y = grid.first + rows * grid.stride
    elif centres == "even":
        x = (columns + 1) * grid.width / (grid.columns + 1)
        y = (rows + 1) * grid.height / (grid.rows + 1)
    else:
        raise ValueError(f'expected anchor centres "half_stride" or "even", got {centres!r}')
    anchors = np.empty((grid.rows, grid.columns, len(sizes), 4), np.float32)
    anchors[..., 0] = x[None, :, None]
    anchors[..., 1] = y[:, None, None]
    anchors[..., 2:] = sizes
    return anchors.reshape(-1, 4)


@dataclass(frozen=True, eq=False)
class Head:
    """Everything that is needed to read boxes out of the network's output.

    The output has shape (channels, rows, columns). Each of its cells holds, for each of the
    cell's K anchors, V = classes + 5 values: the class logits, the confidence logit and the
    deltas dx, dy, dw, dh, always in this order. The layout decides which channel holds which value.

    Attributes
    ----------
    classes : int
        Number of classes.
    anchors : float32 array (A, 4), C-contiguous
        cx, cy, w, h in input pixels, row-major in (y, x, anchor); see `anchor_grid`.
    anchors_per_cell : int
        K.
    layout : str
        "per_anchor": value v of anchor a is channel V a + v. "by_kind": first all class logits,
        then all confidences, then all deltas, as in the authors' code.
    exp_threshold : float
        Value of dw, dh from which the exponential continues as a straight line; inf for plain e^x.
    grid : Grid
        The cells that the anchors belong to.
    reach : float
        Pixels by which boxes may go beyond the input, on each side. 0, as published: they end at
        its edges. More, for weights that were trained so: an object that is cut off by the edge of
        a band gets a box around the whole of it, as far as the picture goes.

    Raises
    ------
    ValueError
        If the attributes contradict each other.
    """

    classes: int
    anchors: NDArray[np.float32]
    anchors_per_cell: int
    layout: HeadLayout
    exp_threshold: float
    grid: Grid
    reach: float = 0.0

    def __post_init__(self) -> None:
        if self.classes < 1 or self.anchors_per_cell < 1:
            raise ValueError(
                "expected at least one class and one anchor per cell, got "
                f"{self.classes} and {self.anchors_per_cell}"
            )
        if self.layout not in ("per_anchor", "by_kind"):
            raise ValueError(f'expected layout "per_anchor" or "by_kind", got {self.layout!r}')
        if not self.exp_threshold > -np.inf:
            raise ValueError(
                f"expected a number or inf as exponential threshold, got {self.exp_threshold}"
            )
        if not 0 <= self.reach < np.inf:
            raise ValueError(f"expected a reach of 0 pixels or more, got {self.reach}")
        shape = (self.grid.columns * self.grid.rows * self.anchors_per_cell, 4)
        if self.anchors.shape != shape or self.anchors.dtype != np.float32:
            raise ValueError(
                f"expected float32 anchors of shape {shape} for a grid of {self.grid.columns}x"
                f"{self.grid.rows} with {self.anchors_per_cell} anchors per cell, got "
                f"{self.anchors.dtype} {self.anchors.shape}"
            )
        if not self.anchors.flags.c_contiguous:
            raise ValueError("expected C-contiguous anchors, got a strided view")

    @cached_property
    def channels(self) -> NDArray[np.int64]:
        """The layout as a table (K, V): the output channel of value v of anchor a.

        Cell (y, x) of channel c is number c x rows x columns + y x columns + x of the flattened
        output. In both layouts, the logits of an anchor lie in consecutive channels, and so do its
        deltas.
        """
        anchors, classes = self.anchors_per_cell, self.classes
        anchor = np.arange(anchors)[:, None]
        value = np.arange(classes + 5)[None, :]
        if self.layout == "per_anchor":
            return (classes + 5) * anchor + value
        kinds = [
            classes * anchor + value[:, :classes],
            classes * anchors + anchor,
            (classes + 1) * anchors + 4 * anchor + np.arange(4)[None, :],
        ]
        return np.concatenate(kinds, axis=1)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the output."""
        return self.anchors_per_cell * (self.classes + 5), self.grid.rows, self.grid.columns

    def check(self, output: NDArray[np.floating]) -> None:
        """Raise ValueError unless `output` has the shape that this head reads."""
        if output.shape != self.output_shape:
            raise ValueError(
                f"expected a network output of shape {self.output_shape} (channels, rows, "
                f"columns), got {output.shape}"
            )
