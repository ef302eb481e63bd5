"""The program with --profile and --sweep, as its users start it."""

import io
import json
import logging
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import run_pipeline
from engines.errors import BackendUnavailable
from pipeline.profiling import sweep as sweep_module
from pipeline.profiling.compare import load_profile
from pipeline.profiling.threads import STAGES as STAGE_NAMES

ROOT = Path(__file__).resolve().parent.parent.parent
SCENE = "scene:size=320x192,fps=25,frames=40,seed=3"
FRAMES = 40


class Page(HTMLParser):
    """Checks that tags are closed and collects what a page would load."""

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
def profile(small_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile a small scene; return the folder."""
    folder = tmp_path_factory.mktemp("runs") / "profile"
    marked: list[str] = []

    def annotate(name: str, domain: str) -> Any:
        assert domain == "squeezedrive"
        return lambda work: lambda item: marked.append(name) or work(item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
        patch.setattr("pipeline.profiling.profiler.measure_alone", _alone)
        # Nothing would put the log back before the next module's tests listen to it.
        patch.setattr("run_pipeline._log_to_stderr", lambda level: None)
        arguments = [SCENE, "--profile", str(folder), "--set", f"network={small_network}"]
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert run_pipeline.main(arguments) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    (folder / "marked.json").write_text(json.dumps(marked))
    return folder


def _alone(backend: Any, picture: Any, batch: int) -> dict[str, float]:
    from pipeline.profiling.alone import measure_alone

    return measure_alone(backend, picture, batch, seconds=0.05)


@pytest.fixture(scope="module")
def figures(profile: Path) -> dict[str, Any]:
    return load_profile(profile / "summary.json")


def test_all_files_are_there(profile: Path) -> None:
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


def test_figures_fit_together(figures: dict[str, Any]) -> None:
    left_out, measured = figures["warmup"]["frames"], figures["measured"]["frames"]
    assert left_out + measured == FRAMES
    assert 0 < left_out <= FRAMES // 4
    assert list(figures["stages"]) == list(STAGE_NAMES)
    seconds = figures["measured"]["seconds"]
    assert figures["fps"]["pipeline"]["mean"] == pytest.approx(measured / seconds)
    assert set(figures["fps"]) == {"inference", "detection", "pipeline"}
    for stage in figures["stages"].values():
        shares = [stage[key] for key in ("busy_share", "wait_in_share", "wait_out_share")]
        assert all(share >= 0 for share in shares)
        assert sum(shares) <= 1.01
        assert measured <= stage["frames"] + sum(q["depth"] for q in figures["queues"].values()) + 8
        busy = stage["busy_ms"]
        assert 0 < busy["p50"] <= busy["p90"] <= busy["p99"]
    for queue in figures["queues"].values():
        assert 0 <= queue["mean"] <= queue["depth"]
    own = {thread["stage"] for thread in figures["threads"] if thread["own"]}
    assert own == set(STAGE_NAMES)
    libraries = {thread["stage"] for thread in figures["threads"] if not thread["own"]}
    assert "inference" in libraries  # OpenVINO's threads are told by their name
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
    # Those that were captured before the measurement began are not in it.
    assert 0 < len(slices) <= figures["measured"]["frames"]
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
    assert page.tags.count("svg") == 4 + 5  # and one for each queue
    assert "prefers-color-scheme: dark" in text


def test_stages_are_marked_for_nsight(profile: Path) -> None:
    marked = json.loads((profile / "marked.json").read_text())
    assert {name: marked.count(name) for name in STAGE_NAMES} == {
        **dict.fromkeys(STAGE_NAMES, FRAMES),
        "capture": FRAMES + 1,  # the last finds the end
    }


def test_what_is_printed(profile: Path) -> None:
    out = (profile / "printed.txt").read_text()
    assert "left out as warm-up: " in out
    assert "fps: everything from the source to the outputs" in out
    for name in STAGE_NAMES:
        assert f"\n{name} " in out
    assert " limit" in out
    assert out.rstrip().endswith("report.html")


def refused(result: tuple[int, str, str]) -> str:
    code, out, err = result
    lines = [line for line in err.splitlines() if not line.startswith(("info:", "warning:"))]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_what_cannot_be_is_told_in_one_line(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    taken = tmp_path / "file"
    taken.write_text("")
    assert "is a file, expected a folder" in refused(run(SCENE, "--profile", taken))
    missing = tmp_path / "no" / "p"
    assert f"{missing}: cannot make the folder" in refused(run(SCENE, "--profile", missing))
    few = "scene:size=320x192,frames=2"
    code, out, err = run(few, "--no-video", "--no-progress", "--profile", folder)
    assert code == 2
    assert "2 processed" in out  # what the run did is told all the same
    assert "error: nothing to profile: 2 frames came out" in err.splitlines()[-1]
    same = ("--no-video", "--profile", folder, "--summary", folder / "summary.json")
    assert "is named for two outputs" in refused(run(SCENE, *same))
    (folder / "trace.json").write_text("")
    assert "holds a profile already; --overwrite" in refused(run(SCENE, "--profile", folder))
    assert "expected --profile DIR" in refused(run(SCENE, "--sweep", "cpu.streams=1,2"))
    both = ("--profile", folder, "--sweep", "cpu.streams=1,2")
    assert "profiles only" in refused(run(SCENE, *both, "--jsonl", tmp_path / "x.jsonl"))
    assert "is there twice" in refused(run(SCENE, *both, "--sweep", "cpu.streams=3"))
    for wrong in ("cpu.streams", "cpu.streems=1", "cpu.streams=1,none"):
        assert f"--sweep{':' if '=' not in wrong else ''}" in refused(
            run(SCENE, "--profile", folder, "--sweep", wrong)
        )


def sweep_with(rates: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let `execute` write profiles with the given rates; return the order of its runs."""
    order: list[str] = []

    def execute(sources: list[str], config: Any, outputs: Any, progress: bool, report: bool) -> int:
        key = f"{config.cpu.streams}/{config.video.preset}"
        order.append(key)
        if key not in rates:
            raise BackendUnavailable("no such thing here")
        fps = rates[key][order.count(key) - 1]
        outputs.profile.mkdir(exist_ok=True)
        (outputs.profile / "summary.json").write_text(json.dumps({
            "fps": {"pipeline": {"mean": fps}},
            "cpu": {"share": 0.5, "share_with_other_programs": 0.6,
                    "ms_per_frame": {"mean": 1000 / fps}},
            "latency_ms": {"p50": 1.0, "p99": 2.0},
        }))  # fmt: skip
        return 0

    monkeypatch.setattr(sweep_module, "execute", execute)
    return order


def test_a_sweep_goes_round_and_takes_medians(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rates = {
        "1/fast": [20.0, 22.0, 21.0],
        "1/medium": [10.0, 10.0, 11.0],
        "2/fast": [30.0, 21.5, 31.0],
    }
    order = sweep_with(rates, monkeypatch)
    folder = tmp_path / "sweep"
    with caplog.at_level(logging.INFO, "squeezedrive"):
        code, out, err = run(SCENE, "--profile", folder, "--sweep", "cpu.streams=1,2",
                             "--sweep", "video.preset=fast,medium")  # fmt: skip
    assert code == 0, err
    round_ = ["1/fast", "1/medium", "2/fast"]
    assert order == [*round_, "2/medium", *round_, *round_]  # what cannot run is not tried again
    lines = {line.rsplit("video.preset=", 1)[-1].split()[0] + line[12]: line.split()
             for line in out.splitlines() if line.startswith("cpu.")}  # fmt: skip
    assert lines["fast1"][2:6] == ["21.0", "20.0", "22.0", "1.00x"]
    assert lines["medium1"][2:6] == ["10.0", "10.0", "11.0", "0.48x"]
    assert lines["fast2"][2:6] == ["30.0", "21.5", "31.0", "1.43x"]
    assert "no such thing here" in " ".join(lines["medium2"])
    assert ("fastest: cpu.streams=2 video.preset=fast, but runs overlap with"
            " cpu.streams=1 video.preset=fast") in out  # fmt: skip
    assert "other programs took up to 10% of the cores" in out

    data = json.loads((folder / "sweep.json").read_text())
    assert [cell["folder"] for cell in data["cells"]] == ["1", "2", "3", "4"]
    assert data["cells"][0]["median"]["fps"] == 21.0
    assert data["cells"][0]["settings"] == {"cpu.streams": 1, "video.preset": "fast"}
    assert data["cells"][3] == {
        "settings": {"cpu.streams": 2, "video.preset": "medium"},
        "folder": "4", "runs": [], "median": {}, "failure": "no such thing here",
    }  # fmt: skip


def test_a_sweep_of_which_nothing_runs_is_an_error(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_with({}, monkeypatch)
    result = run(SCENE, "--profile", tmp_path / "s", "--sweep", "cpu.streams=1,2")
    assert refused(result) == "error: no such thing here"
