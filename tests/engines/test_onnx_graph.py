from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.errors import ConfigError, NetworkError, WeightsError
from squeezedrive.engines.model.network import Padding
from squeezedrive.engines.model.onnx_graph import DIGEST, build_onnx, load_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights
from squeezedrive.kernels import reference
from squeezedrive.kernels.params import DetectParams
from tests.support.plus import plus_weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(DEFAULT)


@pytest.fixture(scope="module")
def plus() -> Weights:
    return plus_weights()


def with_profile(weights: Weights, **changes: object) -> Weights:
    return Weights(weights.profile.model_copy(update=changes), weights.arrays)


def run(model: onnx.ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Execute a graph on the CPU in single precision."""
    compiled = compile_model(
        core().read_model(model.SerializeToString()), {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.array(compiled(image)[0])


def pass_through(weights: Weights) -> Weights:
    """Return weights that copy channel 0 from layer to layer: only pools and padding act."""
    arrays = {name: np.zeros_like(array) for name, array in weights.arrays.items()}
    for name, array in arrays.items():
        if name.endswith("_w") and "expand3x3" not in name:
            centre = array.shape[2] // 2
            array[0, 0, centre, centre] = 1
    profile = weights.profile
    pixels = profile.input.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    return Weights(profile.model_copy(update={"input": pixels}), arrays)


@pytest.mark.parametrize(
    ("fixture", "padding", "centre"),
    [
        ("weights", "symmetric", 0),
        ("weights", "same_upper", 15),
        ("weights", "valid", 15),
        ("plus", "valid", 17),
    ],
)
def test_padding_decides_which_pixels_a_cell_reads(
    request: pytest.FixtureRequest, fixture: str, padding: Padding, centre: int
) -> None:
    copying = with_profile(pass_through(request.getfixturevalue(fixture)), padding=padding)
    model = build_onnx(copying, 96, 48, batch=96)
    lit = np.zeros((96, 3, 48, 96), np.float32)
    lit[np.arange(96), 0, :, np.arange(96)] = 1  # picture x: column x is lit
    seen = np.flatnonzero(run(model, lit)[:, 0, 0, 2] > 0)
    # Cell i reads an interval of columns. The middle is 16 i + `centre`; here, i is 2.
    assert (seen[0] + seen[-1]) / 2 == 16 * 2 + centre


@pytest.mark.parametrize("padding", ["symmetric", "same_upper"])
@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((1248, 384), (78, 24)),
        ((1280, 720), (80, 45)),
        ((640, 368), (40, 23)),
        ((624, 192), (39, 12)),
    ],
)
def test_grid_has_a_cell_for_each_16_pixels(
    weights: Weights, padding: Padding, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    model = build_onnx(with_profile(weights, padding=padding), *size)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, 72, grid[1], grid[0]]


def test_both_paddings_run_at_other_sizes(weights: Weights) -> None:
    for padding in ("symmetric", "same_upper"):
        model = build_onnx(with_profile(weights, padding=padding), 112, 80)
        assert run(model, np.zeros((1, 3, 80, 112), np.float32)).shape == (1, 72, 5, 7)


def test_graph_matches_its_layers_in_numpy(weights: Weights) -> None:
    """Compare the first layers with a computation in NumPy, on random pixels."""
    model = build_onnx(weights, 32, 32)
    pick = onnx.helper.make_tensor_value_info("pool1", TensorProto.FLOAT, None)
    model.graph.output.append(pick)
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (1, 3, 32, 32)).astype(np.float32)
    compiled = compile_model(
        core().read_model(model.SerializeToString()), {"INFERENCE_PRECISION_HINT": "f32"}
    )
    got = np.array(compiled(pixels)["pool1"])[0]

    mean = np.array(weights.profile.input.mean, np.float32).reshape(3, 1, 1)
    padded = np.pad(pixels[0] - mean, ((0, 0), (1, 1), (1, 1)))
    w, b = weights.arrays["conv1_w"], weights.arrays["conv1_b"]
    conv = np.empty((64, 16, 16), np.float32)
    for y in range(16):
        for x in range(16):
            window = padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            conv[:, y, x] = np.tensordot(w, window, 3) + b
    conv = np.pad(np.maximum(conv, 0), ((0, 0), (1, 1), (1, 1)))
    pool = np.empty((64, 8, 8), np.float32)
    for y in range(8):
        for x in range(8):
            pool[:, y, x] = conv[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max((1, 2))
    np.testing.assert_allclose(got, pool, rtol=1e-4, atol=1e-2)


def windows(x: NDArray[np.float64], kernel: int, stride: int) -> NDArray[np.float64]:
    """Return a kernel's input at each position: (channels, rows, columns, kernel, kernel)."""
    seen = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
    return seen[:, ::stride, ::stride]


def plus_by_hand(weights: Weights, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute SqueezeDet+ in NumPy from the authors' description, not from our list of layers."""

    def conv(x: NDArray[np.float64], name: str, stride: int = 1) -> NDArray[np.float64]:
        w, b = (weights.arrays[f"{name}_{part}"].astype(np.float64) for part in "wb")
        if stride == 1 and w.shape[2] == 3:
            x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        seen = windows(x, w.shape[2], stride)
        return np.einsum("ocij,cyxij->oyx", w, seen, optimize=True) + b[:, None, None]

    mean = np.reshape(weights.profile.input.mean, (3, 1, 1))
    x = np.maximum(conv(pixels.astype(np.float64) - mean, "conv1", stride=2), 0)
    for number in range(1, 12):
        if number > 1:
            squeezed = np.maximum(conv(x, f"fire{number}_squeeze1x1"), 0)
            branches = [conv(squeezed, f"fire{number}_expand{size}") for size in ("1x1", "3x3")]
            x = np.maximum(np.concatenate(branches), 0)
        if number in (1, 4, 8):
            x = windows(x, 3, 2).max((3, 4))
    return conv(x, "conv12")


def test_valid_padding_matches_numpy(plus: Weights) -> None:
    pixels = np.random.default_rng(4).uniform(0, 255, (1, 3, 51, 82)).astype(np.float32)
    expected = plus_by_hand(plus, pixels[0])
    assert expected.shape == (72, 2, 3)
    got = run(build_onnx(plus, 82, 51), pixels)[0]
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    half = run(build_onnx(plus, 82, 51, "fp16"), pixels)[0]
    np.testing.assert_allclose(half, expected, atol=0.02 * np.abs(expected).max())


def test_graph_with_valid_padding_has_the_grid_of_the_paper(plus: Weights) -> None:
    model = build_onnx(plus)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, 72, 22, 76]
    assert plus.profile.head(1242, 375).output_shape == (72, 22, 76)
    with pytest.raises(NetworkError, match="at least 35x35"):
        build_onnx(plus, 64, 34)


def test_valid_padding_runs_in_the_backend(plus: Weights) -> None:
    """Compare the back end's boxes with the reference decoder's, from the graph's output."""
    settings = EngineSettings(plus, 100, 70, DetectParams(threshold=0.0))
    backend = CpuBackend(settings, CpuOptions(), "test")
    slot = backend.new_slot()
    image = np.random.default_rng(5).integers(0, 256, (70, 100, 3), np.uint8)
    slot.preprocess([image])
    slot.infer()
    (found,) = slot.detect()
    output = run(build_onnx(plus, 100, 70), image.transpose(2, 0, 1)[None].astype(np.float32))
    expected = reference.detect(output[0], settings.head(), settings.detect)
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)


