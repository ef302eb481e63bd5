"""A new sink is one file: its option, its checks and its writing follow from its `SPEC`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.app import command_line
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.sinks import files
from squeezedrive.pipeline.sinks.registry import open_sinks, sink_specs
from tests.pipeline.test_video_sink import Pictures
from tests.support.media import write_video

# The program knows nothing about this output.
CSV = '''
"""Writes followed objects as CSV."""

from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.sinks.files.lines import LineFile
from squeezedrive.pipeline.sinks.spec import SinkSpec


class ToySink(Sink):
    def __init__(self, path, class_names):
        self._lines = LineFile(path)
        self.name = self._lines.name
        self._class_names = class_names

    def write(self, result):
        rows = zip(result.ids.tolist(), result.detections.classes.tolist(), strict=True)
        frame = result.frame.frame_id
        self._lines.append(
            "".join(f"{frame},{number},{self._class_names[k]}\\n" for number, k in rows)
        )

    def close(self):
        self._lines.close()


SPEC = SinkSpec(
    option="csv-lines",
    metavar="OUT.csv",
    help="followed objects as comma-separated values",
    open=lambda context: ToySink(context.path, context.class_names),
    stdout=True,
    turns_on=("track.enabled",),
)
'''
# A display that the user closes after three frames.
GLANCE = """
import time
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.sinks.spec import SinkSpec


class GlanceSink(Sink):
    name = "glance"
    is_display = draws = True

    def __init__(self):
        self.frames = 0

    def write(self, result):
        self.frames += 1
        self.ended = self.frames >= 3
        time.sleep(0.05)

    def close(self):
        pass


SPEC = SinkSpec(option="glance", kind="switch", help="a glance", open=lambda _: GlanceSink())
"""
MANY = ("--no-video", "-t", "0.001")


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add both modules to the package of the file outputs."""
    folder = tmp_path / "modules"
    folder.mkdir()
    names = {"toy_csv": CSV, "toy_glance": GLANCE}
    for name, text in names.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(files, "__path__", [*files.__path__, str(folder)])
    yield
    for name in names:
        sys.modules.pop(f"{files.__name__}.{name}", None)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, 6, size=(320, 192))
    return path


def as_csv(jsonl: Path) -> list[str]:
    _, *lines = map(json.loads, jsonl.read_text().splitlines())
    return [f"{x['frame']},{d['id']},{d['class']}" for x in lines for d in x["detections"]]


def test_a_new_sink_adds_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--csv-lines OUT.csv followed objects as comma-separated values" in text


def test_a_new_sink_gets_the_same_results_as_the_others(
    run: Any, clip: Path, tmp_path: Path
) -> None:
    out, jsonl, summary = (tmp_path / f"out.{end}" for end in ("csv", "jsonl", "json"))
    code, _, err = run(clip, *MANY, "--csv-lines", out, "--jsonl", jsonl, "--summary", summary)
    assert code == 0, err
    assert len(as_csv(jsonl)) > 0
    assert out.read_text().splitlines() == as_csv(jsonl)
    assert str(out) in json.loads(summary.read_text())["outputs"]

    code, text, err = run(clip, *MANY, "--csv-lines", "-")
    assert code == 0
    assert text.splitlines() == as_csv(jsonl)
    assert "6 processed" in err


def test_outputs_of_a_new_sink_are_numbered(
    run: Any, refused: Any, clip: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    assert run(clip, other, *MANY, "--csv-lines", tmp_path / "out.csv")[0] == 0
    numbered = [tmp_path / f"out.{number}.csv" for number in (0, 1)]
    assert len({path.read_text() for path in numbered}) == 1
    assert not (tmp_path / "out.csv").exists()
    assert "out.0.csv: exists already" in refused(
        clip, other, *MANY, "--csv-lines", tmp_path / "out.csv"
    )
    message = refused(clip, other, *MANY, "--csv-lines", "-")
    assert "--csv-lines -: standard output is for one source" in message


def test_output_paths_of_a_new_sink_are_checked(refused: Any, clip: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("precious")
    for path, others, part in (
        (old, [], "exists already; --overwrite replaces it"),
        (clip, ["--overwrite"], "is the source itself"),
        (tmp_path / "none" / "x", [], "does not exist"),
        (new, ["--jsonl", new], "is named for two outputs"),
    ):
        assert part in refused(clip, "--no-video", "--csv-lines", path, *others)
    message = refused("demo:", "--no-video", "--csv-lines", tmp_path)
    assert "is a folder, expected a file name" in message
    assert old.read_text() == "precious"
    assert not new.exists()


def test_a_new_sink_has_names_in_a_folder(run: Any, clip: Path, tmp_path: Path) -> None:
    assert run(clip, *MANY, "--csv-lines", f"{tmp_path}/out/")[0] == 0
    assert (tmp_path / "out" / "clip.csv-lines.csv").exists()


def test_sinks_that_may_block_are_written_last(tmp_path: Path) -> None:
    paths = {spec.option: tmp_path / f"{spec.option}.mp4" for spec in sink_specs()}
    opened = open_sinks(paths, Pictures(), ["car"], load_config(), dict)  # type: ignore[arg-type]
    names = [type(sink).__name__ for sink in opened]
    assert names[:2] == ["WindowSink", "GlanceSink"]  # if no display opens, no file is written
    assert names[-1] == "RecordingSink"  # encoding takes longest
    assert {"CsvSink", "JsonlSink", "KittiSink", "MotSink", "ToySink"} <= set(names[2:-1])
    assert len(names) == len(paths)


def test_a_display_ends_the_run_and_is_not_a_file(run: Any, refused: Any, tmp_path: Path) -> None:
    clip, summary = tmp_path / "long.mp4", tmp_path / "summary.json"
    write_video(clip, 200, size=(320, 192))
    assert run(clip, "--no-video", "--glance", "--summary", summary)[0] == 0
    figures = json.loads(summary.read_text())
    assert 3 <= figures["frames"]["processed"] < 200
    assert figures["outputs"] == []
    assert "--glance: expected one source, got several" in refused(clip, "demo:", "--glance")
