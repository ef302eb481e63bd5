"""Run the real builder: TensorRT-RTX builds for a missing GPU, without a driver."""

import gc
import logging
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.graph import unsigned
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.tensorrt import progress
from squeezedrive.engines.backends.tensorrt.builder import build_engine
from squeezedrive.engines.backends.tensorrt.cache import EngineCache
from squeezedrive.engines.backends.tensorrt.driver import FirstGpu
from squeezedrive.engines.backends.tensorrt.entry import tensorrt_obstacles
from squeezedrive.engines.backends.tensorrt.executor import TensorRTExecutor, open_engine
from squeezedrive.engines.backends.tensorrt.graph import EnginePrecision, engine_graph, io_type
from squeezedrive.engines.errors import BackendUnavailable
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, int8_model, load_weights
from squeezedrive.kernels.params import DetectParams

WIDTH, HEIGHT = 320, 96
NO_DRIVER = "no NVIDIA driver" in "".join(tensorrt_obstacles()[:1])

# TensorRT-RTX has no timing cache and warns about this at each build.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()  # TensorRT's objects emit a deprecation warning when they are freed


def ahead(capability: str) -> ModuleType:
    """Return TensorRT-RTX with a builder for a GPU that this machine lacks."""
    rtx = pytest.importorskip(
        "tensorrt_rtx", reason="tensorrt_rtx is not installed (the extra test has it on x86_64)"
    )

    class Builder(rtx.Builder):  # type: ignore[misc, name-defined]
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(rtx.ComputeCapability, capability), 0)
            return config

    module = ModuleType("tensorrt_ahead_of_time")
    module.__dict__.update(vars(rtx))
    module.Builder = Builder  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(DEFAULT)


@pytest.fixture(scope="module")
def settings(weights: Weights) -> EngineSettings:
    return EngineSettings(weights, WIDTH, HEIGHT, DetectParams(), int8=int8_model(DEFAULT))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Return all messages of TensorRT's logger, including the inspector's report of the engine."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("squeezedrive.tensorrt")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield messages
    log.removeHandler(handler)
    log.setLevel(before)


@pytest.mark.parametrize(
    ("precision", "capability", "max_batch", "kind", "io_kind"),
    [
        ("fp16", "SM86", 1, "Half", "Half"),
        ("fp16", "SM89", 8, "Half", "Half"),
        ("fp32", "SM89", 3, "Float", "Float"),
        ("int8", "SM86", 8, "Int8", "Half"),
    ],
)
def test_convolutions_input_and_output_have_the_requested_format(
    settings: EngineSettings,
    logged: list[str],
    precision: EnginePrecision,
    capability: str,
    max_batch: int,
    kind: str,
    io_kind: str,
) -> None:
    """The formats are read from the inspector's report of the built engine."""
    graph = engine_graph(settings, precision)
    built = build_engine(ahead(capability), graph, max_batch, lambda line: None)
    assert len(built.plan) > 2_000_000
    (report,) = (text.splitlines() for text in logged if "VERBOSE: Layers:" in text)

    found = {}
    for line in report:
        layer = re.match(
            r"Name: (\w+?)_myl0_\d+, LayerType: correlation, Inputs: \[ (.*)\],"
            r" Constants: \[ (.*)\], Outputs: ",
            line,
        )
        if layer:
            image, weights = (re.findall(r"Datatype: (\w+)", layer[part]) for part in (2, 3))
            found[layer[1]] = (*image, weights[0])
    operations = settings.weights.profile.operations(WIDTH, HEIGHT)
    assert found == {step.name: (kind, kind) for step in operations if step.kind == "conv"}
    assert len(found) == 32

    (image_line,) = (line for line in report if line.startswith(" Name: image,"))
    (output_line,) = (line for line in report if line.startswith(" Name: output,"))
    batch = -1 if max_batch > 1 else 1
    for part in (
        f"IOMode: Input, DataType: {io_kind}, Dimensions: [{batch},3,96,320]",
        "MinShape: [1,3,96,320], OptShape: [1,3,96,320]",
        f"MaxShape: [{max_batch},3,96,320]",
        "kLINEAR",
    ):
        assert part in image_line
    assert f"IOMode: Output, DataType: {io_kind}, Dimensions: [{batch},72,6,20]" in output_line
    assert "kLINEAR" in output_line
    assert io_type(precision) == {"Half": np.float16, "Float": np.float32}[io_kind]