def test_normalisation_is_part_of_the_graph(weights: Weights) -> None:
    """Check that an equal shift of mean and pixels has no effect, and that a scale is applied."""
    rng = np.random.default_rng(1)
    pixels = rng.uniform(0, 255, (1, 3, 32, 32)).astype(np.float32)
    plain = run(build_onnx(weights, 32, 32), pixels)
    profile = weights.profile
    shifted = profile.input.model_copy(update={"mean": tuple(m + 5 for m in profile.input.mean)})
    other = run(build_onnx(with_profile(weights, input=shifted), 32, 32), pixels + 5)
    np.testing.assert_allclose(other, plain, atol=1e-2)
    scaled = profile.input.model_copy(
        update={"mean": tuple(m / 255 for m in profile.input.mean), "scale": 255.0}
    )
    other = run(build_onnx(with_profile(weights, input=scaled), 32, 32), pixels / 255)
    np.testing.assert_allclose(other, plain, atol=1e-2)


def test_fp16_graph_holds_only_halves_and_agrees(weights: Weights) -> None:
    model = build_onnx(weights, 64, 32, precision="fp16")
    assert {c.data_type for c in model.graph.initializer} == {TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 32
    for node in convolutions:
        assert types[node.output[0]] == TensorProto.FLOAT16, node.name
        assert types[node.input[0]] == TensorProto.FLOAT16, node.name
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    rng = np.random.default_rng(2)
    pixels = rng.uniform(0, 255, (1, 3, 32, 64)).astype(np.float32)
    half, single = run(model, pixels), run(build_onnx(weights, 64, 32), pixels)
    np.testing.assert_allclose(half, single, atol=0.05)


def test_model_holds_its_profile_and_its_weights_exactly(weights: Weights) -> None:
    model = build_onnx(weights)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert type(weights.profile).model_validate_json(props["profile"]) == weights.profile
    stored = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(stored[name], array)


def test_batches_can_be_fixed_or_free(weights: Weights) -> None:
    two = run(build_onnx(weights, 32, 32, batch=2), np.zeros((2, 3, 32, 32), np.float32))
    assert two.shape == (2, 72, 2, 2)
    free = build_onnx(weights, 32, 32, batch="n")
    assert run(free, np.zeros((3, 3, 32, 32), np.float32)).shape == (3, 72, 2, 2)


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Round every convolution's input to 8 bits, as in a calibrated model."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            source, name = node.input[0], node.name
            scale, zero = f"{name}_scale", f"{name}_zero"
            levels = numpy_helper.from_array(np.float32(0.5 if name == "conv1" else 2.0), scale)
            middle = numpy_helper.from_array(np.int8(0), zero)
            model.graph.initializer.extend([levels, middle])
            for kind, before, after in (
                ("QuantizeLinear", source, f"{name}_q"),
                ("DequantizeLinear", f"{name}_q", f"{name}_dq"),
            ):
                nodes.append(onnx.helper.make_node(kind, [before, scale, zero], [after]))
            node.input[0] = f"{name}_dq"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_backend_runs_an_int8_model(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    onnx.save(quantised(build_onnx(weights, 64, 32)), path)
    detect = DetectParams(threshold=0.0)
    for width, height in ((64, 32), (96, 48)):  # the model works at any size
        settings = EngineSettings(weights, width, height, detect, int8=path)
        backend = CpuBackend(settings, CpuOptions(), "test")
        assert backend.info.precision == "int8"
        slot = backend.new_slot()
        slot.preprocess([np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)])
        slot.infer()
        assert len(slot.detect()[0]) > 0


@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
def test_ignores_the_int8_model_if_another_precision_is_asked_for(
    weights: Weights, tmp_path: Path, asked: Any
) -> None:
    settings = EngineSettings(weights, 64, 32, DetectParams(), int8=tmp_path / "none.onnx")
    info = CpuBackend(settings, CpuOptions(precision=asked), "test").info
    assert info.precision == asked
    computed = asked.upper() in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert info.device.endswith(f", no {asked}: computes in fp32") != computed


def test_rejects_int8_without_a_quantised_model(weights: Weights) -> None:
    settings = EngineSettings(weights, 64, 32, DetectParams())
    assert CpuBackend(settings, CpuOptions(), "test").info.precision == "fp32"
    with pytest.raises(ConfigError, match="no quantised model beside them; python -m engines quan"):
        CpuBackend(settings, CpuOptions(precision="int8"), "test")


def test_rejects_a_model_that_does_not_belong_to_the_weights(
    weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(build_onnx(weights, 64, 32), path)
    with pytest.raises(WeightsError, match="expected a quantised model, got one in float"):
        load_onnx(path, weights, 64, 32)
    with pytest.raises(WeightsError, match="its profile is not that of the weights"):
        load_onnx(path, with_profile(weights, padding="same_upper"), 64, 32)
    # A model is rejected after its weights were trained again under the same name.
    stale = quantised(build_onnx(weights, 64, 32))
    stale.metadata_props.add(key=DIGEST, value=weights.digest())
    onnx.save(stale, path)
    load_onnx(path, weights, 64, 32)
    arrays = {name: array * np.float32(1.01) for name, array in weights.arrays.items()}
    with pytest.raises(WeightsError, match=r"it was not made from the weights .* quantize"):
        load_onnx(path, replace(weights, arrays=arrays), 64, 32)
    assert stale.metadata_props.pop().key == DIGEST  # earlier versions wrote no digest
    onnx.save(stale, path)
    load_onnx(path, replace(weights, arrays=arrays), 64, 32)
    path.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="is not a valid ONNX model"):
        load_onnx(path, weights, 64, 32)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_onnx(tmp_path / "none.onnx", weights, 64, 32)
