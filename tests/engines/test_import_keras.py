"""Importing weights that Keras wrote into HDF5."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.model.weights import load_weights
from tests.support.foreign import AS_OURS, Arrays, assert_same_found, hwio, own_weights, with_head

CLASSES = ("cyclist", "pedestrian", "car")
OWN = own_weights()
OWN_PIXELS = ("--mean", "103.939,116.779,123.68", "--std", "1")


def datasets(first: str = "conv2d_1", prefix: str = "") -> dict[str, Any]:
    """Return the project's weights, keyed by the paths that `save_weights` of Keras writes."""
    arrays = {}
    for name, array in hwio(with_head(OWN, "by_kind", CLASSES), "kernel", "bias").items():
        layer, kind = name.rsplit("/", 1)
        layer = first if layer == "conv1" else layer
        arrays[f"{prefix}{layer}/{layer}/{kind}:0"] = array
    return arrays


def save(path: Path, arrays: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs h5py: pip install -e '.[import]'")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["keras_version"] = "2.1.2"
        file.create_group("drop11")  # layers without weights are empty groups
    return path


def run(source: Path, *options: object) -> tuple[int, Path]:
    out = source.with_name("ours.npz")
    words = ("import", source, "--layout", "keras", "--out", out, *options)
    return main([str(word) for word in words]), out


def assert_arrays(out: Path, expected: Arrays) -> None:
    for name, array in load_weights(out).arrays.items():
        np.testing.assert_array_equal(array, expected[name])


def test_imports_saved_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(save(tmp_path / "model.hdf5", datasets()))
    assert code == 0
    assert_arrays(out, with_head(OWN, "by_kind", CLASSES))
    profile = load_weights(out).profile
    assert profile.output.classes == CLASSES
    assert profile.output.layout == "by_kind"
    assert profile.padding == "same_upper"
    assert profile.anchors.centres == "even"
    assert profile.input.mean == (94.4, 94.4, 94.4)
    assert profile.input.scale == pytest.approx(1 / 78.7)
    assert "that picture's own mean and deviation" in capsys.readouterr().out


def test_imported_weights_find_the_same_boxes(tmp_path: Path) -> None:
    code, out = run(save(tmp_path / "model.hdf5", datasets()), *AS_OURS, *OWN_PIXELS)
    assert code == 0
    assert_same_found(OWN, load_weights(out))


@pytest.mark.parametrize("first", ["conv2d", "conv2d_12", "conv1"])
def test_imports_a_whole_model_with_its_optimizer(
    tmp_path: Path, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = datasets(first, "model_weights/")
    arrays["optimizer_weights/SGD/iterations:0"] = np.int64(5)
    arrays["optimizer_weights/training/SGD/conv12/kernel/momentum:0"] = np.zeros(3)
    code, out = run(save(tmp_path / "model.hdf5", arrays))
    assert code == 0
    assert_arrays(out, with_head(OWN, "by_kind", CLASSES))
    assert "left out: 2 that belong to its training" in capsys.readouterr().out


def test_imports_a_model_of_several_gpus(tmp_path: Path) -> None:
    """Keras puts the model that each GPU runs into a separate group."""
    arrays = {
        f"model_1/{name.split('/', 1)[1]}" if name.startswith("conv") else name: array
        for name, array in datasets().items()
    }
    code, out = run(save(tmp_path / "model.hdf5", arrays))
    assert code == 0
    assert_arrays(out, with_head(OWN, "by_kind", CLASSES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2d_2/conv2d_2/kernel:0": np.zeros(3)}, "conv2d_2/conv2d_2/kernel:0 occurs twice"),
        ({"dense/dense/kernel:0": np.zeros(3)}, "dense/dense/kernel:0 is not a tensor of"),
        ({b"dense\xff/kernel:0": np.zeros(3)}, "dense\ufffd/kernel:0 is not a tensor of"),
        ({"conv12/note": "text"}, "conv12/note is not a tensor of SqueezeDet"),
        ({"conv12/conv12/bias:0": np.zeros(27)}, "conv12_w of squeezedet: expected shape (27, 768"),
    ],
)
def test_rejects_tensors_that_do_not_fit(
    tmp_path: Path, change: dict[Any, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(save(tmp_path / "model.hdf5", {**datasets(), **change}))
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()


def test_rejects_files_that_are_not_hdf5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py", reason="needs h5py: pip install -e '.[import]'")
    source = tmp_path / "model.hdf5"
    assert run(source)[0] == 2
    assert "no such weights file" in capsys.readouterr().err
    source.write_text("not weights")
    assert run(source)[0] == 2
    assert "expected an HDF5 file" in capsys.readouterr().err


def test_names_the_missing_package_h5py(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "model.hdf5")[0] == 2
    assert "needs h5py: pip install -e '.[import]'" in capsys.readouterr().err
