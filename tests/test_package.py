"""The wheel: its files, its requirements, and that it runs without a checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
assert VERSION is not None
DIST_INFO = f"squeezedrive-{VERSION[1]}.dist-info"
FOLDERS = ("pipeline", "engines", "kernels", "configs")
LARGEST = 14 * 2**20  # mostly weights, the int8 model and a clip
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('.'))"


def build(kind: str, source: Path) -> Path:
    """Build a "wheel" or an "sdist" of a source tree, without the network."""
    pytest.importorskip("setuptools", minversion="77")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}"],
        cwd=source, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "absent from the `packages` configuration" not in done.stdout + done.stderr
    return source / done.stdout.splitlines()[-1]


def sources(folder: str) -> set[str]:
    """Return the files of a folder of the checkout, without compiled bytecode."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources of a package, because a build leaves folders behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in (*FOLDERS, "squeezedrive", "tests"):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "kernels" / "__pycache__").mkdir()
    (copy / "kernels" / "__pycache__" / "old.py").touch()
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> ZipFile:
    return ZipFile(build("wheel", checkout))


@pytest.fixture(scope="module")
def installed(wheel: ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


def files(wheel: ZipFile) -> dict[str, int]:
    """Return the checksums of a wheel's files, except of RECORD, which lists them."""
    return {i.filename: i.CRC for i in wheel.infolist() if not i.filename.endswith("/RECORD")}


def test_it_installs_only_one_top_level_name(wheel: ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"squeezedrive", DIST_INFO}
    (names,) = (name for name in wheel.namelist() if name.endswith("/top_level.txt"))
    assert wheel.read(names).split() == [b"squeezedrive"]


def test_it_contains_exactly_the_files_of_the_checkout(wheel: ZipFile) -> None:
    expected = {file for folder in FOLDERS for file in sources(folder)}
    own = (path for path in (ROOT / "squeezedrive").iterdir() if path.is_file())
    expected |= {path.name for path in own}
    package = {name for name in wheel.namelist() if name.startswith("squeezedrive/")}
    assert {name.removeprefix("squeezedrive/") for name in package} == expected


def test_the_wheel_is_small(wheel: ZipFile) -> None:
    assert sum(member.compress_size for member in wheel.infolist()) < LARGEST


def test_a_wheel_from_the_source_distribution_is_the_same(
    checkout: Path, wheel: ZipFile, tmp_path: Path
) -> None:
    with tarfile.open(build("sdist", checkout)) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    assert not (source / "tests").exists()
    assert files(ZipFile(build("wheel", source))) == files(wheel)


def requirements(installed: Path) -> list[Requirement]:
    metadata = installed / DIST_INFO / "METADATA"
    lines = Parser().parsestr(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist")
    return [Requirement(line) for line in lines or []]


def test_requirements_have_bounds_that_include_the_tested_versions(installed: Path) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    needed = [one for one in requirements(installed) if one.name != "squeezedrive"]  # an extra
    toolkits = [
        one for one in needed if one.name == "cuda-toolkit"
    ]  # of CUDA 12 and 13, not pinned
    assert len(toolkits) == 2
    assert all({part.operator for part in one.specifier} == {">=", "<"} for one in toolkits)
    needed = [one for one in needed if one not in toolkits]
    # constraints.txt pins all required packages and no others.
    assert {canonicalize_name(one.name) for one in needed} == set(pinned)
    for one in needed:
        if one.marker is None:  # not from an extra
            assert {part.operator for part in one.specifier} == {">=", "<"}, one
        (pin,) = pinned[canonicalize_name(one.name)]
        assert pin.operator == "=="
        assert one.specifier.contains(pin.version), one


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": os.devnull,  # a cache that cannot be written
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_its_commands_run_from_any_folder(installed: Path, tmp_path: Path) -> None:
    entries = (installed / DIST_INFO / "entry_points.txt").read_text()
    assert entries.split("\n\n")[0].splitlines() == [
        "[console_scripts]",
        "squeezedrive = squeezedrive.__main__:program",
        "squeezedrive-engines = squeezedrive.engines.__main__:program",
    ]
    assert "examples:" in run(installed, tmp_path, "-m", "squeezedrive", "--help")
    assert "16,848 anchors" in run(installed, tmp_path, "-m", "squeezedrive.engines", "describe")


def test_it_finds_its_files_and_writes_none(installed: Path, tmp_path: Path) -> None:
    """Without a cache that can be written, code is compiled without a message."""
    before = set(installed.rglob("*"))
    script = """
from pathlib import Path
from squeezedrive.kernels import cpu
from squeezedrive.pipeline.config import load_config, load_network_config
config = load_config(Path("configs/live.yaml"))
print(load_network_config(Path(config.network)).weights, config.queue.policy)
"""
    weights, policy = run(installed, tmp_path, "-c", script).split()
    assert policy == "bounded_age"
    assert Path(weights).resolve().is_relative_to(installed / "squeezedrive")
    assert Path(weights).is_file()
    assert set(installed.rglob("*")) == before
