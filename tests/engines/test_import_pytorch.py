"""Importing state dictionaries of the PyTorch implementation."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.importing.pytorch import read_pytorch
from squeezedrive.engines.model.weights import load_weights
from squeezedrive.kernels.reference import decode
from tests.support.foreign import (
    AS_OURS,
    SIZE,
    Arrays,
    assert_same_found,
    own_weights,
    run_network,
    with_head,
)

OWN = own_weights()
MEAN, STD = (93.877, 98.801, 95.923), (78.782, 80.130, 81.200)
FIRES = {3: 2, 4: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8, 12: 9, 13: 10, 14: 11}


def state(arrays: Arrays, prefix: str = "base.") -> dict[str, Any]:
    """Return tensors, keyed by their names in the PyTorch implementation."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[train]'")
    layers = {"features.0": "conv1", "convdet": "conv12"}
    for position, number in FIRES.items():
        layers[f"features.{position}.squeeze"] = f"fire{number}_squeeze1x1"
        layers[f"features.{position}.expand1x1"] = f"fire{number}_expand1x1"
        layers[f"features.{position}.expand3x3"] = f"fire{number}_expand3x3"
    return {
        f"{prefix}{theirs}.{kind}": torch.from_numpy(arrays[f"{ours}_{kind[0]}"])
        for theirs, ours in layers.items()
        for kind in ("weight", "bias")
    }


def save(path: Path, content: Any) -> Path:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[train]'")
    torch.save(content, path)
    return path


def run(source: Path, *options: object) -> tuple[int, Path]:
    out = source.with_name("ours.npz")
    words = ("import", source, "--layout", "pytorch", "--out", out, *options)
    return main([str(word) for word in words]), out


def foreign() -> Arrays:
    """Return the project's weights, converted for RGB pixels divided by standard deviations."""
    arrays = with_head(OWN, "per_anchor", OWN.profile.output.classes)
    factor = np.array(STD, np.float32)[:, None, None]
    arrays["conv1_w"] = np.ascontiguousarray(arrays["conv1_w"][:, ::-1] * factor)
    return arrays


def test_imports_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = foreign()
    code, out = run(save(tmp_path / "a.pth", {"epoch": 290, "state_dict": state(arrays)}))
    assert code == 0
    weights = load_weights(out)
    for name, array in arrays.items():
        if name not in ("conv1_w", "conv12_b"):
            np.testing.assert_array_equal(weights.arrays[name], array)
    profile = weights.profile
    assert profile.input.channels == "RGB"
    assert profile.input.mean == MEAN
    scaled = weights.arrays["conv1_w"] * profile.input.scale * np.array(STD)[:, None, None]
    np.testing.assert_allclose(scaled, arrays["conv1_w"], rtol=1e-5)
    assert profile.anchors.shapes[0] == (34, 30)
    assert profile.anchors.centres == "half_stride"
    assert profile.output.layout == "per_anchor"
    assert profile.output.exponential_threshold is None
    assert profile.output.classes == ("car", "pedestrian", "cyclist")
    text = capsys.readouterr().out
    assert "conv1 divides each colour by its own deviation" in text
    assert "the bias of conv12 moves boxes 1 px right and down" in text


@pytest.mark.parametrize("prefix", ["", "module.base."])
def test_imported_weights_find_the_same_boxes(tmp_path: Path, prefix: str) -> None:
    source = save(tmp_path / "a.pth", state(foreign(), prefix))
    code, out = run(source, *AS_OURS, "--mean", "123.68,116.779,103.939")
    assert code == 0
    weights = load_weights(out)
    np.testing.assert_array_equal(weights.arrays["conv12_b"], OWN.arrays["conv12_b"])
    assert_same_found(OWN, weights)


def original(arrays: Arrays, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the output as the PyTorch code does: conv1 pads both sides, pools pad the end."""
    import torch
    from torch.nn import functional as F

    def conv(name: str, x: Any, **options: int) -> Any:
        weight, bias = (torch.from_numpy(arrays[f"{name}_{kind}"]) for kind in "wb")
        return F.conv2d(x, weight, bias, **options)

    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    x = (torch.from_numpy(pixels) - mean) / deviation
    x = F.relu(conv("conv1", x[None], stride=2, padding=1))
    for number in range(2, 12):
        if number in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = F.relu(conv(f"fire{number}_squeeze1x1", x))
        sides = [conv(f"fire{number}_expand1x1", x), conv(f"fire{number}_expand3x3", x, padding=1)]
        x = torch.cat([F.relu(side) for side in sides], dim=1)
    return np.asarray(conv("conv12", x, padding=1)[0].numpy())


def test_imported_weights_match_the_original_code_after_a_shift(tmp_path: Path) -> None:
    """Our padding reads one pixel further right and down, so the test moves the picture by one."""
    arrays = foreign()
    sizes = [8 * anchor + 6 + side for anchor in range(9) for side in range(2)]
    arrays["conv12_b"][sizes] -= 2  # boxes so small that they lie inside the picture
    code, out = run(save(tmp_path / "a.pth", state(arrays)))
    assert code == 0
    ours = load_weights(out)
    width, height = SIZE
    mean = np.array(MEAN, np.float32)[:, None, None]
    pixels = np.random.default_rng(0).uniform(0, 255, (3, height, width)).astype(np.float32)
    pixels[:, -1], pixels[:, :, -1] = mean[:, 0], mean[:, 0]  # the move cuts this edge off
    moved = np.broadcast_to(mean, pixels.shape).copy()
    moved[:, 1:, 1:] = pixels[:, :-1, :-1]
    head = ours.profile.head(*SIZE)
    expected, scores, classes = decode(original(arrays, pixels), head)
    got, got_scores, got_classes = decode(run_network(ours, moved), head)
    inside = ((expected > 0) & (got < [width - 1, height - 1] * 2)).all(axis=1)
    assert inside.mean() > 0.2
    np.testing.assert_allclose(got[inside], expected[inside] + 1, atol=0.01)
    np.testing.assert_allclose(got_scores, scores, atol=1e-5)
    np.testing.assert_array_equal(got_classes, classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base.features.15.weight": 1.0}, "base.features.15.weight is not a tensor of"),
        ({"classifier.1.bias": 1.0}, "expected names like base.features.0.weight and base.convdet"),
        ({"base.convdet.bias": None}, "conv12_b is missing; expected 64 tensors, got 63"),
        ({"epoch": 3}, "expected a dictionary of tensors, or one as its state_dict"),
    ],
)
def test_rejects_tensors_that_do_not_fit(
    tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[train]'")
    content = state(foreign())
    for name, value in change.items():
        content.pop(name, None)
        if value is not None:
            content[name] = torch.tensor(value) if isinstance(value, float) else value
    code, out = run(save(tmp_path / "a.pth", content))
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()


class Trap:
    """An object that fails the test when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("unpickled",)


def test_runs_no_code_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "a.pth", {"state_dict": Trap()})
    assert run(source)[0] == 2
    assert capsys.readouterr().err.count("\n") == 1
    for text in ("", "no weights"):
        source.write_text(text)
        assert run(source)[0] == 2
        assert "expected a state dictionary" in capsys.readouterr().err
    source.unlink()
    assert run(source)[0] == 2
    assert "no such weights file" in capsys.readouterr().err
    assert read_pytorch(save(source, state(foreign()))).left_out == ()


def test_names_the_missing_package_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "a.pth")[0] == 2
    assert "needs PyTorch: pip install -e '.[train]'" in capsys.readouterr().err
