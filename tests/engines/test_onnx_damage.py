"""Quantised models whose graph is damaged or has an unexpected structure."""

from pathlib import Path

import onnx
import pytest

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.weights import DEFAULT, Weights, int8_model, load_weights
from squeezedrive.kernels.params import DetectParams


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(DEFAULT)


def _no_output(graph: onnx.GraphProto) -> None:
    del graph.output[:]


def _two_inputs(graph: onnx.GraphProto) -> None:
    graph.input.append(graph.input[0])


def _rank(graph: onnx.GraphProto) -> None:
    del graph.output[0].type.tensor_type.shape.dim[0]


def _no_convolution(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Conv":
            node.op_type = "MaxPool"


def _no_steps(graph: onnx.GraphProto) -> None:
    first = next(node for node in graph.node if node.op_type == "Conv")
    maker = next(node for node in graph.node if node.output[0] == first.input[1])
    steps = next(one for one in graph.initializer if one.name == maker.input[0])
    steps.dims[:] = [64, 3, 9]


def _from_elsewhere(graph: onnx.GraphProto) -> None:
    graph.initializer[0].ClearField("raw_data")
    graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    graph.initializer[0].external_data.add(key="location", value="../../../etc/passwd")


@pytest.mark.parametrize(
    "damage", [_no_output, _two_inputs, _rank, _no_convolution, _no_steps, _from_elsewhere]
)
def test_any_graph_is_refused_in_one_line(damage, weights: Weights, tmp_path: Path) -> None:
    model = onnx.load(int8_model(DEFAULT))
    damage(model.graph)
    path = tmp_path / "w.int8.onnx"
    path.write_bytes(model.SerializeToString())
    settings = EngineSettings(weights, 320, 96, DetectParams(0.5), "band", 0.5, path)
    with pytest.raises(WeightsError, match=r"w\.int8\.onnx: (expected|is not a)") as caught:
        CpuBackend(settings, CpuOptions(precision="int8"), "test")
    assert "\n" not in str(caught.value)
