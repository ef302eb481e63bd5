"""The int8 graph gives the same results in the form that OpenVINO runs fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu import backend
from squeezedrive.engines.backends.cpu.graph import bytes_in, for_processor, merge_expansions
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.onnx_graph import build_onnx, load_onnx
from squeezedrive.engines.model.profile import InputProfile
from squeezedrive.engines.model.weights import DEFAULT, Weights, int8_model, load_weights
from squeezedrive.engines.quantisation.graph import quantise, quantised_values
from squeezedrive.kernels.params import DetectParams

WIDTH, HEIGHT = 96, 48
# The values are below 230: a pixel minus the mean stays below 127 steps and is never clipped.
PIXELS = np.random.default_rng(2).integers(0, 230, (1, HEIGHT, WIDTH, 3)).astype(np.uint8)


def quantised(float_layers: tuple[str, ...] = (), **pixels: Any) -> tuple[onnx.ModelProto, Any]:
    """Return an int8 graph of the shipped weights with pixel steps of 1, and its input profile."""
    weights = load_weights(DEFAULT)
    whole = InputProfile.model_validate({**weights.profile.input.model_dump(), **pixels})
    profile = weights.profile.model_copy(update={"input": whole})
    model = build_onnx(Weights(profile, weights.arrays), WIDTH, HEIGHT)
    limits = dict.fromkeys(quantised_values(model).values(), 200.0)
    first = next(iter(quantised_values(model).values()))
    return quantise(model, {**limits, first: 127 * whole.scale}, float_layers), whole


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    compiled = compile_model(
        core().read_model(model.SerializeToString()), {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.array(compiled(pixels)[0])


def first_layer(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """Return conv1's output by ONNX's reference implementation, without its outer pixels."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    copied.opset_import[0].version = 19  # the reference lacks operations of older versions
    copied.graph.output.append(helper.make_tensor_value_info("conv1", onnx.TensorProto.FLOAT, None))
    value = ReferenceEvaluator(copied).run(["conv1"], {"image": pixels})[0]
    return np.asarray(value)[..., 1:-1, 1:-1]


@pytest.mark.parametrize(
    "pixels",
    [
        {"mean": (104, 117, 123)},
        {"mean": (123, 117, 104), "channels": "RGB"},
        {"mean": (104, 117, 123), "scale": 0.25},
    ],
)
def test_first_convolution_gives_the_same_with_bytes_as_input(pixels: dict[str, Any]) -> None:
    model, profile = quantised(**pixels)
    order = PIXELS if profile.channels == "BGR" else PIXELS[..., ::-1]
    planes = np.ascontiguousarray(order.transpose(0, 3, 1, 2), np.float32)
    expected = first_layer(model, planes)
    assert expected.max() > 1
    np.testing.assert_allclose(first_layer(bytes_in(model, profile), PIXELS), expected, atol=2e-3)


def test_merged_expansions_are_equal_to_the_last_bit() -> None:
    model, profile = quantised()
    plain, merged = (for_processor(model, profile, amx) for amx in (False, True))
    kinds = [[n.op_type for n in graph.graph.node] for graph in (plain, merged)]
    assert [kind.count("Concat") for kind in kinds] == [10, 2]
    assert [kind.count("Conv") for kind in kinds] == [32, 24]
    ours, theirs = run(merged, PIXELS), run(plain, PIXELS)
    assert np.abs(theirs).max() > 1
    np.testing.assert_array_equal(ours, theirs)


def test_keeps_fires_that_are_partly_in_float() -> None:
    model, _ = quantised(("fire3_expand1x1",))
    merged = merge_expansions(model, ("fire2", "fire3", "fire99"))
    names = {node.name for node in merged.graph.node}
    assert {"fire2_expand", "fire3_expand1x1", "fire3_expand3x3"} <= names
    assert "fire2_expand1x1" not in names


def test_a_first_convolution_in_float_keeps_its_input() -> None:
    model, profile = quantised(("conv1",))
    assert bytes_in(model, profile) is model


@pytest.mark.parametrize("amx", [False, True])
def test_expansions_are_merged_with_amx_only(amx: bool) -> None:
    model, profile = quantised()
    names = {node.name for node in for_processor(model, profile, amx).graph.node}
    assert ("fire2_expand" in names) == amx


def int8_settings() -> EngineSettings:
    return EngineSettings(
        load_weights(DEFAULT), WIDTH, HEIGHT, DetectParams(), int8=int8_model(DEFAULT)
    )


@pytest.mark.parametrize("fault", [AttributeError, TypeError, AssertionError, ImportError])
def test_faults_of_the_program_are_not_taken_for_damage(
    fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "for_processor", Mock(side_effect=fault("ours")))
    with pytest.raises(fault, match="ours"):
        backend.CpuBackend(int8_settings(), CpuOptions(threads=1), "test")


def without_a_scale(model: onnx.ModelProto) -> None:
    names = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    (scale,) = [
        one for one in model.graph.initializer if one.name == min(n for n in names if "fire" in n)
    ]
    scale.name = "x"


def without_a_convolution(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.op_type = "Relu" if node.op_type == "Conv" else node.op_type


def with_an_unknown_padding(model: onnx.ModelProto) -> None:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    for attribute in first.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [-(2**62)] * 4


@pytest.mark.parametrize(
    "damage", [without_a_scale, without_a_convolution, with_an_unknown_padding]
)
def test_a_damaged_graph_is_refused_in_one_line(
    damage: Callable[[onnx.ModelProto], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = int8_settings()
    graph = load_onnx(settings.int8, settings.weights, WIDTH, HEIGHT)
    damage(graph)
    monkeypatch.setattr(backend, "load_onnx", lambda *_: graph)
    with pytest.raises(WeightsError, match=r"is not a graph as python -m engines quantize writes"):
        backend.CpuBackend(settings, CpuOptions(threads=1), "test")


@pytest.mark.parametrize("amx", [False, True])
def test_the_back_end_names_the_graph_it_chose(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_amx", lambda: amx)
    chosen: list[bool] = []

    def choose(model: onnx.ModelProto, pixels: InputProfile, amx: bool) -> onnx.ModelProto:
        chosen.append(amx)
        return for_processor(model, pixels, amx)

    monkeypatch.setattr(backend, "for_processor", choose)
    info = backend.CpuBackend(int8_settings(), CpuOptions(threads=1), "test").info
    assert chosen == [amx]
    assert info.device.endswith(f"graph for processors {'with' if amx else 'without'} AMX")
