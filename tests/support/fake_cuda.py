"""The network and the kernels of the CUDA back ends, computed on the host.

They enqueue their work on the streams of `fake_driver`, which runs it as late as possible.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.cpu import detect
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit
from tests.support.fake_driver import (
    FakeDriver,
    FakeGraphs,
    FakeNumba,
)


class FakeExecutor:
    """The network, run by OpenVINO on the processor; its input has the mean subtracted."""

    runtime = "fake 1.0"
    precision = "fp32"
    input_type = output_type = np.dtype(np.float32)
    recordable = True
    workspace_bytes = 640

    def __init__(self, driver: FakeDriver, settings: EngineSettings, max_batch: int = 1) -> None:
        self.driver, self.settings, self.max_batch = driver, settings, max_batch
        self.model = _compiled(settings.width, settings.height)
        self.open_contexts = 0
        self.closed = 0

    def new_context(self, workspace: int) -> FakeExecution:
        self.driver.call("new_context")
        assert self.driver.memory[workspace].size == self.workspace_bytes
        self.open_contexts += 1
        return FakeExecution(self)

    def close(self) -> None:
        assert getattr(self.driver.pushed, "depth", 0) == 1
        assert self.open_contexts == 0
        self.closed += 1


@functools.cache
def _compiled(width: int, height: int) -> Any:
    graph = build_onnx(load_weights(DEFAULT), width, height)
    model = core().read_model(graph.SerializeToString())
    return compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})


class FakeExecution:
    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor
        self.request = executor.model.create_infer_request()

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        assert 1 <= batch <= self.executor.max_batch
        self.addresses, self.batch = (input_address, output_address), batch

    def enqueue(self, stream: int) -> None:
        executor, driver = self.executor, self.executor.driver
        (source, target), batch = self.addresses, self.batch

        def infer() -> None:
            settings = executor.settings
            shape = (batch, 3, settings.height, settings.width)
            mean = np.reshape(settings.weights.profile.input.mean, (1, 3, 1, 1))
            pixels = driver.array(source, shape, np.float32) + mean.astype(np.float32)
            head = settings.head()
            output = driver.array(target, (batch, *head.output_shape), np.float32)
            for i in range(batch):
                output[i] = self.request.infer(pixels[i : i + 1])[0][0]

        driver.enqueue("infer", stream, infer)

    def close(self) -> None:
        self.executor.open_contexts -= 1


class FakePreprocessor:
    def __init__(
        self, driver: FakeDriver, fit: Fit, settings: EngineSettings, matrix: str | None
    ) -> None:
        driver.call("preprocessor")
        self.driver, self.fit, self.settings, self.matrix = driver, fit, settings, matrix

    def enqueue(self, source: Any, target: np.ndarray, stream: int) -> None:
        if self.matrix is not None:  # NV12: uses luma only, so pictures have to be grey
            source = np.repeat(source[0][:, :, : self.fit.source_size[0], None], 3, axis=3)
        mean = np.array(self.settings.weights.profile.input.mean, np.float32)

        def preprocess() -> None:
            pixels = np.empty((self.settings.height, self.settings.width, 3), np.uint8)
            for picture, out in zip(source, target, strict=True):
                self.fit.preprocess(picture, self.settings.weights.profile.input.fill, pixels)
                out[:] = (pixels - mean).transpose(2, 0, 1)

        self.driver.enqueue("preprocess", stream, preprocess)


class FakeDetector:
    """A detector with the result of `kernels.cuda.detect`: rows of a count and six values a box."""

    def __init__(self, driver: FakeDriver, settings: EngineSettings) -> None:
        driver.call("detector")
        self.driver, self.settings, self.head = driver, settings, settings.head()

    def result_shape(self, batch: int) -> tuple[int, int]:
        return batch, 1 + 6 * self.settings.detect.top_n

    def update(self) -> None:
        self.driver.call("update")

    def enqueue(self, output: np.ndarray, result: np.ndarray, stream: int) -> None:
        def find() -> None:
            for values, row in zip(output, result, strict=True):
                found = detect(values, self.head, self.settings.detect)
                columns = [found.boxes, found.scores[:, None], found.classes[:, None]]
                flat = np.concatenate(columns, axis=1).reshape(-1)
                row[0] = len(found)
                row[1 : 1 + flat.size] = flat

        self.driver.enqueue("detect", stream, find)

    def unpack(self, result: np.ndarray) -> tuple[Detections, list[int]]:
        counts = [int(row[0]) for row in result]
        rows = [row[1:].reshape(-1, 6)[: int(row[0])] for row in result]
        found = np.concatenate(rows)
        boxes = Detections(found[:, :4], found[:, 4], found[:, 5].astype(np.int32))
        return boxes, counts


def fake_gpu() -> tuple[FakeDriver, GpuContext]:
    driver = FakeDriver()
    return driver, GpuContext(driver, FakeNumba(driver), FakeGraphs(driver))


def fake_kernels(driver: FakeDriver, settings: EngineSettings) -> ImageKernels:
    size = (settings.width, settings.height)
    return ImageKernels(
        settings.fit_of,
        lambda fit, matrix: FakePreprocessor(driver, fit, settings, matrix),
        lambda batch: FakeDetector(driver, settings),
        (3, size[1], size[0]),
        settings.head().output_shape,
        np.dtype(np.float32),
    )


def on_the_processor(settings: EngineSettings, picture: np.ndarray) -> Detections:
    """Return what the CPU back end finds, in single precision."""
    key = (settings.width, settings.height, settings.fit, settings.band_centre, settings.detect)
    if key not in _processors:
        _processors[key] = CpuBackend(settings, CpuOptions(precision="fp32"), "test").new_slot()
    slot = _processors[key]
    slot.preprocess([picture])
    slot.infer()
    (found,) = slot.detect()
    assert isinstance(found, Detections)
    return found


_processors: dict[Any, Any] = {}
