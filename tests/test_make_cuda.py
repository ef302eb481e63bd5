"""`make cuda`: conditions that it checks first, and whether its packages fit each other."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXTRA = re.compile(r'^(\w+) = \[(".*")\]', re.MULTILINE)
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(tmp_path: Path, *words: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run make for a virtual environment that exists already and whose pip fails."""
    tools, scripts = tmp_path / "tools", tmp_path / "venv" / "bin"
    tools.mkdir()
    scripts.mkdir(parents=True, exist_ok=True)
    for name in {"make", "sh", "mkdir", "rm", "echo", "g++"} - {without}:
        if (found := shutil.which(name)) is not None:
            (tools / name).symlink_to(found)
    python = scripts / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "no pip"\nexit 1\n'
    )
    python.chmod(0o755)
    return subprocess.run(
        ["make", "cuda", f"VENV={tmp_path / 'venv'}", *words],
        cwd=ROOT, env=os.environ | {"PATH": str(tools)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_missing_compiler_is_reported_first(tmp_path: Path) -> None:
    done = make(tmp_path, without="g++")
    assert done.returncode == 2
    assert "error: no g++" in done.stderr
    assert "apt install g++" in done.stderr
    assert "1/2" not in done.stdout


def test_an_unknown_cuda_version_is_refused(tmp_path: Path) -> None:
    done = make(tmp_path, "CUDA=11")
    assert done.returncode == 2
    assert "error: CUDA=11: expected 13, or 12" in done.stderr


def test_an_environment_has_only_one_cuda(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "installed-cuda13").touch()
    done = make(tmp_path, "CUDA=12")
    assert done.returncode == 2
    assert "has the packages of another CUDA; first: rm -r" in done.stderr


def test_a_failed_installation_is_repeated(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    done = make(tmp_path, "CUDA=12")
    assert done.returncode == 2
    assert "packages for CUDA 12" in done.stdout
    assert not list((tmp_path / "venv").glob("installed*"))


def test_compiler_and_linker_of_kernels_come_from_one_release() -> None:
    extras = dict(EXTRA.findall((ROOT / "pyproject.toml").read_text()))
    for name, nvvm in (("kernels13", "nvvm"), ("kernels12", "nvcc")):
        (parts,) = re.findall(r"cuda-toolkit\[([\w,]+)\]", extras[name])
        assert {"nvjitlink", nvvm, "profiler", "cudart"} <= set(parts.split(","))
