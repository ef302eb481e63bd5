"""A fake GPU with the network on it, and functions for tests of the CUDA runtime."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cuda.backend import CudaBackend
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.slot import CudaSlot
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.params import DetectParams
from tests.support.fake_cuda import (
    FakeExecutor,
    fake_gpu,
    fake_kernels,
)

SETTINGS = EngineSettings(load_weights(DEFAULT), 96, 64, DetectParams(threshold=0.0, top_n=12))


def picture(seed: int, width: int = 120, height: int = 100) -> np.ndarray:
    """Return a picture of coarse blocks, in which the network finds some objects."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return blocks.repeat(10, 0).repeat(10, 1)


class Rig:
    """A fake GPU with the network on it."""

    def __init__(self, settings: EngineSettings = SETTINGS, max_batch: int = 1) -> None:
        self.driver, self.gpu = fake_gpu()
        self.graphs = self.gpu.graphs
        self.executor = FakeExecutor(self.driver, settings, max_batch)
        self.kernels = fake_kernels(self.driver, settings)
        self.settings = settings

    def slot(self, batch: int = 1) -> CudaSlot:
        return CudaSlot(self.gpu, lambda: BatchRunner(self.gpu, self.executor, self.kernels, batch))

    def backend(self) -> CudaBackend:
        return CudaBackend("torch", self.settings, self.gpu, self.executor, self.kernels, "test")


def run(slot: CudaSlot, image: Any) -> Detections:
    (found,) = run_all(slot, [image])
    return found


def run_all(slot: CudaSlot, images: Sequence[Any]) -> list[Detections]:
    slot.preprocess(images)
    slot.infer()
    return slot.detect()


def in_thread(work: Callable[[], Any]) -> Any:
    """Call `work` in its own thread, as the stages do; return its result or raise its error."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append((work(), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    value, error = results[0]
    if error is not None:
        raise error
    return value


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.02)
