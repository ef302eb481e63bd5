"""Slots of the CPU back end: results as in graph and reference, nothing left after closing."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.select import open_backend
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights
from squeezedrive.kernels import reference
from squeezedrive.kernels.fit import FitMode, make_fit
from tests.support.backends import PARAMS, settings


@pytest.mark.parametrize(("fit", "reach"), [("letterbox", 0), ("band", 40)])
def test_a_slot_does_what_graph_and_reference_do(fit: FitMode, reach: float) -> None:
    weights = load_weights(DEFAULT)
    output = weights.profile.output.model_copy(update={"reach": reach})
    profile = weights.profile.model_copy(update={"output": output})
    weights = Weights(profile, weights.arrays)
    chosen = settings(fit=fit, width=128, height=64, weights=weights)
    backend = open_backend("cpu", chosen)
    slot = backend.new_slot()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 70, 3), np.uint8)
    slot.preprocess([image])
    slot.infer()
    (found,) = slot.detect()

    placed = make_fit(fit, (70, 90), (128, 64), 0.5, reach > 0)
    pixels = np.empty((64, 128, 3), np.uint8)
    placed.preprocess(image, (104, 117, 124), pixels)
    graph = core().read_model(build_onnx(chosen.weights, 128, 64).SerializeToString())
    run = compile_model(graph, {"INFERENCE_PRECISION_HINT": "f32"})
    head = run(pixels.transpose(2, 0, 1)[None].astype(np.float32))[0][0]
    expected = reference.detect(head, chosen.head(), PARAMS)
    assert len(found) == len(expected) > 5
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, placed.to_source(expected.boxes), atol=0.05)
    beyond = (found.boxes[:, 1] < placed.crop[1]) | (found.boxes[:, 3] > placed.crop[3] - 1)
    assert beyond.any() == (reach > 0)
    slot.close()
    backend.close()


def test_slots_do_not_share_memory() -> None:
    backend = open_backend("cpu", settings())
    first, second = backend.new_slot(), backend.new_slot()
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (96, 192, 3), np.uint8)
    first.preprocess([image])
    first.infer()
    (expected,) = first.detect()
    first.preprocess([image])
    first.infer()
    second.preprocess([np.zeros_like(image)])
    second.infer()
    (again,) = first.detect()
    np.testing.assert_array_equal(again.boxes, expected.boxes)
    np.testing.assert_array_equal(again.scores, expected.scores)


def test_batch_finds_the_same_as_each_picture_alone() -> None:
    backend = CpuBackend(settings(fit="stretch"), CpuOptions(), "test")
    alone, together = backend.new_slot(), backend.new_slot(3)
    generator = np.random.default_rng(4)
    pictures = [generator.integers(0, 256, (96 * k, 192 * k, 3), np.uint8) for k in (1, 2, 1, 2, 1)]
    for batch in (
        pictures[:3],
        pictures[3:],
        pictures[1:2],
        pictures[2:5],
    ):  # batches of 3, 2, 1 and 3
        together.preprocess(batch)
        together.infer()
        results = together.detect()
        assert len(results) == len(batch)
        for picture, found in zip(batch, results, strict=True):
            alone.preprocess([picture])
            alone.infer()
            (expected,) = alone.detect()
            assert len(expected) > 0
            np.testing.assert_array_equal(found.classes, expected.classes)
            np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-4, atol=1e-2)
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


def test_rejects_more_pictures_than_a_slot_takes() -> None:
    backend = CpuBackend(settings(), CpuOptions(), "test")
    with pytest.raises(ValueError, match="expected 1 to 8 pictures at a time, got 9"):
        backend.new_slot(9)
    picture = np.zeros((96, 192, 3), np.uint8)
    for wrong in ([], [picture] * 3):
        with pytest.raises(ValueError, match="expected 1 to 2 pictures at a time"):
            backend.new_slot(2).preprocess(wrong)


def test_returns_boxes_in_pixels_of_each_picture() -> None:
    backend = open_backend("cpu", settings(fit="stretch"))
    slot = backend.new_slot()
    image = np.random.default_rng(2).integers(0, 256, (96, 192, 3), np.uint8)
    boxes = []
    for factor in (1, 2):
        slot.preprocess([image.repeat(factor, 0).repeat(factor, 1)])
        slot.infer()
        boxes.append(slot.detect()[0].boxes)
    assert boxes[0].max() <= 191
    assert 191 < boxes[1].max() <= 383


def test_weights_for_rgb_get_rgb_pixels() -> None:
    """Weights that expect RGB see the same picture as BGR weights with swapped channels."""
    weights = load_weights(DEFAULT)
    profile = weights.profile
    swapped_input = profile.input.model_copy(
        update={"channels": "RGB", "mean": profile.input.mean[::-1]}
    )
    arrays = {**weights.arrays, "conv1_w": weights.arrays["conv1_w"][:, ::-1]}
    rgb = type(weights)(profile.model_copy(update={"input": swapped_input}), arrays)
    image = np.random.default_rng(3).integers(0, 256, (96, 192, 3), np.uint8)
    found = []
    for chosen in (weights, rgb):
        slot = CpuBackend(settings(weights=chosen), CpuOptions(), "test").new_slot()
        slot.preprocess([image])
        slot.infer()
        found += slot.detect()
    np.testing.assert_allclose(found[0].boxes, found[1].boxes, atol=1e-2)


def test_optional_members_have_defaults() -> None:
    backend = CpuBackend(settings(), CpuOptions(), "test")
    assert backend.video_decoder is None
    assert backend.new_slot().device_seconds == {}


def test_describe_and_export_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engines", "describe"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "2,082,120" in done.stdout

    def engines(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return code, *capsys.readouterr()

    assert "7,021,640" in engines("describe", "--config", "configs/training/plus.yaml")[1]
    model = tmp_path / "a model.onnx"
    code, _, error = engines("export", str(model), "--precision", "fp16", "--size", "320x96")
    assert code == 0, error
    assert 3.9 < model.stat().st_size / 2**20 < 4.1
    code, _, error = engines("export", str(model))
    assert code == 2
    assert error.startswith("error: ")
    assert "exists already" in error
    assert engines("describe", "--weights", "none.npz")[0] == 2
    code, _, error = engines("describe", "--size", "100x100")
    assert code == 2
    assert error.startswith("error: expected an input of multiples of 16 pixels")
    with pytest.raises(SystemExit, match="2"):
        engines("describe", "--size", "0x100")


class _SignalStack(ctypes.Structure):
    """The struct `stack_t` of Linux."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def test_closed_back_ends_leave_no_freed_signal_stack() -> None:
    """Test that no signal can write into freed memory, which now holds other data."""
    settings, options = EngineSettings(load_weights(DEFAULT), 96, 64, PARAMS), CpuOptions()
    opened = [CpuBackend(settings, options, "test") for _ in range(3)]
    for backend in opened:
        backend.close()
    del opened, backend
    gc.collect()
    stack = _SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if stack.address is None:
        pytest.skip("this processor needs no signal stack")
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = [line.split()[0].split("-") for line in lines]
    assert any(int(low, 16) <= stack.address < int(high, 16) for low, high in maps)