def test_graph_without_the_mean_gives_the_same_output(settings: EngineSettings) -> None:
    """Run all graphs with OpenVINO: the CPU's graph on pixels, the others on centred pixels.

    TensorRT requires signed bytes. This test makes them unsigned, because OpenVINO computes signed
    bytes wrongly on some processors.
    """

    def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
        compiled = compile_model(
            core().read_model(model.SerializeToString()), {"INFERENCE_PRECISION_HINT": "f32"}
        )
        return np.array(compiled(pixels)[0], np.float32)

    settings = replace(settings, width=96, height=48)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 48, 96)).astype(np.float32)
    weights = settings.weights
    expected = run(build_onnx(weights, 96, 48, batch=2), pixels)
    mean = np.reshape(weights.profile.input.mean, (1, 3, 1, 1)).astype(np.float32)
    noise = {}
    for precision in ("fp32", "fp16", "int8"):
        centred = (pixels - mean).astype(io_type(precision))
        error = run(unsigned(engine_graph(settings, precision)), centred) - expected
        noise[precision] = 10 * np.log10(np.mean(error**2) / np.mean(expected**2) + 1e-20)
    assert noise["fp32"] < -100
    assert noise["fp16"] < -50
    assert noise["int8"] < -15


def test_graph_leaves_normalisation_to_the_kernel(settings: EngineSettings) -> None:
    profile = settings.weights.profile
    pixels = profile.input.model_copy(update={"scale": 0.5})
    scaled = Weights(profile.model_copy(update={"input": pixels}), settings.weights.arrays)
    graph = engine_graph(replace(settings, weights=scaled), "fp16").graph
    assert (graph.node[0].op_type, graph.node[0].input[0]) == ("Conv", "image")
    assert {"mean", "scale"}.isdisjoint(constant.name for constant in graph.initializer)


def test_scales_of_dead_channels_stay_positive_as_halves(
    settings: EngineSettings, tmp_path: Path
) -> None:
    """A channel whose weights are almost zero has a scale below the smallest positive fp16."""
    model = onnx.load(int8_model(DEFAULT))
    (scale,) = (c for c in model.graph.initializer if c.name == "fire2_squeeze1x1_w_scale")
    values = np.array(numpy_helper.to_array(scale))
    values[3] = 1e-10
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    onnx.save(model, tmp_path / "dead.int8.onnx")
    graph = engine_graph(replace(settings, int8=tmp_path / "dead.int8.onnx"), "int8").graph
    (half,) = (c for c in graph.initializer if c.name == scale.name)
    assert numpy_helper.to_array(half).dtype == np.float16
    assert numpy_helper.to_array(half)[3] > 0
    assert {c.data_type for c in graph.initializer} == {TensorProto.FLOAT16, TensorProto.INT8}


def test_reports_an_unreadable_network_in_one_line(settings: EngineSettings) -> None:
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("NoSuchOperation", ["image"], ["output"], name="odd")],
        "unreadable",
        [value("image", shape=["batch", 3, 8, 8])],
        [value("output", shape=["batch", 3, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BackendUnavailable) as caught:
        build_engine(ahead("SM86"), model, 8, lambda line: None)
    assert re.match(r"TensorRT cannot read the network: NoSuchOperation odd: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_progress_names_phases_and_ctrl_c_leaves_no_files(
    settings: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Building engine" in line and len(said) < 1000:
            said.extend([""] * 1000)  # sends the signal only once
            os.kill(os.getpid(), signal.SIGINT)

    cache = EngineCache(tmp_path, say)
    gpu = FirstGpu("a GPU that is not there", (8, 9))
    with pytest.raises(KeyboardInterrupt):
        open_engine(settings, "fp32", 8, gpu, say, ahead("SM89"), cache)
    assert any(re.match(r"building for 0:00:0\d: Building engine \d/\d", line) for line in said)
    assert said[-1].startswith("interrupted: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not NO_DRIVER, reason="this machine has an NVIDIA driver")
def test_loading_without_a_driver_raises_an_error(settings: EngineSettings) -> None:
    graph = engine_graph(settings, "fp16")
    built = build_engine(ahead("SM86"), graph, 8, lambda line: None)
    with pytest.raises(BackendUnavailable, match=r"cannot load the engine: .*driver"):
        TensorRTExecutor(ahead("SM86"), built.plan, "fp16")
