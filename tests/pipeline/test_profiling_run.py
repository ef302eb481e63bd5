"""The program with --profile and --sweep, as its users start it."""

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squeezedrive.pipeline.app import command_line
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.stage import STAGES as STAGE_NAMES
from squeezedrive.pipeline.profiling.compare import read_profile
from squeezedrive.pipeline.stages.feed import Feed

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES = 90


class Page(HTMLParser):
    """A parser that checks that tags are closed and collects the files that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[tuple[str, str | None]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.loads += [a for a in attributes if a[0] in ("src", "href", "xlink:href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@pytest.fixture(scope="module")
def profile(drive: Path, small_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile a small video; return the folder of the profile."""
    folder = tmp_path_factory.mktemp("runs") / "profile"
    marked: list[str] = []

    def annotate(name: str, domain: str) -> Any:
        assert domain == "squeezedrive"
        return lambda work: lambda item: marked.append(name) or work(item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
        patch.setattr("squeezedrive.pipeline.profiling.profiler.measure_alone", _alone)
        # Otherwise the log would stay redirected, and tests of other modules could not read it.
        patch.setattr("squeezedrive.pipeline.app.command_line.log_to_stderr", lambda level: None)
        arguments = [str(drive), "--profile", str(folder)]
        arguments += ["--set", f"network={small_network}"]
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert command_line.main(arguments) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    (folder / "marked.json").write_text(json.dumps(marked))
    return folder


def _alone(backend: Any, picture: Any, batch: int, hurry: Any) -> dict[str, float]:
    from squeezedrive.pipeline.profiling.alone import measure_alone

    return measure_alone(backend, picture, batch, 0.05, hurry)


@pytest.fixture(scope="module")
def figures(profile: Path) -> dict[str, Any]:
    return read_profile(profile / "summary.json")


def test_a_profile_has_all_its_files(profile: Path) -> None:
    names = {path.name for path in profile.iterdir()} - {"marked.json", "printed.txt"}
    assert names == {"report.html", "summary.json", "trace.json", "video.mp4"}


def test_the_summary_has_the_documented_keys_and_no_other(figures: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "profiling.md").read_text()
    documented = {word for part in text.split("`")[1::2] for word in part.split(".")}
    named = {*figures["stages"], *figures["queues"], *figures["config"], *figures["frames"]}

    def check(values: Any, path: str) -> None:
        for key, value in values.items():
            if path in ("config", "backend", "frames"):
                return
            assert key in documented or key in named, f"{path}.{key} is not documented"
            if isinstance(value, dict):
                check(value, key)

    check(figures, "")
    for key in ("verdict", "fps", "stages", "threads", "queues", "series", "device_ms"):
        assert key in figures


def test_figures_are_consistent(figures: dict[str, Any]) -> None:
    left_out, measured = figures["warmup"]["frames"], figures["measured"]["frames"]
    assert left_out + measured + figures["drained"]["frames"] == FRAMES
    assert 0 < left_out <= FRAMES // 4
    assert measured >= FRAMES - FRAMES // 4 - 14  # the pipeline holds 14 frames
    assert list(figures["stages"]) == list(STAGE_NAMES)
    seconds = figures["measured"]["seconds"]
    assert figures["fps"]["pipeline"]["mean"] == pytest.approx(measured / seconds)
    assert set(figures["fps"]) == {"inference", "detection", "pipeline"}
    for stage in figures["stages"].values():
        shares = [stage[key] for key in ("busy_share", "wait_in_share", "wait_out_share")]
        assert all(share >= 0 for share in shares)
        assert sum(shares) <= 1.05  # the clocks are read in turn: 1.012 on a busy machine
        busy = stage["busy_ms"]
        assert 0 < busy["p50"] <= busy["p90"] <= busy["p99"]
    for queue in figures["queues"].values():
        assert 0 <= queue["mean"] <= queue["depth"]
    own = {thread["stage"] for thread in figures["threads"] if thread["own"]}
    assert own == set(STAGE_NAMES)
    libraries = {thread["stage"] for thread in figures["threads"] if not thread["own"]}
    assert "inference" in libraries  # OpenVINO's threads are recognized by name
    counted = sum(count for _, count in figures["latency_histogram_ms"])
    assert counted == measured
    assert figures["verdict"]["ceiling_fps"] > 0


def test_the_trace_has_one_flow_for_each_frame(profile: Path, figures: dict[str, Any]) -> None:
    trace = json.loads((profile / "trace.json").read_text())
    events = trace["traceEvents"]
    slices: dict[int, list[str]] = {}
    for event in events:
        if event["ph"] == "X" and event["cat"] == "work":
            (number,) = event["args"]["frames"]
            slices.setdefault(number, []).append(event["name"])
    ends = {phase: [e["id"] for e in events if e["ph"] == phase] for phase in "sf"}
    assert sorted(ends["s"]) == sorted(ends["f"]) == sorted(slices)
    assert len(set(ends["s"])) == len(ends["s"]) == trace["otherData"]["frames"]
    assert all(sorted(names) == sorted(STAGE_NAMES) for names in slices.values())
    # Frames that were captured before the measurement began are not in the trace.
    assert 0 < len(slices) <= FRAMES - figures["warmup"]["frames"]
    tracks = {e["tid"] for e in events if e["name"] == "thread_name"}
    assert {e["tid"] for e in events if e["ph"] == "X"} == tracks
    for event in events:
        if event["ph"] in "stf":
            assert any(
                e["ph"] == "X" and e["tid"] == event["tid"]
                and e["ts"] <= event["ts"] <= e["ts"] + e["dur"]
                and event["id"] in e["args"].get("frames", ())
                for e in events
            )  # fmt: skip


def test_the_page_needs_nothing_but_itself(profile: Path) -> None:
    text = (profile / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    for foreign in ("http:", "https:", "url(", "@import"):
        assert foreign not in text
    assert page.tags.count("svg") == 4 + 5  # the 5 are one for each queue
    assert "prefers-color-scheme: dark" in text


def test_stages_are_marked_for_nsight(profile: Path) -> None:
    marked = json.loads((profile / "marked.json").read_text())
    assert {name: marked.count(name) for name in STAGE_NAMES} == {
        **dict.fromkeys(STAGE_NAMES, FRAMES),
        "capture": FRAMES + 1,  # the last call finds the end of the source
    }


def test_prints_the_figures_and_the_verdict(profile: Path) -> None:
    out = (profile / "printed.txt").read_text()
    assert re.search(r" s, of warm-up, and \d+ after the end of the source\n", out)
    assert "fps: everything from the source to the outputs" in out
    for name in STAGE_NAMES:
        assert f"\n{name} " in out
    assert " limit" in out
    assert out.rstrip().endswith("report.html")


@pytest.fixture
def at_frame(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that takes calls by frame number, from 1; each runs before its frame."""

    events: dict[int, Callable[[], None]] = {}
    plain = Feed.take

    def take(feed: Feed) -> Any:
        events.get(feed.read + 1, lambda: None)()
        return plain(feed)

    def plan(new: dict[int, Callable[[], None]]) -> None:
        events.clear()
        events.update(new)

    monkeypatch.setattr(Feed, "take", take)
    monkeypatch.setattr("squeezedrive.pipeline.profiling.profiler.measure_alone", _alone)
    return plan


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    interrupt()
    os.kill(os.getpid(), signal.SIGTERM)  # not the same signal: Python may merge two


def gone() -> None:
    raise SourceError("camera: is gone")


LONG = "demo:loop"


def test_a_failing_source_keeps_the_figures_measured_before(
    run: Any, small_network: Path, tmp_path: Path, at_frame: Any
) -> None:
    at_frame({90: gone})
    folder = tmp_path / "p"
    arguments = ("--no-video", "--no-progress", "--set", f"network={small_network}",
                 "--set", "profile.warmup=0.1", "--profile")  # fmt: skip
    code, out, err = run(LONG, *arguments, folder)
    assert (code, err.splitlines()[-1]) == (2, "error: camera: is gone")
    assert "fps: everything from the source to the outputs" in out
    assert read_profile(folder)["ended"] == "camera: is gone"
    at_frame({9: gone})
    code, out, err = run(LONG, *arguments, tmp_path / "q")
    assert code == 2
    assert "no profile: nothing to profile: 8 frames came out" in err
    assert "8 processed" in out  # the summary of the run is printed nevertheless


def test_a_signal_ends_a_profiled_run_with_its_profile(
    run: Any, small_network: Path, tmp_path: Path, at_frame: Any
) -> None:
    arguments = (LONG, "--no-video", "--no-progress", "--set", f"network={small_network}",
                 "--set", "profile.warmup=0.1", "--profile")  # fmt: skip
    at_frame({90: interrupt})
    code, out, _ = run(*arguments, tmp_path / "p")
    assert code == 130
    assert set(read_profile(tmp_path / "p")["fps"]) == {"inference", "detection", "pipeline"}
    assert out.rstrip().endswith("report.html")
    at_frame({5: interrupt})
    code, out, err = run(*arguments, tmp_path / "q", "--set", "profile.warmup=60")
    assert code == 130
    assert "no profile: nothing to profile: " in err
    assert "processed" in out
    at_frame({90: terminate})
    code, out, err = run(*arguments, tmp_path / "r")
    assert code in (130, 143)
    assert "no profile: the run was given up" in err
    assert not (tmp_path / "r").exists()


def test_figures_that_cannot_be_written_are_printed_and_the_others_written(
    run: Any, drive: Path, small_network: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    (folder / "report.html").mkdir(parents=True)
    code, out, err = run(drive, "-n", "40", "--no-video", "--no-progress", "--profile", folder,
                         "--overwrite", "--set", f"network={small_network}")  # fmt: skip
    assert code == 2
    assert "report.html: cannot write the profile: Is a directory" in err.splitlines()[-1]
    assert "fps: everything from the source to the outputs" in out
    assert "wrote" not in out
    assert read_profile(folder)["measured"]["frames"] > 0


def test_impossible_options_are_an_error_of_one_line(
    refused: Any, drive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    taken = tmp_path / "file"
    taken.write_text("")
    assert "is a file, expected a folder" in refused(drive, "--profile", taken)
    for name in (taken / "p", tmp_path / ("n" * 300)):
        assert f"{name}: cannot make the folder" in refused(drive, "--profile", name)
    few = ("-n", "30", "--no-video", "--profile", tmp_path / "few" / "p")
    assert "take 35 or more" in refused(drive, *few)
    assert not (tmp_path / "few" / "p").exists()
    folder.mkdir()
    same = ("--no-video", "--profile", folder, "--summary", folder / "summary.json")
    assert "is named for two outputs" in refused(drive, *same)
    (folder / "trace.json").write_text("")
    assert "trace.json: exists already; --overwrite" in refused(drive, "--profile", folder)
