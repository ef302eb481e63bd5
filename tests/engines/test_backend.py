import ctypes
import gc
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.base import BackendInfo, EngineSettings, find_options
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda import machine
from squeezedrive.engines.backends.cuda.options import CudaOptions
from squeezedrive.engines.backends.select import BACKENDS, BackendEntry, open_backend
from squeezedrive.engines.backends.tensorrt.entry import tensorrt_obstacles
from squeezedrive.engines.backends.torch.entry import torch_obstacles
from squeezedrive.engines.errors import BackendUnavailable, ConfigError, GpuMemoryError
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights
from squeezedrive.kernels import reference
from squeezedrive.kernels.fit import FitMode, make_fit
from squeezedrive.kernels.params import DetectParams

PARAMS = DetectParams(threshold=0.0, top_n=64, nms_iou=0.4, greedy=True, classes=None)


def settings(**changes: object) -> EngineSettings:
    values = {"weights": load_weights(DEFAULT), "width": 192, "height": 96, "detect": PARAMS}
    return EngineSettings(**{**values, **changes})  # type: ignore[arg-type]


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


def test_tensorrt_by_name_reports_missing_parts_and_remedies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "driver_problem", lambda: "no NVIDIA driver (install it)")
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable) as caught:
        open_backend("tensorrt", settings())
    for part in (
        "backend tensorrt cannot run here", "no NVIDIA driver", "pip install tensorrt",
        "pip install pycuda", "--backend cpu",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_torch_by_name_reports_missing_parts_and_remedies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "driver_problem", lambda: "no NVIDIA GPU (check nvidia-smi)")
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable) as caught:
        open_backend("torch", settings())
    for part in ("backend torch cannot run here", "no NVIDIA GPU", "pip install torch"):
        assert part in str(caught.value)
    assert "pip install tensorrt" not in str(caught.value)


def fake_driver(version: int, gpus: int = 0) -> SimpleNamespace:
    """Return a fake libcuda.so.1 that supports this version of CUDA."""

    def give(number: int) -> Any:
        def call(pointer: Any) -> int:
            pointer._obj.value = number
            return 0

        return call

    return SimpleNamespace(
        cuDriverGetVersion=give(version), cuInit=lambda flags: 0, cuDeviceGetCount=give(gpus)
    )


@pytest.mark.parametrize(
    ("driver", "packages", "expected"),
    [
        (12040, "13.5.0", r"knows CUDA 12\.4, .* need CUDA 13 \(install driver 580 or newer"),
        (11080, "12.9.4", r"knows CUDA 11\.8, .* need CUDA 12 \(install driver 525 or newer"),
        (13000, "13.5.0", None),
        (13000, "12.9.4", None),
        (12040, None, None),
    ],
)
def test_reports_a_driver_older_than_the_packages(
    driver: int, packages: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        assert name == "cuda-bindings"
        if packages is None:
            raise machine.PackageNotFoundError
        return packages

    library = fake_driver(driver, gpus=1)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(machine, "version", version)
    if expected is None:
        assert machine.driver_problem() is None
        return
    library.cuInit = lambda flags: pytest.fail("the version must be checked first")
    problem = machine.driver_problem()
    assert problem is not None
    assert re.search(expected, problem)


@pytest.mark.parametrize(
    ("bindings", "compiler", "linker", "expected"),
    [
        ("13.5.0", "13.5.37", "13.0.88", "nvJitLink 13.0 is older than NVVM 13.5"),
        ("13.5.0", "13.5.37", "12.9.1", "pip install 'nvidia-nvjitlink==13.5.*'"),
        ("12.9.4", "12.9.86", "12.6.85", "pip install 'nvidia-nvjitlink-cu12==12.9.*'"),
        ("13.5.0", "13.5.37", "13.5.2", None),
        ("13.5.0", "13.0.88", "13.5.37", None),
        ("13.5.0", "13.5.37", None, None),  # that of a whole toolkit
        ("13.5.0", "unknown", "13.5.37", None),
        (None, None, None, None),
    ],
)
def test_a_linker_older_than_the_compiler_is_an_obstacle_before_a_kernel_is_refused(
    bindings: str | None,
    compiler: str | None,
    linker: str | None,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        kind = "nvjitlink" if "nvjitlink" in name else "bindings" if "bindings" in name else "nvvm"
        found = {"bindings": bindings, "nvvm": compiler, "nvjitlink": linker}[kind]
        if found is None:
            raise machine.PackageNotFoundError
        return found

    monkeypatch.setattr(machine, "driver_problem", lambda: None)
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    monkeypatch.setattr(machine, "version", version)
    found = machine.machine_obstacles({})
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


def test_a_driver_without_gpu_is_told_from_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    driver = fake_driver(13000)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: driver)
    for obstacles in (tensorrt_obstacles, torch_obstacles):
        driver.cuInit = lambda flags: 0
        assert "no NVIDIA GPU" in obstacles()[0]
        driver.cuInit = lambda flags: 999
        assert "error 999" in obstacles()[0]


GONE, TORN = ["no NVIDIA GPU (check nvidia-smi)", "no package"], ["no package (install it)"]
MEMORY = GpuMemoryError("the memory is not enough")


class DriverTooOld(Exception):
    """An error like those of PyCUDA, Numba and cuda.core, derived only from Exception."""


def stub(monkeypatch: pytest.MonkeyPatch, **has: Any) -> None:
    """Replace back ends by ones with these obstacles (a list), or that raise this error."""
    for name, what in has.items():

        def open_stub(_: Any, __: Any, reason: str, name: str = name, what: Any = what) -> Any:
            if isinstance(what, BaseException):
                raise what
            return SimpleNamespace(info=BackendInfo(name, "", "", "", reason))

        found = what if isinstance(what, list) else []
        monkeypatch.setitem(BACKENDS, name, BackendEntry(open_stub, lambda found=found: found))


@pytest.mark.parametrize(
    ("tensorrt_has", "torch_has", "name", "reason"),
    [
        ([], [], "tensorrt", "the fastest"),
        (TORN, [], "torch", "no tensorrt: no package"),
        (MEMORY, [], "torch", "no tensorrt: the memory is not enough"),
        (GONE, GONE, "cpu", "no tensorrt and no torch: no NVIDIA GPU"),
        (TORN, GONE, "cpu", "no tensorrt: no package; no torch: no NVIDIA GPU"),
        (MEMORY, GONE, "cpu", "no tensorrt: the memory is not enough; no torch: no NVIDIA GPU"),
        (ConfigError("precision"), [], "torch", "no tensorrt: precision"),
        (ImportError("No module named 'pycuda._driver'"), OSError("libcudnn.so.9"), "cpu",
         "no tensorrt: No module named 'pycuda._driver'; no torch: libcudnn.so.9"),
        (DriverTooOld(), RuntimeError("CUDA error 35"), "cpu",
         "no tensorrt: DriverTooOld; no torch: CUDA error 35"),
    ],
)  # fmt: skip
def test_auto_takes_the_first_back_end_that_runs_and_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, tensorrt_has: Any, torch_has: Any, name: str, reason: str
) -> None:
    stub(monkeypatch, tensorrt=tensorrt_has, torch=torch_has)
    info = open_backend("auto", settings()).info
    assert (info.name, info.reason) == (name, reason)


