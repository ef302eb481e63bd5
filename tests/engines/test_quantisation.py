"""The int8 graph compared with the float graph, its calibration, and the verb `quantize`."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.graph import unsigned
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.model.onnx_graph import build_onnx, load_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, int8_model, load_weights
from squeezedrive.engines.quantisation.calibrate import (
    SHARE,
    Histogram,
    compile_graph,
    correct_output,
    measure_limits,
    surest_cells,
)
from squeezedrive.engines.quantisation.graph import (
    quantise,
    quantise_weights,
    quantised_values,
)
from squeezedrive.engines.quantisation.pictures import spread
from squeezedrive.engines.quantisation.sensitivity import NoiseMeter, choose_float_layers, decibels
from squeezedrive.kernels.params import DetectParams
from tests.support.labelled import kitti_line, write_kitti

SIZE = (96, 48)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights(DEFAULT)


@pytest.fixture(scope="module")
def model(weights: Weights) -> onnx.ModelProto:
    return build_onnx(weights, *SIZE)


@pytest.fixture(scope="module")
def pixels() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (4, 1, 3, SIZE[1] // 8, SIZE[0] // 8))
    return list(np.repeat(np.repeat(blocks, 8, axis=3), 8, axis=4).astype(np.float32))


@pytest.fixture(scope="module")
def limits(weights: Weights, model: onnx.ModelProto, pixels: list[np.ndarray]) -> dict[str, float]:
    return measure_limits(model, pixels, weights.profile.head(*SIZE))


def test_clips_the_heads_input_by_cells_that_may_hold_objects(
    weights: Weights, model: onnx.ModelProto, pixels: list[np.ndarray]
) -> None:
    """Training makes values in other cells grow; these must not make the steps coarse."""
    head = weights.profile.head(*SIZE)
    output = np.stack([np.asarray(compile_graph(model)(p)[0][0]) for p in pixels])
    cells = surest_cells(output, head)
    confidence = output[:, head.channels[:, head.classes]].max(axis=1)
    for sure, values in zip(cells, confidence, strict=True):
        assert 1 <= sure.sum() <= 1 + SHARE * sure.size
        assert values[sure].min() >= values[~sure].max()
    grown = onnx.ModelProto()
    grown.CopyFrom(model)
    last = grown.graph.node[-1].input[0]
    run = compile_graph(_tap(grown, last))
    seen = np.concatenate([np.asarray(run(p)[1]).transpose(0, 2, 3, 1) for p in pixels])
    limit = measure_limits(model, pixels, head)[last]
    assert 0 < limit <= seen[cells].max()


def _tap(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return model


def test_rounds_weights_by_output_channel() -> None:
    weights = np.array([[0.9, -2.0, 0.5], [0.1, 0.3, 0.0], [0, 0, 0]], np.float32)
    steps, scale = quantise_weights(weights.reshape(3, 3, 1, 1))
    np.testing.assert_allclose(scale, [2 / 63, 0.3 / 63, 1], rtol=1e-6)
    # 0.5 is 15.75 steps, 0.9 is 28.35.
    assert steps.reshape(3, 3).tolist() == [[28, -63, 16], [21, 63, 0], [0, 0, 0]]
    assert steps.dtype == np.int8


def test_limit_clips_rare_large_values() -> None:
    histogram = Histogram()
    values = np.random.default_rng(0).normal(0, 1, 100_000).astype(np.float32)
    histogram.add(values)
    assert 3.5 < histogram.best_limit() < np.abs(values).max()
    histogram.add(np.array([100.0], np.float32))  # beyond the bins of the first values
    assert histogram.largest == 100
    assert (
        50 < histogram.best_limit() < 80
    )  # the limit clips this one value instead of making all steps coarse
    zeros = Histogram()
    zeros.add(np.zeros(5, np.float32))
    assert zeros.best_limit() == 0


def test_quantised_graph_computes_nearly_the_same(
    model: onnx.ModelProto, limits: dict[str, float], pixels: list[np.ndarray]
) -> None:
    quantised = quantise(model, limits)
    run, expected_run = compile_graph(quantised), compile_graph(model)
    output = np.concatenate([run(p)[0] for p in pixels])
    expected = np.concatenate([expected_run(p)[0] for p in pixels])
    noise = ((output - expected) ** 2).mean() / expected.var()
    assert -10 * np.log10(noise) > 15
    assert noise > 0


def test_every_convolution_reads_bytes_with_its_own_scale(
    model: onnx.ModelProto, limits: dict[str, float]
) -> None:
    graph = quantise(model, limits).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 32
    for node in convolutions:
        assert constants[f"{node.input[1]}_int8"].dtype == np.int8
        assert constants[f"{node.input[1]}_scale"].shape == (
            constants[f"{node.input[1]}_int8"].shape[0],
        )
        assert constants[node.input[2]].dtype == np.float32
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]] == 0  # the only zero point that TensorRT accepts
            assert constants[node.input[1]] == pytest.approx(limits[node.input[0]] / 127, rel=1e-6)
    # A value that two convolutions read, such as the input of fire2's expansions, is rounded once.
    names = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(names) == len(set(names)) == len(set(quantised_values(model).values()))


def test_pairs_of_products_fit_into_16_bits(
    model: onnx.ModelProto, limits: dict[str, float]
) -> None:
    """Processors without VNNI instructions add pairs of products in 16 bits."""
    graph = unsigned(quantise(model, limits)).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    types = {
        node.input[0]: constants[node.input[2]].dtype
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert types.pop("centred") == np.int8  # pixels minus their mean
    assert set(types.values()) == {np.dtype(np.uint8)}
    for name in ("centred", *types):
        levels = 127 if name == "centred" else 255
        assert constants[f"{name}_scale"] == pytest.approx(limits[name] / levels, rel=1e-6)
    for name, steps in constants.items():
        if name.endswith("_w_int8"):
            assert 2 * 255 * int(np.abs(steps.astype(int)).max()) < 2**15


def test_layers_may_stay_in_float(model: onnx.ModelProto, limits: dict[str, float]) -> None:
    every = list(quantised_values(model))
    same = quantise(model, limits, every)
    assert [n.op_type for n in same.graph.node] == [n.op_type for n in model.graph.node]
    one = quantise(model, limits, ["conv12"])
    constants = {c.name for c in one.graph.initializer}
    assert "conv12_w" in constants
    assert "conv12_w_int8" not in constants


class Additive:
    """A network whose noise is the sum of the noise of its quantised layers."""

    def __init__(self, **noises: float) -> None:
        self.layers = tuple(noises)
        self.asked = 0
        self._noises = noises

    def noise(self, float_layers: Collection[str]) -> float:
        self.asked += 1
        return sum(noise for name, noise in self._noises.items() if name not in float_layers)


def test_leaves_as_few_layers_as_possible_in_float() -> None:
    fine = Additive(a=0.1, b=0.1)
    assert choose_float_layers(fine, enough_db=6) == ()  # type: ignore[arg-type]
    assert fine.asked == 1  # single layers are not tried if all can be quantised
    done: list[int] = []
    noisy = Additive(a=0.02, b=0.5, c=0.01, d=0.3)
    assert choose_float_layers(noisy, done.append, 10) == ("b", "d")  # type: ignore[arg-type]
    assert done == [1, 2, 3, 4]
    assert decibels(0.01) == pytest.approx(20)
    assert decibels(0) == float("inf")


def test_noise_vanishes_if_the_layers_that_cause_it_stay_in_float(
    weights: Weights, model: onnx.ModelProto, limits: dict[str, float], pixels: list[np.ndarray]
) -> None:
    head = weights.profile.head(*SIZE)
    readers = ("fire5_expand1x1", "fire5_expand3x3")
    good = NoiseMeter(model, limits, pixels, head).noise(())
    # A limit this low destroys the output of fire5's squeeze layer.
    spoilt = NoiseMeter(model, {**limits, "fire5_squeeze1x1": 1e-3}, pixels, head)
    assert spoilt.noise(()) > 10 * good
    assert spoilt.noise(readers) < 2 * good


def test_spread_picks_pictures_at_equal_distances() -> None:
    pictures = [Path(f"{number}.jpg") for number in range(10)]
    assert spread(pictures, 2) == [pictures[2], pictures[7]]
    assert spread(pictures, 99) == pictures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    text = kitti_line("Car", (10, 5, 60, 40))
    return write_kitti(tmp_path / "kitti", {"a": text, "b": text, "c": ""}, "train")


def test_verb_writes_a_model_that_runs(
    data: Path, tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.onnx"
    options = ["--data", str(data), "--size", "96x48", "--keep-float", "conv1", "fire2"]
    assert main(["quantize", str(out), *options]) == 0
    text = capsys.readouterr().out
    assert "calibrating with 3 pictures of kitti train, 96x48, fit band" in text
    assert "28 convolutions in int8, in float conv1, fire2_squeeze1x1" in text
    assert out.stat().st_size < 3e6
    stored = {p.key: p.value for p in onnx.load(out).metadata_props}
    how = json.loads(stored["quantisation"])
    assert (how["images"], how["data"]) == (3, ["kitti train"])
    settings = EngineSettings(weights, 128, 64, DetectParams(), int8=out)
    assert CpuBackend(settings, CpuOptions(), "test").info.precision == "int8"

    assert main(["quantize", str(out), *options]) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err


def test_calibrates_with_any_folder_of_pictures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "training" / "label_2").iterdir():
        path.unlink()
    for root in (data, data / "training" / "image_2"):
        out = tmp_path / f"{root.name}.onnx"
        options = ["--data", str(root), "--size", "96x48", "--keep-float", "none"]
        assert main(["quantize", str(out), *options]) == 0
        said = capsys.readouterr().out
        assert f"calibrating with 3 pictures of {root.name} train, 96x48" in said


def test_failed_write_leaves_no_file_behind(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    out = tmp_path / "int8.onnx"
    quantize = ["quantize", str(out), "--data", str(data), "--size", "96x48", "--keep-float"]
    for arguments in ([*quantize, "none"], ["export", str(out), "--size", "96x48"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error == f"error: {out}: cannot be written: No space left on device\n"
        assert [path.name for path in tmp_path.iterdir()] == ["kitti"]


def test_prints_lost_ap_and_gained_speed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--size", "96x48", "--keep-float", "none"]
    options += ["--evaluate", str(data), "--eval-split", "train"]
    assert main(["quantize", str(tmp_path / "int8.onnx"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("KITTI AP, 11 recall points"))
    assert lines[start + 1].split() == ["fp32", "int8", "lost"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[start + 2 : start + 6]}
    assert list(rows) == ["car", "pedestrian", "cyclist", "mean"]
    before, after, lost = map(float, rows["mean"])
    assert lost == pytest.approx(before - after, abs=0.011)
    assert rows["cyclist"] == ["-"] * 3  # no cyclist is labelled
    assert lines[start + 7].startswith("time of the network in ms, median of 60 in turn; OpenVINO")
    assert [part.split()[0] for part in lines[start + 8].split(", ")][-1] == "int8"
    assert re.fullmatch(r"int8 is \d+\.\d\d times as fast as fp32", lines[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.bin"], "expected a name that ends in .onnx"),
        (["none/x.onnx"], "the folder none does not exist"),
        (["x.onnx", "--keep-float", "fire99"], "unknown layer 'fire99', expected auto, none, or"),
        (["x.onnx", "--split", "val"], "no such split"),
    ],
)
def test_rejects_wrong_arguments_in_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", *arguments, "--data", str(data)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_shipped_model_belongs_to_the_shipped_weights(weights: Weights) -> None:
    path = int8_model(DEFAULT)
    assert path is not None
    assert path.stat().st_size < 3e6
    load_onnx(path, weights, 1248, 384)


def test_correction_removes_the_mean_error_of_each_output_channel(
    weights: Weights, model: onnx.ModelProto, limits: dict[str, float], pixels: list[np.ndarray]
) -> None:
    head = weights.profile.head(*SIZE)
    coarse = {name: 3 * limit for name, limit in limits.items()}  # makes the rounding error large

    def mean_error(graph: onnx.ModelProto) -> np.ndarray:
        errors = []
        for picture in pixels:
            expected = np.array(compile_graph(model)(picture)[0], np.float64)
            error = np.asarray(compile_graph(graph)(picture)[0], np.float64) - expected
            errors.append(error.transpose(0, 2, 3, 1)[surest_cells(expected, head)])
        return np.abs(np.concatenate(errors).mean(axis=0))

    before = quantise(model, coarse)
    after = correct_output(before, model, pixels, head)
    assert mean_error(before).max() > 0.05
    assert mean_error(after).max() < 1e-4
