"""Drawing on the GPU, compared with the same drawing in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from squeezedrive.kernels.cuda import draw
from squeezedrive.kernels.cuda.draw import DrawKernel
from squeezedrive.kernels.overlay import Overlay
from tests.support.gpu import SIMULATED, needs_target, simulate_lightly

pytestmark = [pytest.mark.gpu, needs_target]
Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def _quick_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    if SIMULATED:
        simulate_lightly(monkeypatch, draw, draw.draw_nv12)


def toward(values: NDArray[Any], colour: int, share: Any) -> NDArray[np.uint8]:
    values = values.astype(np.float32)
    return np.floor(values + (colour - values) * np.float32(share) + 0.5).astype(np.uint8)


def drawn(planes: Planes, overlay: Overlay) -> Planes:
    """Return the planes that the kernel should draw; of four pixels, the upper left sets colour."""
    luma, cb, cr = (plane.copy() for plane in planes)
    for *area, opacity, text, y, u, v, ink_y, ink_u, ink_v in overlay.steps.tolist():
        x1, y1, x2, y2 = area
        covered = np.zeros((y2 - y1, x2 - x1), np.uint8)
        if text >= 0:
            covered = overlay.coverage[text : text + covered.size].reshape(covered.shape)
        rows, columns = np.mgrid[y1:y2, x1:x2]
        inside = (rows >= 0) & (columns >= 0)
        inside &= (rows < luma.shape[0]) & (columns < luma.shape[1])
        upper_left = inside & (rows % 2 == 0) & (columns % 2 == 0)
        for plane, below, ink, mask, part in (
            (luma, y, ink_y, inside, 1),
            (cb, u, ink_u, upper_left, 2),
            (cr, v, ink_v, upper_left, 2),
        ):
            at = rows[mask] // part, columns[mask] // part
            plane[at] = toward(plane[at], below, opacity / 65536)
            plane[at] = toward(plane[at], ink, covered[mask] / np.float32(255))
    return luma, cb, cr


def run(planes: Planes, overlay: Overlay, pitch: int = 0) -> Planes:
    luma, cb, cr = planes
    height, width = luma.shape
    pitch = pitch or width
    nv12 = np.full((2, height, pitch), 99, np.uint8)
    nv12[0, :, :width] = luma
    nv12[1, : height // 2, 0:width:2], nv12[1, : height // 2, 1:width:2] = cb, cr
    steps, coverage = overlay.steps, overlay.coverage
    drawing = (
        *(len(steps), cuda.to_device(np.vstack([steps, np.zeros((1, 12), np.int32)]))),
        cuda.to_device(np.append(coverage, np.uint8(0))),
    )
    source = cuda.to_device(nv12[:1]), cuda.to_device(nv12[1:, : height // 2].copy())
    target = cuda.to_device(np.zeros(height * width * 3 // 2, np.uint8))
    DrawKernel().enqueue(source, width, drawing, target, 0)
    packed: Any = target.copy_to_host()
    ends = height * width, height * width * 5 // 4
    y, u, v = np.split(packed, ends)
    half = height // 2, width // 2
    return y.reshape(height, width), u.reshape(half), v.reshape(half)


def noise(width: int, height: int, seed: int) -> Planes:
    rng = np.random.default_rng(seed)
    sizes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    luma, cb, cr = (rng.integers(0, 256, size, np.uint8) for size in sizes)
    return luma, cb, cr


def some_overlay(width: int, height: int, seed: int) -> Overlay:
    rng = np.random.default_rng(seed)
    overlay = Overlay()
    for number in range(12):
        x1, y1 = int(rng.integers(-9, width)), int(rng.integers(-9, height))
        x2, y2 = x1 + int(rng.integers(1, 30)), y1 + int(rng.integers(1, 20))
        one, two = rng.integers(0, 256, (2, 3)).tolist()
        if number % 3:
            overlay.fill((x1, y1, x2, y2), tuple(one))
        else:
            text = rng.integers(0, 256, (y2 - y1, x2 - x1), np.uint8)
            text[text < 128] = 0
            overlay.write((x1, y1, x2, y2), tuple(one), float(rng.random()), tuple(two), text)
    return overlay


@pytest.mark.parametrize(("width", "height", "pitch"), [(64, 36, 0), (66, 34, 128), (2, 2, 0)])
def test_it_draws_what_numpy_draws(width: int, height: int, pitch: int) -> None:
    for seed in range(3):
        planes, overlay = noise(width, height, seed), some_overlay(width, height, seed)
        found, expected = run(planes, overlay, pitch), drawn(planes, overlay)
        for ours, theirs, before in zip(found, expected, planes, strict=True):
            # Results may differ by 1: a product in single precision may be just below a half.
            apart = np.abs(ours.astype(int) - theirs)
            assert apart.max() <= 1
            assert (apart > 0).mean() < 0.01
            assert width == 2 or (theirs != before).any()


def test_without_steps_the_planes_come_apart() -> None:
    planes = noise(34, 18, 1)
    for ours, theirs in zip(run(planes, Overlay(), 40), planes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_later_steps_lie_on_top_and_opaque_ones_hide_all() -> None:
    overlay = Overlay()
    overlay.fill((0, 0, 8, 8), (10, 20, 30))
    overlay.fill((3, 3, 8, 8), (200, 100, 50))
    luma, cb, cr = run(noise(8, 8, 2), overlay)
    assert (luma[3:, 3:] == 200).all()
    assert (luma[:3] == 10).all()
    assert (cb[2:, 2:] == 100).all()  # even pixels set the colour: 4 is the first
    assert (cb[:2] == 20).all()
    assert (cr[2:, 2:] == 50).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="coverage of 2 rows of 3"):
        Overlay().write((0, 0, 3, 2), (0, 0, 0), 1.0, (0, 0, 0), np.zeros((3, 2), np.uint8))
    kernel = DrawKernel()
    steps, coverage = np.zeros((1, 12), np.int32), np.zeros(1, np.uint8)

    def attempt(luma: tuple[int, ...], chroma: tuple[int, ...], width: int, size: int) -> None:
        source = np.zeros(luma, np.uint8), np.zeros(chroma, np.uint8)
        kernel.enqueue(source, width, (0, steps, coverage), np.zeros(size, np.uint8), 0)

    with pytest.raises(ValueError, match="even size"):
        attempt((1, 4, 8), (1, 2, 8), 7, 48)
    with pytest.raises(ValueError, match="even size"):
        attempt((1, 4, 8), (1, 2, 4), 8, 48)
    with pytest.raises(ValueError, match="got 3 and 48"):
        attempt((1, 4, 8), (1, 3, 8), 8, 48)
    with pytest.raises(ValueError, match="got 2 and 47"):
        attempt((1, 4, 8), (1, 2, 8), 8, 47)
