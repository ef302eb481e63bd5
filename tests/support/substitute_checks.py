"""More checks of the CUDA path on the substitute for a GPU, besides its own checks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from squeezedrive.engines.backends.cuda.context import open_gpu
from squeezedrive.engines.backends.cuda.picture_memory import PictureMemory
from tests.kernels.test_cuda_draw import drawn, noise, some_overlay


def add_checks(checks: Any) -> None:
    """Add the checks to the substitute's module `checks`."""
    checks.check("nvdec")(pictures_are_drawn_over_as_numpy_does)


def pictures_are_drawn_over_as_numpy_does() -> str:
    """Draw over pictures of two sizes with the real driver packages and the kernel's real PTX."""
    checks: Any = import_module("checks")
    gpu, steps = open_gpu(), 0
    checks.fake.reset()
    memory = PictureMemory(gpu)
    for width, height, pitch in ((64, 36, 64), (66, 34, 128)):
        planes, overlay = noise(width, height, 5), some_overlay(width, height, 5)
        luma, cb, cr = planes
        nv12 = np.zeros((2, height, pitch), np.uint8)
        nv12[0, :, :width] = luma
        nv12[1, : height // 2, 0:width:2], nv12[1, : height // 2, 1:width:2] = cb, cr
        taken = memory.take((height, pitch), (height // 2, pitch))
        with gpu.current():
            for target, rows in zip(taken.allocations, (height, height // 2), strict=True):
                part = np.ascontiguousarray(nv12[int(rows < height), :rows])
                gpu.driver.memcpy_htod(int(target), part)
        found = memory.draw(taken, width, overlay)
        expected = np.concatenate([plane.reshape(-1) for plane in drawn(planes, overlay)])
        apart = int(np.abs(found.astype(int) - expected).max())
        checks.expect(apart <= 1, f"{width}x{height}: up to {apart} apart")
        memory.give_back(taken)
        steps += len(overlay.steps)
    memory.close()
    checks.no_faults()
    left = {kind: getattr(checks.fake.state(), kind) for kind in ("pinned", "device")}
    checks.expect(left["pinned"] == 0, f"left: {left}")
    return f"{steps} steps over 2 pictures, as NumPy draws them"
