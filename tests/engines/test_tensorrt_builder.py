"""The builder run for real: TensorRT-RTX builds for a GPU that is not there, without a driver."""

import logging
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper

from engines.backend import EngineSettings
from engines.errors import BackendUnavailable
from engines.onnx_graph import build_onnx
from engines.tensorrt import obstacles, progress
from engines.tensorrt.builder import BuildOptions, Built, build_engine
from engines.tensorrt.cache import EngineCache
from engines.tensorrt.driver import FirstGpu
from engines.tensorrt.executor import TensorRTExecutor, open_executor
from engines.tensorrt.graph import Precision, engine_graph, io_type
from engines.weights import DEFAULT, Weights, int8_model, load_weights
from kernels.reference import DetectParams

WIDTH, HEIGHT = 320, 96
NAMES = {"fp16": "Half", "fp32": "Float", "int8": "Int8"}  # as the engine inspector writes them
NO_DRIVER = bool(obstacles()) and "no NVIDIA driver" in obstacles()[0]

pytestmark = [
    # TensorRT-RTX keeps no timing cache and says so each time.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def ahead(capability: str) -> ModuleType:
    """Return TensorRT-RTX with a builder for a GPU that is not there."""
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
def told() -> Iterator[list[str]]:
    """Return all that TensorRT tells its logger, the inspector's report of the engine included."""
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


def build(
    settings: EngineSettings, precision: Precision, capability: str, options: BuildOptions
) -> Built:
    graph = engine_graph(settings, precision)
    return build_engine(ahead(capability), graph, options, lambda line: None)


def report(told: list[str]) -> list[str]:
    """Return the lines of the engine inspector's report, which a build prints."""
    (message,) = (text for text in told if "VERBOSE: Layers:" in text)
    return message.splitlines()


@pytest.mark.parametrize(
    ("precision", "capability", "max_batch"),
    [("fp16", "SM86", 1), ("fp16", "SM89", 8), ("fp32", "SM89", 3), ("int8", "SM86", 8)],
)
def test_every_convolution_computes_in_the_format_asked_for(
    settings: EngineSettings,
    told: list[str],
    precision: Precision,
    capability: str,
    max_batch: int,
) -> None:
    built = build(settings, precision, capability, BuildOptions(max_batch=max_batch))
    assert len(built.plan) > 2_000_000
    lines = report(told)
    convolutions = {
        step.name for step in settings.weights.operations(WIDTH, HEIGHT) if step.kind == "conv"
    }
    found = set()
    for line in lines:
        name = re.match(r"Name: (\w+?)_myl0_\d+, LayerType: correlation,", line)
        if name:
            found.add(name[1])
            inputs, constants = (
                re.findall(r"Datatype: (\w+)", re.search(rf"{part}: \[(.*?)\], \w+: ", line)[1])  # type: ignore[index]
                for part in ("Inputs", "Constants")
            )
            assert inputs == [NAMES[precision]], line
            assert constants[0] == NAMES[precision], line  # its weights
    assert found == convolutions
    assert len(found) == 32


@pytest.mark.parametrize(
    ("precision", "max_batch", "kind"),
    [("fp16", 8, "Half"), ("fp32", 1, "Float"), ("int8", 4, "Half")],
)
def test_input_and_output_are_as_declared(
    settings: EngineSettings, told: list[str], precision: Precision, max_batch: int, kind: str
) -> None:
    build(settings, precision, "SM89", BuildOptions(max_batch=max_batch))
    lines = report(told)
    (image,) = (line for line in lines if line.startswith(" Name: image,"))
    (output,) = (line for line in lines if line.startswith(" Name: output,"))
    for part in (
        f"IOMode: Input, DataType: {kind}, Dimensions: [-1,3,96,320]",
        "MinShape: [1,3,96,320], OptShape: [1,3,96,320]",
        f"MaxShape: [{max_batch},3,96,320]",
        "kLINEAR",
    ):
        assert part in image
    assert f"IOMode: Output, DataType: {kind}, Dimensions: [-1,72,6,20]" in output
    assert "kLINEAR" in output
    assert io_type(precision) == {"Half": np.float16, "Float": np.float32}[kind]


def test_the_graph_with_the_mean_outside_computes_the_same(settings: EngineSettings) -> None:
    """OpenVINO runs all forms: pixels into the one of the CPU, centred pixels into the others."""
    core = ov.Core()

    def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
        compiled = core.compile_model(
            core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        return np.array(compiled(pixels)[0], np.float32)

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, HEIGHT, WIDTH)).astype(np.float32)
    weights = settings.weights
    expected = run(build_onnx(weights, WIDTH, HEIGHT, batch=2), pixels)
    mean = np.reshape(weights.profile.input.mean, (1, 3, 1, 1)).astype(np.float32)
    noise = {}
    for precision in ("fp32", "fp16", "int8"):
        centred = (pixels - mean).astype(io_type(precision))
        error = run(engine_graph(settings, precision), centred) - expected
        noise[precision] = 10 * np.log10(np.mean(error**2) / np.mean(expected**2) + 1e-20)
    assert noise["fp32"] < -100
    assert noise["fp16"] < -50
    assert noise["int8"] < -15


