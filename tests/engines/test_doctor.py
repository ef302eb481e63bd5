"""The examination of a computer: findings, and checks that fail without ending it."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.cuda import machine
from squeezedrive.engines.cli import doctor
from squeezedrive.engines.doctor import finding, gpu
from squeezedrive.engines.doctor.computer import describe_processor, examine_computer
from squeezedrive.engines.doctor.finding import Observation, ask, numbers
from squeezedrive.pipeline.app import command_line

ROOT = Path(__file__).parents[2]


def no_library(name: str) -> Any:
    raise OSError(name)


def driver_of(version: int, capability: tuple[int, int] = (9, 0)) -> Any:
    """Return a fake libcuda.so.1 with one GPU."""

    def number(value: int) -> Any:
        def give(pointer: Any, *_: Any) -> int:
            pointer._obj.value = value
            return 0

        return give

    def name(buffer: Any, *_: Any) -> int:
        buffer.value = b"Some GPU"
        return 0

    def attribute(pointer: Any, which: int, _: Any) -> int:
        pointer._obj.value = capability[which - 75]
        return 0

    return SimpleNamespace(
        cuDriverGetVersion=number(version),
        cuInit=lambda flags: 0,
        cuDeviceGetCount=number(1),
        cuDeviceGet=number(0),
        cuDeviceGetName=name,
        cuDeviceGetAttribute=attribute,
    )


def look(
    monkeypatch: pytest.MonkeyPatch, driver: Any, packages: dict[str, str]
) -> dict[str, Observation]:
    """Examine a computer with this driver and these distributions."""

    def version(name: str) -> str:
        if name not in packages:
            raise machine.PackageNotFoundError
        return packages[name]

    modules = {name.replace("-", "_") for name in packages} | {
        "tensorrt" for name in packages if name.startswith("tensorrt")
    }
    monkeypatch.setattr(ctypes, "CDLL", no_library if driver is None else lambda name: driver)
    monkeypatch.setattr(machine, "version", version)
    monkeypatch.setattr(finding, "version", version)
    monkeypatch.setattr(gpu, "find_spec", lambda name: object() if name in modules else None)
    return {found.name: found for found in gpu.examine_gpu()}


GOOD = {
    "cuda-bindings": "13.5.0",
    "numba-cuda": "0.30.4",
    "pycuda": "2026.1",
    "nvidia-nvvm": "13.5.37",
    "nvidia-nvjitlink": "13.5.37",
    "tensorrt-cu13": "11.4.0.106",
    "torch": "2.13.0",
    "PyNvVideoCodec": "2.2.4",
}


def test_all_is_ok_with_a_gpu_and_all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, driver_of(13010), GOOD)
    monkeypatch.undo()
    found.pop("C++ compiler")
    assert {one.state for one in found.values()} == {"ok"}
    assert not any(one.remedy for one in found.values())
    assert "knows CUDA 13.1, the installed packages need CUDA 13" in found["NVIDIA driver"].text
    assert found["GPU"].text == "Some GPU, compute capability 9.0"
    assert found["TensorRT"].text == "11.4.0.106"


def test_names_remedies_without_driver_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, None, {})
    found.pop("C++ compiler")
    assert {one.state for one in found.values()} == {"missing"}
    assert all(one.remedy for one in found.values() if one.name != "GPU")
    assert "make cuda" in found["PyCUDA"].remedy


@pytest.mark.parametrize(
    ("line", "driver", "packages", "text", "remedy"),
    [
        ("NVIDIA driver", driver_of(12040), {}, "CUDA 12.4", "580 or newer, or make cuda CUDA=12"),
        ("GPU", driver_of(13000, (6, 1)), {}, "too old for CUDA 13", "make cuda CUDA=12"),
        (
            "NVVM, nvJitLink", driver_of(13000), {"nvidia-nvjitlink": "13.0.88"},
            "nvJitLink 13.0 is older than NVVM 13.5", "nvidia-nvjitlink==13.5.*",
        ),
        ("TensorRT", driver_of(13000), {"tensorrt-cu13": "9.3"}, "expected 10 or 11", "-cu13"),
        ("PyTorch", driver_of(13000), {"torch": "2.13.0+cpu"}, "without CUDA", "pytorch.org"),
    ],
)  # fmt: skip
def test_names_each_problem_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    driver: Any,
    packages: dict[str, str],
    text: str,
    remedy: str,
) -> None:
    found = look(monkeypatch, driver, GOOD | packages)
    assert found[line].state == "problem"
    assert text in found[line].text
    assert remedy in found[line].remedy


def test_reports_a_gpu_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_of(13000)
    driver.cuInit = lambda flags: 999
    found = look(monkeypatch, driver, GOOD)["GPU"]
    assert found == Observation(
        "GPU", "problem", "the NVIDIA driver reports error 999", "check nvidia-smi"
    )


def test_an_old_gpu_is_ok_with_cuda_12(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"cuda-bindings": "12.9.4", "nvidia-cuda-nvcc-cu12": "12.9.86"}
    found = look(
        monkeypatch, driver_of(12040, (6, 1)), packages | {"nvidia-nvjitlink-cu12": "12.9.86"}
    )
    assert {found[name].state for name in ("NVIDIA driver", "GPU", "NVVM, nvJitLink")} == {"ok"}


@pytest.mark.parametrize(
    ("cpuinfo", "has", "lacks"),
    [
        ("model name\t: A\nflags\t\t: avx2 avx512f avx512_vnni amx_int8\n", "VNNI, AMX", "twice"),
        ("model name\t: B\nflags\t\t: avx2 fma\n", "AVX2; no VNNI or AMX", "AVX-512"),
        ("Features\t: fp asimd asimddp\n", "dot product", "twice"),
        ("", "no VNNI or AMX", "AVX2"),
    ],
)
def test_lists_the_instructions_of_a_processor(cpuinfo: str, has: str, lacks: str) -> None:
    text = describe_processor(cpuinfo).text
    assert has in text
    assert lacks not in text


def test_reports_a_library_that_fails_or_ends_the_process() -> None:
    assert ask("-c", "print(1 + 1)") == finding.Answer("2")
    killed = ask("-c", "import os; os.abort()")
    assert killed == finding.Answer("ended by SIGABRT", failed=True)
    failed = ask("-c", "import no_such_package")
    assert failed.text == "ModuleNotFoundError: No module named 'no_such_package'"
    assert "no answer within" in ask("-c", "import time; time.sleep(60)", seconds=0.5).text


def test_compares_versions_as_numbers() -> None:
    assert numbers("13.10.1") > numbers("13.9.0+x")
    assert numbers("13.unknown") == ()


def test_reports_a_cache_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = {one.name: one for one in examine_computer()}
    assert found["cache folder"].state == "problem"
    assert "XDG_CACHE_HOME" in found["cache folder"].remedy
    assert {found[name].state for name in ("Python", "OpenVINO", "PyAV", "Numba")} == {"ok"}


def test_command_runs_the_network_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_pipeline.py"), "doctor"],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "back end         ok" in done.stdout


def test_exit_code_is_1_if_the_network_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "TRIAL", "squeezedrive.engines.doctor.no_such_trial")
    assert main(["doctor"]) == 1
    assert "back end         problem  " in capsys.readouterr().out


def test_a_file_named_doctor_is_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctor").touch()
    seen: list[list[str]] = []
    monkeypatch.setattr(command_line, "run", lambda arguments: seen.append(arguments.sources) or 0)
    assert command_line.main(["doctor"]) == 0
    assert seen == [["doctor"]]
