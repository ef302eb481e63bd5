"""Rejection of files and values that cannot be imported: one line, and no output file."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from tests.support.foreign import Arrays, hwio


def variables() -> Arrays:
    """Return the project's weights as the variables of the authors' code."""
    return hwio(load_weights(DEFAULT).arrays, "kernels", "biases")


def run(source: Path, *options: object) -> tuple[int, Path]:
    out = source.with_name("ours.npz")
    words = ("import", source, "--layout", "authors", "--out", out, *options)
    return main([str(word) for word in words]), out


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "source.npz", variables())


def spoiled(change: str) -> dict[str, Any]:
    arrays: dict[str, Any] = variables()
    kernel = arrays["fire2/squeeze1x1/kernels"]
    if change == "missing":
        del arrays["fire11/expand3x3/biases"]
    elif change == "no conv1":
        del arrays["conv1/kernels"]
    elif change == "unknown":
        arrays["fire12/squeeze1x1/kernels"] = kernel
    elif change == "twice":
        arrays["fire2_squeeze1x1_w"] = kernel
    elif change == "shape":
        arrays["fire2/squeeze1x1/kernels"] = kernel[..., :15]
    elif change == "bias":
        arrays["conv1/biases"] = arrays["conv1/biases"][:5]
    elif change == "network":
        arrays["conv1/kernels"] = np.zeros((5, 5, 3, 64))
    elif change == "nan":
        arrays["fire2/squeeze1x1/kernels"] = np.full_like(kernel, np.nan)
    elif change == "integers":
        arrays["fire2/squeeze1x1/kernels"] = kernel.astype(np.int8)
    elif change == "nothing":
        arrays = {}
    return arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "fire11_expand3x3_b is missing; expected 64 tensors, got 63"),
        ("no conv1", "conv1_w is missing"),
        ("unknown", "fire12/squeeze1x1/kernels is not a tensor of SqueezeDet; expected names"),
        ("twice", "fire2_squeeze1x1_w occurs twice"),
        ("shape", "expected shape (16, 64, 1, 1) or (1, 1, 64, 16), got (1, 1, 64, 15)"),
        ("bias", "conv1_b of squeezedet: expected shape (64,), got (5,)"),
        ("network", "(64, 3, 3, 3) (squeezedet) or (96, 3, 7, 7) (squeezedet-plus), got (5, 5"),
        ("nan", "expected finite floating-point numbers, got float32 with inf or NaN"),
        ("integers", "expected finite floating-point numbers, got int8"),
        ("nothing", "holds no tensors"),
    ],
)
def test_rejects_a_file_that_does_not_fit(
    tmp_path: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "source.npz", spoiled(change))
    assert_refused(source, (), message, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "car,bus"], "9 anchors x (2 classes + 5) are 63; give the right ones with"),
        (["--anchors", "10x10"], "conv12 has 72 channels, but 1 anchors x (3 classes + 5) are 8"),
        (["--classes", "car,car,bus"], "class names must differ"),
        (["--size", "1000x384"], "expected an input of multiples of 16"),
        (["--anchors", "none.yaml"], "none.yaml is neither a file nor a list like 36x37,72x43"),
        (["--anchors", "1x2,3.4.5x6"], "expected anchor shapes as a list of [width, height]"),
        (["--anchors", "0x2"], "expected anchor shapes as a list of [width, height]"),
        (["--anchors", "wrong.yaml"], "wrong.yaml: cannot be read as YAML"),
        (["--anchors", "empty.yaml"], "expected anchor shapes as a list of [width, height]"),
    ],
)
def test_rejects_values_that_do_not_fit(
    source: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(source.parent)
    Path("wrong.yaml").write_text("[1, 2")
    Path("empty.yaml").write_text("network: {anchors: {shapes: [[1, 2, 3]]}}")
    assert_refused(source, options, message, capsys)


@pytest.mark.parametrize("content", ["text", "pickle", "objects", "array", "half", "nowhere"])
def test_rejects_other_files_without_unpickling_them(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.npz"
    if content == "text":
        source.write_text("no weights")
    elif content == "pickle":
        source.write_bytes(pickle.dumps(Trap()))
    elif content == "objects":
        save(source, {"conv1/kernels": np.array([Trap()])})
    elif content == "array":
        with source.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "half":
        save(source, variables())
        source.write_bytes(source.read_bytes()[:50_000])
    message = "no such weights file" if content == "nowhere" else "import --help` shows how"
    assert_refused(source, (), message, capsys)


class Trap:
    """An object that fails the test when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("unpickled",)


def assert_refused(
    source: Path, options: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(source.parent.iterdir())
    code, _ = run(source, *options)
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(source.parent.iterdir()) == before


def test_replaces_files_only_with_overwrite(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = source.with_name("ours.npz")
    both = out, out.with_suffix(".json")
    for taken in both:
        taken.write_text("mine")
        assert run(source)[0] == 2
        assert f"{taken}: exists already; --overwrite replaces it" in capsys.readouterr().err
        assert taken.read_text() == "mine"
        taken.unlink()
    for taken in both:
        taken.write_text("mine")
    assert run(source, "-y")[0] == 0
    load_weights(out)
    assert sorted(p.name for p in source.parent.iterdir()) == [
        "ours.json", "ours.npz", "source.npz"
    ]  # fmt: skip


def test_rejects_impossible_outputs(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, message in (
        (source, "is the source itself"),
        (source.with_name("ours.onnx"), "expected a name that ends in .npz"),
        (source.parent / "none" / "ours.npz", "the folder"),
    ):
        words = ["import", str(source), "--layout", "authors", "--out", str(out), "-y"]
        assert main(words) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--mean", "1,2"],
        ["--mean", "grey"],
        ["--std", "0"],
        ["--exponential", "-1"],
        ["--exponential", "nan"],
        ["--layout", "caffe"],
        ["--padding", "full"],
    ],
)
def test_rejects_options_that_make_no_sense(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["import", "source", "--layout", "authors", "--out", "x.npz", *options])
    assert caught.value.code == 2
    assert options[0] in capsys.readouterr().err