@pytest.mark.parametrize("name", ["auto", "tensorrt"])
@pytest.mark.parametrize(
    "fault",
    [KeyError("what"), TypeError("two arguments"), AttributeError("no such"), ValueError("no"),
     AssertionError(), ImportError("cannot import name", name="squeezedrive.engines.backends"),
     KeyboardInterrupt()],
    ids=lambda fault: type(fault).__name__,
)  # fmt: skip
def test_raises_faults_of_the_program_unchanged(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: BaseException
) -> None:
    stub(monkeypatch, tensorrt=fault, torch=[])
    with pytest.raises(type(fault)) as caught:
        open_backend(name, settings())
    assert caught.value is fault


def test_auto_logs_the_back_ends_that_it_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stub(monkeypatch, tensorrt=TORN, torch=RuntimeError("CUDA error 35"))
    with caplog.at_level("DEBUG", logger="squeezedrive"):
        open_backend("auto", settings())
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "back end tensorrt cannot run: no package (install it)"),
        ("DEBUG", "back end torch does not run: CUDA error 35"),
    ]
    assert "Traceback" in caplog.text


def test_auto_reports_an_error_of_the_cpu_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, tensorrt=GONE, torch=GONE)
    stub(monkeypatch, another=[])  # it comes after cpu in the table
    with pytest.raises(ConfigError, match="no quantised model"):
        open_backend("auto", settings(), [CpuOptions(precision="int8")])


@pytest.mark.parametrize("name", ["tensorrt", "torch"])
def test_back_end_by_name_raises_its_own_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stub(monkeypatch, **{name: MEMORY})
    with pytest.raises(GpuMemoryError):
        open_backend(name, settings())


def test_back_end_gets_its_options_or_defaults() -> None:
    given = [CudaOptions(precision="fp32"), CpuOptions(precision="fp16", threads=1)]
    assert find_options(CpuOptions, given) is given[1]
    assert find_options(CpuOptions, given[:1]) == CpuOptions()
    info = open_backend("cpu", settings(), given).info
    assert info.precision == "fp16"
    assert ", 1 threads in 1 streams" in info.device


def test_optional_members_have_defaults() -> None:
    backend = CpuBackend(settings(), CpuOptions(), "test")
    assert backend.video_decoder is None
    assert backend.new_slot().device_seconds == {}


def test_table_of_back_ends_loads_no_libraries() -> None:
    script = (
        "import sys\nfrom squeezedrive.engines.backends.select import CHOICES\n"
        "print(*CHOICES)\nprint(sorted({m.split('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    names, loaded = done.stdout.splitlines()
    assert names == "auto tensorrt torch cpu"
    for heavy in ("openvino", "torch", "tensorrt", "pycuda", "numba", "numpy", "pydantic"):
        assert f"'{heavy}'" not in loaded


def test_auto_opens_a_back_end_on_this_machine() -> None:
    info = open_backend("auto", settings()).info
    assert info.name in ("tensorrt", "torch", "cpu")
    assert info.reason


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
    """Otherwise a signal would write into memory that now holds other data."""
    settings, options = EngineSettings(load_weights(DEFAULT), 96, 64, PARAMS), CpuOptions()
    opened = [CpuBackend(settings, options, "test") for _ in range(3)]
    for backend in opened:
        backend.close()
    del opened, backend
    gc.collect()
    stack = _SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if stack.address is None:
        return  # this processor needs no signal stack
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = [line.split()[0].split("-") for line in lines]
    assert any(int(low, 16) <= stack.address < int(high, 16) for low, high in maps)
