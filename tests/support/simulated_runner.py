"""The CUDA runtime with the real kernels, fake GPU memory, and a network on the processor.

tests/engines/test_cuda_kernels.py runs this with NUMBA_ENABLE_CUDASIM=1, so the kernels run in
Numba's simulator. It needs its own process, because Numba reads the variable at import.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cuda.backend import CudaBackend, make_kernels
from squeezedrive.engines.errors import ConfigError
from squeezedrive.kernels.cuda import preprocess, select
from tests.support.cuda_rig import SETTINGS, assert_same, picture, run_all
from tests.support.fake_cuda import FakeExecutor, fake_gpu, on_the_processor
from tests.support.gpu import simulate_lightly


def open_simulated(settings: EngineSettings) -> CudaBackend:
    driver, gpu = fake_gpu()
    driver.eager, gpu.graphs = True, None
    executor = FakeExecutor(driver, settings, max_batch=2)
    kernels = make_kernels(settings, executor)
    return CudaBackend("torch", settings, gpu, executor, kernels, "test")


def main() -> None:
    select.SCORE_BLOCK = select.SELECT_BLOCK = 32  # small: simulated threads are Python threads
    select.CAPACITY = 64
    patch = pytest.MonkeyPatch()
    simulate_lightly(patch, preprocess, preprocess.resize_bgr)
    simulate_lightly(patch, select, select.score_anchors)
    settings = replace(SETTINGS, fit="letterbox", width=64, height=48)
    backend = open_simulated(settings)
    images = [picture(1, 120, 60), picture(2, 70, 90)]
    slot = backend.new_slot(2)
    for batch in (images, images[1:]):
        for found, image in zip(run_all(slot, batch), batch, strict=True):
            expected = on_the_processor(settings, image)
            assert len(expected) > 1
            assert_same(found, expected)
    backend.close()
    with pytest.raises(ConfigError, match=r"detect: .*top N of at most"):
        open_simulated(replace(settings, detect=replace(SETTINGS.detect, top_n=1000)))
    print("the same boxes")


if __name__ == "__main__":
    main()
