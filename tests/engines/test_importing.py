"""Importing weights with the names and the order of other code."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.select import open_backend
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.evaluation.evaluate import evaluate
from squeezedrive.engines.evaluation.run import DETECT, find_all
from squeezedrive.engines.importing.tensors import convolutions, own_name
from squeezedrive.engines.model.network import SQUEEZEDET_PLUS
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from tests.support.foreign import AS_OURS, Arrays, assert_same_found, hwio, own_weights, with_head

CLASSES = ("car", "pedestrian", "cyclist")
OWN = own_weights()


def variables() -> Arrays:
    """Return the project's weights as the variables of the authors' code."""
    return hwio(with_head(OWN, "by_kind", CLASSES), "kernels", "biases")


def run(source: Path, *options: object, layout: str = "authors") -> tuple[int, Path]:
    out = source.with_name("ours.npz")
    words = ("import", source, "--layout", layout, "--out", out, *options)
    return main([str(word) for word in words]), out


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def profile_of(weights: Path) -> Profile:
    return load_weights(weights).profile


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "source.npz", variables())


def test_imports_the_variables_of_the_authors_code(source: Path) -> None:
    code, out = run(source)
    assert code == 0
    weights = load_weights(out)
    for name, array in with_head(OWN, "by_kind", CLASSES).items():
        np.testing.assert_array_equal(weights.arrays[name], array)
    profile = weights.profile
    assert profile.name == "ours"
    assert (profile.input.width, profile.input.height) == (1248, 384)
    assert profile.input.channels == "BGR"
    assert profile.input.mean == (103.939, 116.779, 123.68)
    assert profile.input.scale == 1
    assert profile.padding == "same_upper"
    assert profile.anchors.centres == "even"
    assert profile.anchors.shapes == OWN.profile.anchors.shapes
    assert profile.output.layout == "by_kind"
    assert profile.output.classes == CLASSES
    assert profile.output.exponential_threshold == 1
    assert profile.licence == "not stated"
    assert profile.training["imported"] == "source.npz, layout authors"
    assert len(profile.training["sha256"]) == 64


def test_imported_weights_find_the_same_boxes(source: Path) -> None:
    code, out = run(source, *AS_OURS)
    assert code == 0
    assert_same_found(OWN, load_weights(out))


def test_imports_a_checkpoint_with_variables_of_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays: dict[str, Any] = {f"{name}:0": array for name, array in variables().items()}
    arrays |= {f"{name}/Momentum": array for name, array in variables().items()}
    arrays |= {"global_step": np.int64(87000), "iou": np.zeros((20, 16848))}
    code, out = run(save(tmp_path / "source.npz", arrays))
    assert code == 0
    np.testing.assert_array_equal(load_weights(out).arrays["conv1_w"], OWN.arrays["conv1_w"])
    text = capsys.readouterr().out
    assert "squeezedet, 64 tensors" in text
    assert "left out: 66 that belong to its training (conv1/kernels/Momentum, " in text


@pytest.mark.parametrize(
    "rename", [str, lambda n: n.replace("_w", ".weight").replace("_b", ".bias")]
)
def test_imports_arrays_in_our_order_with_similar_names(
    tmp_path: Path, rename: Callable[[str], str]
) -> None:
    arrays = {rename(name): array.astype(np.float64) for name, array in OWN.arrays.items()}
    code, out = run(save(tmp_path / "source.npz", arrays), "--head", "per_anchor", *AS_OURS)
    assert code == 0
    weights = load_weights(out)
    for name, array in OWN.arrays.items():
        np.testing.assert_array_equal(weights.arrays[name], array)
    same = ("input", "padding", "anchors", "output", "parameters")
    for key in same:
        assert getattr(weights.profile, key) == getattr(OWN.profile, key)


@pytest.mark.parametrize("order", ["oihw", "hwio"])
def test_widens_a_head_of_1x1_to_3x3(
    tmp_path: Path, order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(OWN.arrays)
    centre = arrays["conv12_w"][:, :, 1:2, 1:2]
    arrays["conv12_w"] = centre if order == "oihw" else centre.transpose(2, 3, 1, 0)
    code, out = run(save(tmp_path / "source.npz", arrays))
    assert code == 0
    wide = load_weights(out).arrays["conv12_w"]
    np.testing.assert_array_equal(wide[:, :, 1, 1], centre[..., 0, 0])
    assert np.count_nonzero(wide) == np.count_nonzero(centre)
    assert "conv12 was 1x1" in capsys.readouterr().out


def test_recognises_squeezedet_plus(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for step in convolutions(SQUEEZEDET_PLUS, 72):
        shape = (step.kernel, step.kernel, step.in_channels, step.out_channels)
        arrays[f"{step.name}/kernels"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"{step.name}/biases"] = np.zeros(step.out_channels, np.float32)
    code, out = run(save(tmp_path / "source.npz", arrays))
    assert code == 0
    profile = profile_of(out)
    assert profile.network == "squeezedet-plus"
    assert (profile.input.width, profile.input.height, profile.padding) == (1242, 375, "valid")
    assert profile.anchors.shapes == OWN.profile.anchors.shapes


def test_options_set_every_property_that_the_file_lacks(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = tmp_path / "anchors.yaml"
    anchors.write_text("network: {anchors: {shapes: [[10, 20], [30, 40.5]]}}")
    arrays = variables()
    arrays["conv12/kernels"] = arrays["conv12/kernels"][..., :18]
    arrays["conv12/biases"] = arrays["conv12/biases"][:18]
    code, out = run(
        save(source, arrays), "--size", "320x160", "--classes", "truck, bus,tram, moose",
        "--anchors", anchors, "--centres", "half_stride", "--channels", "RGB", "--mean", "127.5",
        "--std", "58", "--padding", "symmetric", "--head", "per_anchor", "--exponential", "none",
        "--name", "mine", "--licence", "CC0",
    )  # fmt: skip
    assert code == 0
    profile = profile_of(out)
    assert profile.name == "mine"
    assert profile.licence == "CC0"
    assert (profile.input.width, profile.input.height) == (320, 160)
    assert profile.input.channels == "RGB"
    assert profile.input.mean == (127.5,) * 3
    assert profile.input.scale == 1 / 58
    assert profile.padding == "symmetric"
    assert profile.anchors.shapes == ((10, 20), (30, 40.5))
    assert profile.anchors.centres == "half_stride"
    assert profile.output.layout == "per_anchor"
    assert profile.output.classes == ("truck", "bus", "tram", "moose")
    assert profile.output.exponential_threshold is None
    assert profile.training["assumed"] == []
    assert capsys.readouterr().out.count("(given)") == 10


def test_scales_anchors_with_the_width(source: Path) -> None:
    _, out = run(source, "--size", "624x384")
    assert profile_of(out).anchors.shapes[:2] == ((18, 18.5), (183, 87))
    assert profile_of(out).training["assumed"][:2] == ["classes", "anchors"]


def test_reads_anchors_from_a_profile(source: Path) -> None:
    profile = json.loads(DEFAULT.with_suffix(".json").read_text())
    profile["anchors"]["shapes"][0] = [1, 2]
    path = source.with_name("profile.json")
    path.write_text(json.dumps(profile))
    _, out = run(source, "--anchors", path)
    assert profile_of(out).anchors.shapes[:2] == ((1, 2), tuple(profile["anchors"]["shapes"][1]))


def test_folds_deviations_of_the_colours_into_conv1(source: Path) -> None:
    std = np.array([50.0, 60.0, 70.0])
    arrays = variables()
    arrays["conv1/kernels"] = arrays["conv1/kernels"] * std[:, None].astype(np.float32)
    code, out = run(save(source, arrays), *AS_OURS, "--std", "50,60,70")
    assert code == 0
    weights = load_weights(out)
    assert weights.profile.input.scale == pytest.approx(1 / 60)
    np.testing.assert_allclose(weights.arrays["conv1_w"], OWN.arrays["conv1_w"] * 60, rtol=1e-5)
    assert_same_found(OWN, weights)


def test_own_name_recognises_names_of_tensors() -> None:
    assert own_name("conv1/kernels") == "conv1_w"
    assert own_name("fire10/expand3x3/biases:0") == "fire10_expand3x3_b"
    assert own_name("fire2.squeeze1x1.weight") == "fire2_squeeze1x1_w"
    assert own_name("conv12_b") == "conv12_b"
    for name in ("conv13_b", "conv1", "conv1/gamma", "fire2_w", "", "fire1/squeeze1x1/kernels"):
        assert own_name(name) is None


def test_imported_reference_weights_find_most_objects(shared: Path, tmp_path: Path) -> None:
    """The reference weights were trained on KITTI; their mAP on all of val is 77 % (11 points)."""
    original = shared / "weights" / "squeezedet-reference" / "squeezedet_kitti_fp32_oihw.npz"
    if not original.is_file():
        pytest.skip(f"needs the reference weights, not found at {original}")
    source = tmp_path / "source.npz"
    shutil.copy(original, source)
    dataset = load_dataset(shared / "data" / "kitti", "val", CLASSES)
    dataset = replace(dataset, items=dataset.items[::20])
    correct = []
    for options in ((), ("--padding", "symmetric", "-y")):
        code, out = run(source, "--size", "960x288", *options)
        assert code == 0
        weights = load_weights(out)
        assert weights.profile.anchors.shapes[0] == (27.69, 28.46)
        backend = open_backend("cpu", EngineSettings(weights, 960, 288, DETECT, fit="stretch"))
        mistakes = evaluate(dataset, find_all(backend, CLASSES, dataset)).mistakes
        backend.close()
        correct.append(mistakes.objects[:, 0].sum() / mistakes.objects.sum())
    assert correct[0] > 0.75
    assert correct[1] < 0.4
