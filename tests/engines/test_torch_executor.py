"""The network in PyTorch gives the same numbers as ONNX, tested without a GPU."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.torch import executor as torch_executor
from squeezedrive.engines.backends.torch.executor import TorchExecutor
from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights
from squeezedrive.kernels.params import DetectParams
from tests.support.plus import plus_weights

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[train]'")


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace GPU memory by host memory, use no streams; return the list of requested streams."""
    streams: list[int] = []

    def tensor_at(address: int, shape: Any, dtype: Any, device: Any) -> Any:
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(address)
        return torch.from_numpy(np.frombuffer(memory, dtype).reshape(shape))

    def on_stream(stream: int, device: Any) -> Any:
        streams.append(stream)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch_executor, "tensor_at", tensor_at)
    monkeypatch.setattr(torch_executor, "on_stream", on_stream)
    return streams


def settings(weights: Weights, width: int, height: int) -> EngineSettings:
    return EngineSettings(weights, width, height, DetectParams())


def execute(executor: TorchExecutor, pixels: np.ndarray) -> np.ndarray:
    shape = (len(pixels), *executor.output_shape)
    source = np.ascontiguousarray(pixels, executor.input_type)
    target = np.full(shape, np.nan, executor.output_type)
    context = executor.new_context(0)
    context.bind(source.ctypes.data, target.ctypes.data, len(pixels))
    context.enqueue(123)
    context.close()
    return target


def by_onnx(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    """Return the output of the ONNX graph, which includes the normalisation of the pixels."""
    profile = weights.profile.input
    height, width = pixels.shape[2:]
    raw = pixels / profile.scale + np.reshape(profile.mean, (1, 3, 1, 1))
    graph = build_onnx(weights, width, height, batch=len(pixels))
    model = core().read_model(graph.SerializeToString())
    run = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(run(raw.astype(np.float32))[0])


@pytest.mark.parametrize("batch", [1, 3])
def test_gives_the_same_output_as_the_onnx_graph(batch: int, on_the_processor: list[int]) -> None:
    weights = load_weights(DEFAULT)
    executor = TorchExecutor(settings(weights, 96, 64), "fp32", 3, "cpu")
    pixels = np.random.default_rng(0).normal(0, 60, (batch, 3, 64, 96)).astype(np.float32)
    found = execute(executor, pixels)
    np.testing.assert_allclose(found, by_onnx(weights, pixels), atol=2e-3)
    assert on_the_processor == [123]


def test_supports_every_kind_of_padding(tmp_path: Path) -> None:
    """SqueezeDet+ does not pad strided layers; the authors' SqueezeDet pads below and right."""
    default = load_weights(DEFAULT)
    same_upper = Weights(
        default.profile.model_copy(update={"padding": "same_upper"}), default.arrays
    )
    rng = np.random.default_rng(1)
    for weights, width, height in ((same_upper, 96, 64), (plus_weights(), 130, 110)):
        pixels = rng.normal(0, 60, (1, 3, height, width)).astype(np.float32)
        executor = TorchExecutor(settings(weights, width, height), "fp32", 1, "cpu")
        found, expected = execute(executor, pixels), by_onnx(weights, pixels)
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_half_precision_is_close(on_the_processor: list[int]) -> None:
    weights = load_weights(DEFAULT)
    executor = TorchExecutor(settings(weights, 96, 64), "fp16", 1, "cpu")
    assert executor.input_type == executor.output_type == np.float16
    assert all(p.dtype == torch.float16 for p in executor.parameters.values())
    pixels = np.random.default_rng(2).normal(0, 60, (1, 3, 64, 96)).astype(np.float16)
    found = execute(executor, pixels)
    expected = by_onnx(weights, pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_rejects_int8_and_batches_that_are_too_large() -> None:
    chosen = settings(load_weights(DEFAULT), 96, 64)
    with pytest.raises(ConfigError, match=r"cuda\.precision.*int8 needs TensorRT"):
        TorchExecutor(chosen, "int8", 1, "cpu")
    with pytest.raises(ValueError, match="batch of 1 to 2, got 3"):
        TorchExecutor(chosen, "fp32", 2, "cpu").new_context(0).bind(0, 0, 3)
