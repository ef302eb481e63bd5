"""The CUDA kernel's resize at full size: its tables and its formula, run by NumPy.

In the simulator, a picture of the network's size would take minutes; test_cuda_preprocess.py runs
the kernel itself on small pictures.
"""

from __future__ import annotations

import numpy as np
import pytest

from squeezedrive.kernels.cuda import preprocess
from squeezedrive.kernels.fit import FitMode, make_fit

WIDTH, HEIGHT = 1248, 384


@pytest.mark.parametrize("kind", ["band", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [(1920, 1080), (1392, 512), (960, 540), (3840, 2160), (1248, 384)])
def test_every_pixel_matches_the_resize_on_the_cpu(kind: FitMode, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    fit = make_fit(kind, size, (WIDTH, HEIGHT), 0.6)
    expected = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    fit.preprocess(image, (1, 2, 3), expected)

    (x0, y0, x1, y1), (tx0, ty0, tx1, ty1) = fit.crop, fit.target
    columns = preprocess._taps((x0, x1), (tx0, tx1), WIDTH, hold_edge=True)
    rows = preprocess._taps((y0, y1), (ty0, ty1), HEIGHT, hold_edge=False)
    for taps, first, last in ((columns, tx0, tx1), (rows, ty0, ty1)):
        assert (taps[:first, 0] == -1).all()
        assert (taps[last:, 0] == -1).all()
    (left, right, *across), (upper, lower, *down) = columns[tx0:tx1].T, rows[ty0:ty1].T
    pixels = image.astype(np.int32)
    actual = preprocess._mix.py_func(
        *(pixels[y[:, None], x] for y in (upper, lower) for x in (left, right)),
        *(weight[:, None] for weight in across),
        *(weight[:, None, None] for weight in down),
    )
    difference = np.abs(actual - expected[ty0:ty1, tx0:tx1].astype(np.int32))
    assert difference.max() <= 1
    # OpenCV's vectorised resize gives identical bits; its other builds round differently.
    assert (difference == 0).mean() > 0.8
