"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.app import command_line
from tests.street.clip import write_clip
from tests.street.spec import StreetSpec
from tests.support.media import write_video
from tests.support.threads import threads_of_runs

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _signals_work() -> None:
    """Restore SIGINT and SIGHUP: programs that a shell starts in the background ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Restore the log, which a run of the whole program changes and other tests read."""
    log = logging.getLogger("squeezedrive")
    before = list(log.handlers), log.propagate, log.level
    yield
    log.handlers, log.propagate, level = before
    log.setLevel(level)


@pytest.fixture
def no_thread_outlives() -> Iterator[None]:
    """Check that all threads that a test has started have ended when the test ends."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def no_run_is_left() -> Iterator[None]:
    """Check that no thread of a run of the library is left after a test."""
    yield
    gc.collect()
    assert not threads_of_runs()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real footage and reference weights, which is not part of the project."""
    folder = Path(os.environ.get("SQUEEZEDRIVE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the shared material, not found at {folder} (SQUEEZEDRIVE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network file with a small input, for tests of all that surrounds the network."""
    path = tmp_path_factory.mktemp("network") / "small.yaml"
    path.write_text(
        "architecture: squeezedet\n"
        f"weights: {ROOT / 'engines' / 'shipped' / 'squeezedrive-v3.npz'}\n"
        "classes: [car, pedestrian, cyclist]\n"
        "input: {width: 320, height: 96}\n"
    )
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 12 frames, for tests that do not depend on its pictures."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, 12, size=(320, 192))
    return path


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of the rendered street: 90 frames of 320x192, 25 a second."""
    path = tmp_path_factory.mktemp("street") / "drive.mp4"
    write_clip(path, StreetSpec(320, 192, Fraction(25), 90, seed=3))
    return path


@pytest.fixture
def small(small_network: Path) -> dict[str, Any]:
    """Return settings of the library for runs that take little time."""
    return {"network": str(small_network), "backend": "cpu", "detect.threshold": 0.05}


@pytest.fixture
def run(small_network: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the program in this process; return its exit code, standard output and error."""

    def program(*arguments: str | Path) -> tuple[int, str, str]:
        argv = [str(a) for a in arguments]
        if not any(a.startswith("network=") for a in argv):
            argv += ["--set", f"network={small_network}"]
        capfd.readouterr()
        code = command_line.main(argv)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return program


@pytest.fixture
def refused(run: Any) -> Any:
    """Run the program with wrong arguments; return its only line, the error."""

    def line(*arguments: str | Path) -> str:
        code, out, err = run(*arguments)
        lines = [one for one in err.splitlines() if not one.startswith(("info:", "warning:"))]
        assert (code, out, len(lines)) == (2, "", 1), err
        assert lines[0].startswith("error: ")
        return lines[0]

    return line
