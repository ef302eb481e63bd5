import itertools
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.tensorrt import entry, progress
from squeezedrive.engines.backends.tensorrt.cache import EngineCache
from squeezedrive.engines.backends.tensorrt.driver import FirstGpu, first_gpu
from squeezedrive.engines.backends.tensorrt.executor import TensorRTExecutor, open_engine
from squeezedrive.engines.cli.inspect import describe_layers
from squeezedrive.engines.errors import BackendUnavailable, ConfigError, GpuMemoryError
from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
from squeezedrive.kernels.params import DetectParams
from tests.support.fake_tensorrt import FakeTensorRT

H200 = FirstGpu("NVIDIA H200", (9, 0))


@pytest.fixture(scope="module")
def settings() -> EngineSettings:
    return EngineSettings(load_weights(DEFAULT), 320, 96, DetectParams(), int8=int8_model(DEFAULT))


@pytest.fixture
def trt() -> FakeTensorRT:
    return FakeTensorRT()


class Opener:
    """A callable that opens an executor as a program start does; all calls share one cache."""

    def __init__(self, folder: Path, trt: FakeTensorRT, settings: EngineSettings) -> None:
        self.said: list[str] = []
        self.cache = EngineCache(folder, self.say)
        self.trt = trt
        self.settings = settings

    def say(self, line: str) -> None:
        self.said.append(line)

    def __call__(self, precision: Any = "fp16", gpu: FirstGpu = H200) -> TensorRTExecutor:
        self.said.clear()
        self.trt.calls.clear()
        return open_engine(self.settings, precision, 8, gpu, self.say, self.trt, self.cache)


@pytest.fixture
def opened(tmp_path: Path, trt: FakeTensorRT, settings: EngineSettings) -> Opener:
    return Opener(tmp_path / "engines", trt, settings)


def test_second_start_builds_nothing(opened: Opener) -> None:
    opened()
    assert opened.trt.calls == [("build", False)]
    assert len(opened.said) == 1
    assert "building the TensorRT engine" in opened.said[0]
    opened()
    assert opened.trt.calls == []
    assert opened.said == []


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", np.float16), ("fp32", np.float32), ("int8", np.float16)]
)
def test_executor_describes_its_engine(opened: Opener, precision: str, dtype: type) -> None:
    executor = opened(precision)
    assert executor.runtime == "TensorRT 11.4.0.106"
    assert (executor.precision, executor.max_batch) == (precision, 8)
    assert executor.input_type == executor.output_type == np.dtype(dtype)
    executor.close()


def test_int8_needs_a_quantised_model(opened: Opener) -> None:
    opened.settings = replace(opened.settings, int8=None)
    with pytest.raises(ConfigError, match="python -m engines quantize"):
        opened("int8")


def test_contexts_bind_and_enqueue_as_requested(opened: Opener) -> None:
    executor = opened()
    first, second = executor.new_context(512), executor.new_context(512)
    # TensorRT allocates nothing: the contexts of a slot share the memory that the slot allocated.
    assert opened.trt.calls[1:] == [("context", "user managed"), ("memory", 512, 4096)] * 2
    assert executor.workspace_bytes == 4096
    opened.trt.calls.clear()
    first.bind(1000, 2000, 3)
    first.enqueue(7)
    second.bind(3000, 4000, 1)
    assert opened.trt.calls == [
        ("shape", "image", (3, 3, 96, 320)),
        ("address", "image", 1000),
        ("address", "output", 2000),
        ("execute", 7),
        ("shape", "image", (1, 3, 96, 320)),
        ("address", "image", 3000),
        ("address", "output", 4000),
    ]
    first.close()
    second.close()
    executor.close()


def test_builds_again_for_another_gpu_or_version_and_names_it(opened: Opener) -> None:
    opened()
    opened(gpu=FirstGpu("NVIDIA GeForce RTX 4090", (8, 9)))
    assert opened.said[0].endswith(
        "does not fit: gpu NVIDIA H200 instead of NVIDIA GeForce RTX 4090,"
        " compute_capability 9.0 instead of 8.9"
    )
    assert ("build", False) in opened.trt.calls
    opened.trt.__version__ = "10.16.1.11"
    opened()
    assert "tensorrt 11.4.0.106 instead of 10.16.1.11" in opened.said[0]
    assert len(opened.cache.entries()) == 3


