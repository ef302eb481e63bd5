"""Match boxes with objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.boxes import iou


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return the IoU (n, m) of each of `a` (n, 4) with each of `b` (m, 4), all of them enlarged.

    Boxes grow on each side by the share `margin` of their width and height, so that small and fast
    objects still overlap when their boxes of two frames do not (Yang et al. 2023, "Hard to
    Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering the
    Matching Space").
    """
    return iou(_enlarged(a, margin), _enlarged(b, margin))


def _enlarged(boxes: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    out = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.asarray(boxes + np.concatenate([-out, out], axis=1))


def pair(table: NDArray[np.float64], least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows with columns, the largest value of the table first.

    The best sum (the Hungarian method) found no better pairs on road video, and would bring SciPy.

    Parameters
    ----------
    table : float64 array (n, m)
        How well each row matches each column; not negative.
    least : float
        The lowest value of a pair; positive.

    Returns
    -------
    rows, columns : intp arrays (k,)
        The pairs. Each row and each column is in one at most.
    """
    rows, columns = np.nonzero(table >= least)
    order = np.argsort(-table[rows, columns], kind="stable")
    free_rows, free_columns = [True] * table.shape[0], [True] * table.shape[1]
    chosen = []
    places = zip(order.tolist(), rows[order].tolist(), columns[order].tolist(), strict=True)
    for k, row, column in places:
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            chosen.append(k)
    return rows[chosen], columns[chosen]
