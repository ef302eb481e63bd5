"""The cache of compiled code: when it is used, renewed, and skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from squeezedrive.kernels import compile as kernels_compile

FORMULA = "def grow(x):\n    return x + {step}\n"
KERNEL = """
import numba
from squeezedrive.kernels.compile import jit
from squeezedrive.kernels.formulas import grow

inner = numba.njit(grow)


@jit(numba.int64(numba.int64))
def entry(x):
    return inner(x)


print(entry(1), sum(entry.stats.cache_hits.values()), entry.stats.cache_path)
"""


class Package:
    """A copy of the package `squeezedrive.kernels` with two small functions in two files."""

    def __init__(self, folder: Path) -> None:
        self.sources = folder / "package" / "squeezedrive" / "kernels"
        self.cache = folder / "cache"
        self.sources.mkdir(parents=True)
        (self.sources / "__init__.py").touch()
        for name in ("compile.py", "cache_folder.py"):
            shutil.copy(Path(kernels_compile.__file__).with_name(name), self.sources)
        (self.sources / "entry.py").write_text(KERNEL)
        self.write_formula(step=1)

    def write_formula(self, step: int) -> None:
        (self.sources / "formulas.py").write_text(FORMULA.format(step=step))

    def start(self) -> tuple[int, bool, str]:
        """Run the package in a new process; return result, whether cached code ran, cache path."""
        environment = os.environ | {"XDG_CACHE_HOME": str(self.cache)}
        environment.pop("NUMBA_CACHE_DIR", None)
        result = subprocess.run(
            [sys.executable, "-m", "squeezedrive.kernels.entry"],
            cwd=self.sources.parents[1],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        value, hits, path = result.stdout.split()
        return int(value), hits == "1", path

    def cached(self) -> list[Path]:
        return sorted(self.cache.rglob("*.nbi"))


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def test_loads_at_second_start_and_recompiles_if_a_callee_changed(package: Package) -> None:
    assert package.start()[:2] == (2, False)
    value, cached, path = package.start()
    assert (value, cached) == (2, True)
    assert Path(path).is_relative_to(package.cache / "squeezedrive" / "numba")

    # Numba alone would not notice the change: it checks only the file of the cached function.
    package.write_formula(step=5)
    assert package.start()[:2] == (6, False)
    assert len(package.cached()) == 2


@pytest.mark.parametrize(("suffix", "content"), [("nbi", b""), ("nbc", b"\0" * 4096)])
def test_replaces_files_damaged_by_a_power_failure(
    package: Package, suffix: str, content: bytes
) -> None:
    package.start()
    (damaged,) = package.cache.rglob(f"*.{suffix}")
    damaged.write_bytes(content)
    assert package.start()[0] == 2
    assert not damaged.exists()


def test_uses_no_cache_if_the_folder_cannot_be_made(package: Package) -> None:
    package.cache.write_text("a file, not a folder")
    assert package.start() == (2, False, "None")
    assert not list(package.sources.rglob("*.nbi"))


def test_the_folder_depends_on_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    monkeypatch.setattr(kernels_compile, "FOLDER", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen = []
    for name, text in (("a.py", "1"), ("b.py", "1"), ("b.py", "2"), ("c.py", ""), ("c.py", "x")):
        (sources / name).write_text(text)
        seen.append(kernels_compile.machine_code_folder())
        assert kernels_compile.machine_code_folder() == seen[-1]
    monkeypatch.setattr(kernels_compile.numba, "__version__", "0.0.0")
    seen.append(kernels_compile.machine_code_folder())
    assert None not in seen
    assert len(set(seen)) == 6


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_cache_lies_in_the_home_directory_without_xdg_cache_home(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    folder = kernels_compile.machine_code_folder()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / ".cache")
