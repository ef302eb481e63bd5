"""The choice of a back end, and the messages about a back end that cannot run."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squeezedrive.engines.backends.base import BackendInfo, find_options
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda import machine
from squeezedrive.engines.backends.cuda.options import CudaOptions
from squeezedrive.engines.backends.select import BACKENDS, BackendEntry, open_backend
from squeezedrive.engines.backends.tensorrt.entry import tensorrt_obstacles
from squeezedrive.engines.backends.torch.entry import torch_obstacles
from squeezedrive.engines.errors import BackendUnavailable, ConfigError, GpuMemoryError
from tests.support.backends import settings


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
        ("13.5.0", "13.5.37", None, None),  # a CUDA toolkit's linker has no package
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


def test_a_driver_without_gpu_differs_from_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Replace back ends; each new one has the given obstacles (a list), or raises the error."""
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
    stub(monkeypatch, another=[])  # this back end comes after cpu in the table
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
