"""The formulas of SqueezeDet, each written once, for every processor.

Plain functions of scalars, so that the same source is compiled by `numba.njit` for the CPU and by
`numba.cuda.jit(device=True)` for the GPU. No function calls another: each compiles alone. All
arithmetic is float32, even if the network computes in half precision, because half precision
resolves only whole pixels near x = 1247. Constants are typed because Numba widens float32 with a
Python float to float64. There is no `min` or `max` because Numba compiles these for CUDA only where
a GPU is.

Sources: Wu et al., SqueezeDet, arXiv 1612.01051, section 3.2 and equation 1, and the
implementation of its authors for the exponential and the clipping.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_ONE = np.float32(1)


def sigmoid(x: np.float32) -> np.float32:
    """Return 1 / (1 + e^-x), written so that no exponential overflows.

    It gives the confidence of an anchor: the network's estimate of Pr(object) x IoU (paper, section
    3.2).
    """
    z = np.float32(math.exp(-abs(x)))
    return (_ONE if x >= _ZERO else z) / (_ONE + z)


def logit_cutoff(threshold: float) -> float:
    """Return a confidence logit below which no score reaches `threshold`; computed on the host.

    A score is at most its confidence, because a probability is at most 1. The limit is the logit
    of 0.9999 x threshold, so that rounding the score (a relative error of 1e-6) never decides. The
    cutoff skips most anchors without computing an exponential, which is four times as fast on the
    CPU.
    """
    confidence = 0.9999 * min(threshold, 1.0)
    if confidence < 1e-30:  # near the end of float32 the relative error is larger
        return -math.inf
    return math.log(confidence / (1 - confidence))


def safe_exp(x: np.float32, threshold: np.float32) -> np.float32:
    """Return e^x up to `threshold`, and from there on its tangent e^threshold (x - threshold + 1).

    The authors' code uses it in place of the paper's e^x, with a threshold of 1: otherwise a few
    bad deltas early in training would overflow. An infinite threshold gives plain e^x. The weights
    determine the threshold.
    """
    if x <= threshold:
        return np.float32(math.exp(x))
    return np.float32(math.exp(threshold)) * (x - threshold + _ONE)


def best_class(
    logits: NDArray[np.float32], start: int, stride: int, n: int
) -> tuple[int, np.float32]:
    """Return the most probable class and its probability: the maximum of a softmax.

    Parameters
    ----------
    logits : float32 or float16 array, one-dimensional
        The network's whole output.
    start, stride, n : int
        Where the logits of one anchor lie: `n` values from `start`, `stride` apart.

    Returns
    -------
    best : int
        The first of the classes with the largest logit.
    probability : float32
        Conditional probability Pr(class | object), 1/n to 1. Rounding never makes it larger than 1,
        since the divisor contains e^0 = 1.
    """
    best = 0
    top = np.float32(logits[start])  # half precision becomes float32 as it is read
    for i in range(1, n):
        logit = np.float32(logits[start + i * stride])
        if logit > top:
            best = i
            top = logit
    total = _ZERO
    for i in range(n):
        total += np.float32(math.exp(np.float32(logits[start + i * stride]) - top))
    return best, _ONE / total


def box_corners(
    ax: np.float32,
    ay: np.float32,
    aw: np.float32,
    ah: np.float32,
    dx: np.float32,
    dy: np.float32,
    grow_w: np.float32,
    grow_h: np.float32,
    x_max: np.float32,
    y_max: np.float32,
    reach: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the corners x1, y1, x2, y2 of an anchor that the network has moved and resized.

    Paper, equation 1: cx = ax + aw dx, cy = ay + ah dy, w = aw e^dw, h = ah e^dh.

    Parameters
    ----------
    ax, ay, aw, ah : float32
        Centre and size of the anchor in pixels.
    dx, dy : float32
        Deltas of the centre, in anchor sizes.
    grow_w, grow_h : float32
        Factors of the size: the exponentials of the deltas dw, dh; see `safe_exp`.
    x_max, y_max : float32
        Last pixel of the network's input.
    reach : float32
        Pixels beyond the input: corners are clipped to -reach..x_max + reach and so on.
    """
    low = _ZERO - reach
    right, bottom = x_max + reach, y_max + reach
    cx = ax + dx * aw
    cy = ay + dy * ah
    half_w = _HALF * (aw * grow_w)
    half_h = _HALF * (ah * grow_h)
    x1, x2 = cx - half_w, cx + half_w
    y1, y2 = cy - half_h, cy + half_h
    return (
        low if x1 < low else right if x1 > right else x1,
        low if y1 < low else bottom if y1 > bottom else y1,
        low if x2 < low else right if x2 > right else x2,
        low if y2 < low else bottom if y2 > bottom else y2,
    )


def box_iou(
    ax1: np.float32,
    ay1: np.float32,
    ax2: np.float32,
    ay2: np.float32,
    bx1: np.float32,
    by1: np.float32,
    bx2: np.float32,
    by2: np.float32,
) -> np.float32:
    """Return intersection over union of two boxes given by their corners, 0 to 1.

    A box without area overlaps nothing, not even itself.
    """
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= _ZERO or height <= _ZERO:
        return _ZERO
    shared = width * height
    return shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared)