def test_a_scale_of_the_pixels_stays_in_the_graph(settings: EngineSettings) -> None:
    profile = settings.weights.profile
    pixels = profile.input.model_copy(update={"scale": 0.5})
    scaled = Weights(profile.model_copy(update={"input": pixels}), settings.weights.arrays)
    graph = engine_graph(EngineSettings(scaled, WIDTH, HEIGHT, DetectParams()), "fp16").graph
    assert [node.op_type for node in graph.node][:2] == ["Mul", "Conv"]
    assert graph.node[0].input[0] == "image"


def test_scales_of_dead_channels_stay_positive_as_halves(settings: EngineSettings) -> None:
    graph = engine_graph(settings, "int8").graph
    scales = {
        node.input[1] for node in graph.node if "Quantize" in node.op_type or "Deq" in node.op_type
    }
    for constant in graph.initializer:
        assert constant.data_type in (TensorProto.FLOAT16, TensorProto.INT8)
        if constant.name in scales:
            assert onnx.numpy_helper.to_array(constant).min() > 0


def test_a_network_that_cannot_be_read_is_one_line(settings: EngineSettings) -> None:
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("NoSuchOperation", ["image"], ["output"], name="odd")],
        "unreadable",
        [value("image", shape=["batch", 3, 8, 8])],
        [value("output", shape=["batch", 3, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BackendUnavailable) as caught:
        build_engine(ahead("SM86"), model, BuildOptions(), lambda line: None)
    assert re.match(r"TensorRT cannot read the network: NoSuchOperation odd: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_progress_names_phases_and_ctrl_c_leaves_nothing(
    settings: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Building engine" in line and len(said) < 1000:
            said.extend([""] * 1000)  # once
            os.kill(os.getpid(), signal.SIGINT)

    cache = EngineCache(tmp_path, say)
    gpu = FirstGpu("a GPU that is not there", (8, 9))
    with pytest.raises(KeyboardInterrupt):
        open_executor(settings, "fp32", 8, gpu, say, ahead("SM89"), cache)
    assert any(re.match(r"building for 0:0\d: Building engine \d/\d", line) for line in said)
    assert said[-1].startswith("interrupted: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not NO_DRIVER, reason="this machine has an NVIDIA driver")
def test_loading_without_a_driver_is_an_error_and_no_crash(settings: EngineSettings) -> None:
    built = build(settings, "fp16", "SM86", BuildOptions(max_batch=1))
    with pytest.raises(BackendUnavailable, match="cannot load the engine: .*driver"):
        TensorRTExecutor(ahead("SM86"), built.plan, "fp16")
