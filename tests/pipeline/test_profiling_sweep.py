"""The program with --sweep, as its users start it."""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.errors import BackendUnavailable, UserError
from squeezedrive.pipeline.app.run import RunOutcome
from squeezedrive.pipeline.profiling import sweep as sweep_module

DEMO = "demo:loop,frames=40"
SENT = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "hang up": signal.SIGHUP}


class Runs:
    """Stand-in for the runs of a sweep: each has a given rate, or ends by an error or signal."""

    def __init__(self, rates: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self._rates = rates
        monkeypatch.setattr(sweep_module, "open_session", self.session)
        monkeypatch.setattr(sweep_module, "run_session", self.process)

    @contextmanager
    def session(self, sources: list[str], config: Any, outputs: Any) -> Iterator[str]:
        key = f"{config.cpu.streams}/{config.video.preset}"
        self.order.append(key)
        if key not in self._rates:
            raise BackendUnavailable("no such thing here")
        yield key

    def process(self, key: str, folder: Path, progress: bool) -> RunOutcome:
        fps = self._rates[key][self.order.count(key) - 1]
        if isinstance(fps, UserError):
            return RunOutcome({}, None, fps, (), False)
        if fps in SENT:
            os.kill(os.getpid(), SENT[fps])
            time.sleep(10)  # the signal handler interrupts the sleep
        if isinstance(fps, signal.Signals):
            return RunOutcome({}, None, None, (fps,), False)
        (folder / "summary.json").write_text("{}")
        profile = {
            "source": "rtsp://***@camera/",
            "fps": {"pipeline": {"mean": fps}},
            "cpu": {
                "share": 0.5,
                "share_with_other_programs": 0.6,
                "ms_per_frame": {"mean": 1000 / fps},
            },
            "latency_ms": {"p50": 1.0, "p99": 2.0},
        }
        return RunOutcome({}, profile, None, (), True)


def test_a_sweep_takes_turns_and_prints_medians(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rates = {
        "1/fast": [20.0, 22.0, 21.0],
        "1/medium": [10.0, 10.0, 11.0],
        "2/fast": [30.0, 21.5, 31.0],
    }
    runs = Runs(rates, monkeypatch)
    folder = tmp_path / "sweep"
    with caplog.at_level(logging.INFO, "squeezedrive"):
        code, out, err = run(DEMO, "--profile", folder, "--sweep", "cpu.streams=1,2",
                             "--sweep", "video.preset=fast,medium")  # fmt: skip
    assert code == 0, err
    round_ = ["1/fast", "1/medium", "2/fast"]
    # A combination that cannot run is not tried again.
    assert runs.order == [*round_, "2/medium", *reversed(round_), *round_]
    lines = {line.rsplit("video.preset=", 1)[-1].split()[0] + line[12]: line.split()
             for line in out.splitlines() if line.startswith("cpu.")}  # fmt: skip
    assert lines["fast1"][2:6] == ["21.0", "20.0", "22.0", "1.00x"]
    assert lines["medium1"][2:6] == ["10.0", "10.0", "11.0", "0.48x"]
    assert lines["fast2"][2:6] == ["30.0", "21.5", "31.0", "1.43x"]
    assert "no such thing here" in " ".join(lines["medium2"])
    assert ("fastest: cpu.streams=2 video.preset=fast, but by less than 2% in some run:"
            " cpu.streams=1 video.preset=fast") in out  # fmt: skip
    assert "other programs took up to 10% of the cores" in out

    data = json.loads((folder / "sweep.json").read_text())
    assert data["source"] == "rtsp://***@camera/"
    assert [cell["folder"] for cell in data["cells"]] == ["1", "2", "3", "4"]
    assert data["cells"][0]["median"]["fps"] == 21.0
    assert data["cells"][0]["settings"] == {"cpu.streams": 1, "video.preset": "fast"}
    assert data["cells"][3] == {
        "settings": {"cpu.streams": 2, "video.preset": "medium"},
        "folder": "4", "runs": [], "median": {}, "failure": "no such thing here",
    }  # fmt: skip
    assert not (folder / "4").exists()


def test_a_sweep_without_a_successful_run_is_an_error(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs({}, monkeypatch)
    told = refused(DEMO, "--profile", tmp_path / "s", "--sweep", "cpu.streams=1,2")
    assert told == "error: no such thing here"


def test_a_sweep_can_try_lists_of_values(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs({"2/superfast": [20.0] * 6}, monkeypatch)
    axis = "detect.classes=[car, pedestrian],[car]"
    code, out, err = run(DEMO, "--profile", tmp_path / "s", "--sweep", axis)
    assert code == 0, err
    data = json.loads((tmp_path / "s" / "sweep.json").read_text())
    classes = [cell["settings"]["detect.classes"] for cell in data["cells"]]
    assert classes == [["car", "pedestrian"], ["car"]]
    assert "fastest: " in out
    assert "but by less than 2% in some run" in out


def test_a_sweep_over_one_value_has_no_winner(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs({"2/superfast": [20.0, 21.0, 22.0]}, monkeypatch)
    code, out, _ = run(DEMO, "--profile", tmp_path / "s", "--sweep", "cpu.streams=2")
    assert code == 0
    assert "fastest" not in out


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, *SENT])
def test_a_signal_ends_a_sweep_and_keeps_its_figures(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    runs = Runs({"1/superfast": [20.0, end], "2/superfast": [30.0, 31.0]}, monkeypatch)
    folder = tmp_path / "s"
    ended, out, err = run(DEMO, "--profile", folder, "--sweep", "cpu.streams=1,2")
    assert ended == (130 if end in (signal.SIGINT, "interrupt") else 143)
    assert runs.order == ["1/superfast", "2/superfast", "2/superfast", "1/superfast"]
    (line,) = [line for line in out.splitlines() if line.startswith("cpu.streams=1")]
    assert line.endswith("(1 of 3 runs)")
    assert "the sweep was ended by SIG" in err
    data = json.loads((folder / "sweep.json").read_text())
    assert [len(cell["runs"]) for cell in data["cells"]] == [1, 2]


def test_a_signal_in_the_first_round_leaves_no_winner(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs({"1/superfast": [20.0], "2/superfast": [signal.SIGINT]}, monkeypatch)
    _, out, _ = run(DEMO, "--profile", tmp_path / "s", "--sweep", "cpu.streams=1,2")
    assert "cpu.streams=2  not run yet" in out
    assert "fastest" not in out


def test_a_combination_that_fails_later_keeps_its_runs(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = BackendUnavailable("out of memory")
    Runs({"1/superfast": [20.0, failure], "2/superfast": [30.0] * 3}, monkeypatch)
    code, out, _ = run(DEMO, "--profile", tmp_path / "s", "--sweep", "cpu.streams=1,2")
    assert code == 0
    assert "(1 of 3 runs; then it could not run: out of memory)" in out


def test_a_sweep_replaces_no_profile_of_its_folders(refused: Any, tmp_path: Path) -> None:
    mine = tmp_path / "s" / "2" / "video.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    told = refused(DEMO, "--profile", tmp_path / "s", "--sweep", "cpu.streams=1,2")
    assert f"{mine}: exists already; --overwrite replaces it" in told
    assert mine.read_text() == "mine"


def test_a_source_that_does_not_open_ends_a_sweep(refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    told = refused("nope.mp4", "--profile", folder, "--sweep", "cpu.streams=1,2")
    assert "nope.mp4" in told
    assert not folder.exists()


def test_an_impossible_sweep_is_an_error_of_one_line(refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    assert "expected --profile DIR" in refused(DEMO, "--sweep", "cpu.streams=1,2")
    both = ("--profile", folder, "--sweep", "cpu.streams=1,2")
    assert "profiles only" in refused(DEMO, *both, "--jsonl", tmp_path / "x.jsonl")
    assert "is given twice" in refused(DEMO, *both, "--sweep", "cpu.streams=3")
    for wrong in (
        "cpu.streams", "cpu.streems=1", "cpu.streams=1,none", "cpu.streams=1,", "cpu.streams=",
        "cpu.streams=1,,2", "cpu.streams=2, 2", "detect.classes=[car", "preview.token=a,b",
    ):  # fmt: skip
        empty = tmp_path / "empty"
        assert "--sweep" in refused(DEMO, "--profile", empty, "--sweep", wrong)
        assert not empty.exists()