def test_rebuilds_an_engine_that_tensorrt_refuses(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    refusals = iter([True, False])
    monkeypatch.setattr(opened.trt, "errors", {"deserialize": "Version tag does not match"})
    fails = opened.trt.fails
    monkeypatch.setattr(
        opened.trt,
        "fails",
        lambda name, log: fails(name, log) if name != "deserialize" or next(refusals) else False,
    )
    opened()
    assert "TensorRT cannot load the engine: Version tag does not match" in opened.said[0]
    assert opened.said[0].endswith("built anew")
    assert opened.trt.calls == [("build", False)]


@pytest.mark.parametrize("where", ["build", "deserialize", "context"])
@pytest.mark.parametrize(
    "message",
    [
        "[allocator.cpp::allocate::58] Error Code 1: Cuda Runtime (out of memory)",
        "Error Code 2: OutOfMemory (Requested size was 123 bytes.)",
    ],
)
def test_reports_a_remedy_if_out_of_memory_and_builds_nothing(
    opened: Opener, where: str, message: str
) -> None:
    if where != "build":
        opened()
    opened.trt.errors[where] = message
    with pytest.raises(GpuMemoryError) as caught:
        opened().new_context(512)
    assert message in str(caught.value)
    assert "nvidia-smi" in str(caught.value)
    assert (("build", False) in opened.trt.calls) == (where == "build")


def test_quotes_tensorrts_error_in_one_line(opened: Opener) -> None:
    opened.trt.errors["build"] = "Error Code 10: no implementation\n  for node conv1"
    with pytest.raises(BackendUnavailable, match="no implementation for node conv1"):
        opened()
    opened.trt.errors = {"Builder": "CUDA initialization failure with error: 35"}
    with pytest.raises(BackendUnavailable, match="builder: CUDA initialization failure"):
        opened()
    assert opened.cache.entries() == []


def test_raises_with_tensorrts_message_if_it_refuses_to_run(opened: Opener) -> None:
    context = opened().new_context(512)
    opened.trt.errors = {"set_input_shape": "batch 9 is over the profile's maximum"}
    with pytest.raises(RuntimeError, match=r"batch of 9 .* over the profile's maximum"):
        context.bind(1, 2, 9)
    opened.trt.errors = {"execute": "illegal memory access"}
    with pytest.raises(RuntimeError, match="cannot run the network: illegal memory access"):
        context.enqueue(1)


def test_reports_progress_of_a_long_build(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the build after three progress lines."""
    opened.trt.steps = None
    monkeypatch.setattr(progress, "SECONDS", 0.0)

    def say(line: str) -> None:
        opened.said.append(line)
        if len(opened.said) == 4:
            raise _EnoughError

    opened.say = say  # type: ignore[method-assign]
    with pytest.raises(_EnoughError):
        opened()
    assert all(line.startswith("building for 0:0") for line in opened.said[1:])
    assert all("Building engine " in line for line in opened.said[1:])
    assert opened.trt.calls[-1] == ("cancelled",)  # an exception in `say` cancels the build


class _EnoughError(Exception):
    pass


def test_ctrl_c_cancels_a_build_and_leaves_no_files(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.trt.steps = None  # the build runs until it is cancelled
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    before = signal.getsignal(signal.SIGINT)

    def say(line: str) -> None:
        opened.said.append(line)
        if line.startswith("building for") and len(opened.said) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    opened.say = say  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        opened()
    assert opened.trt.calls == [("build", False), ("cancelled",)]
    assert opened.said[-1].startswith("interrupted: waiting for TensorRT to end its step")
    assert opened.cache.clear() == ([], 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_although_the_cache_cannot_be_written(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "file").touch()
    opened.cache = EngineCache(tmp_path / "file" / "engines", opened.say)
    for _ in range(2):
        opened().new_context(512).bind(1, 2, 1)
        assert len([line for line in opened.said if "is not kept" in line]) == 1


def test_reads_the_name_of_the_gpu_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from squeezedrive.engines.backends.tensorrt import driver

    class Driver:
        def __init__(self, status: int = 0) -> None:
            self.status = status

        def cuInit(self, flags: int) -> int:
            return self.status

        def cuDeviceGet(self, device: Any, ordinal: int) -> int:
            return int(ordinal)

        def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
            name.value = b"NVIDIA H200"
            return int(len(name) != length)

        def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
            value._obj.value = {75: 9, 76: 0}[which]
            return 0

    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: Driver())
    assert first_gpu() == H200
    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: Driver(999))
    with pytest.raises(BackendUnavailable, match="error 999"):
        first_gpu()


def test_build_and_inspect_report_missing_parts(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        entry, "tensorrt_obstacles", lambda: ["no NVIDIA driver (install it)", "more"]
    )
    assert main(["build"]) == 2
    assert capsys.readouterr().err == (
        "error: TensorRT cannot run here: no NVIDIA driver (install it); more\n"
    )
    opened()
    assert opened.cache.folder is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(opened.cache.folder.parent / "user"))
    (opened.cache.folder.parent / "user" / "squeezedrive").mkdir(parents=True)
    opened.cache.folder.rename(opened.cache.folder.parent / "user" / "squeezedrive" / "engines")
    assert main(["inspect", "fp16"]) == 2
    assert "no NVIDIA driver" in capsys.readouterr().err


def test_verbs_build_show_and_can_be_interrupted(
    tmp_path: Path,
    trt: FakeTensorRT,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(entry, "tensorrt_obstacles", lambda: [])
    monkeypatch.setattr("squeezedrive.engines.backends.tensorrt.driver.first_gpu", lambda: H200)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    verb = ["build", "--size", "320x96", "--batch", "4"]
    assert main(verb) == 0
    output = capsys.readouterr()
    assert output.out == "ready: fp16 in TensorRT 11.4.0.106 on NVIDIA H200\n"
    assert output.err.startswith("building the TensorRT engine for this GPU")
    assert main(["inspect", "fp16-320x96-b4"]) == 0
    assert capsys.readouterr().out == "CaskConvolution  conv1: nothing -> nothing\n"

    trt.steps = None
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(
        "squeezedrive.engines.cli.build.say",
        lambda line: os.kill(os.getpid(), signal.SIGINT) if " for 0:" in line else None,
    )
    assert main([*verb, "--precision", "fp32"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_shows_layers_with_their_formats() -> None:
    """Describe an input as in TensorRT 10, an output as in later versions, and a bare name."""
    names = itertools.count()

    def tensor(**kind: str) -> str:
        pairs = "".join(f', "{name}": "{value}"' for name, value in kind.items())
        return f'{{"Name": "{next(names)}"{pairs}}}'

    old = tensor(**{"Format/Datatype": "Channel major FP16 format."})
    new = tensor(Datatype="Half", Format="(NHWC)")
    text = (
        '{"Layers": ['
        f'{{"Name": "conv1", "LayerType": "CaskConvolution", "Inputs": [{old}], "Outputs": [{new}]'
        '}, "fire2"], "Bindings": []}'
    )
    assert describe_layers(text).splitlines() == [
        "CaskConvolution  conv1: Channel major FP16 format -> Half (NHWC)",
        "fire2",
    ]
