from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.files.jsonl import JsonlSink
from tests.support.limits import largest_file

ROOT = Path(__file__).resolve().parents[2]
ROAD = ["car", "cyclist", "pedestrian"]
TWO = Detections(
    np.array([[10.123, 20.456, 110.789, 220.0], [1, 2, 3, 4]], np.float32),
    np.array([0.87, 0.31239], np.float32),
    np.array([0, 2], np.int32),
)


def result(frame_id: int = 0, found: Detections = TWO, pts: int | None = None) -> FrameResult:
    pts = 1001 * frame_id if pts is None else pts
    image = np.zeros((48, 64, 3), np.uint8)
    return FrameResult(Frame(0, frame_id, pts, Fraction(1, 30000), 0.0, image), found)


def test_the_lines_can_be_read_back(tmp_path):
    sink = JsonlSink(
        tmp_path / "out.jsonl", lambda: {"source": "weg über.mp4", "threshold": 0.4}, ROAD
    )
    sink.write(result(0))
    sink.write(result(7, Detections.empty()))
    sink.close()
    header, first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert header == {"type": "header", "source": "weg über.mp4", "threshold": 0.4}
    assert next(iter(header)) == "type"
    assert first == {
        "frame": 0,
        "pts": 0.0,
        "width": 64,
        "height": 48,
        "detections": [
            {"class": "car", "score": 0.87, "box": [10.12, 20.46, 110.79, 220.0]},
            {"class": "pedestrian", "score": 0.3124, "box": [1.0, 2.0, 3.0, 4.0]},
        ],
    }
    assert list(first) == ["frame", "pts", "width", "height", "detections"]
    assert second["detections"] == []
    assert second["frame"] == 7


def test_tracked_objects_have_ids(tmp_path):
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    sink.write(replace(result(0), ids=np.array([12, 3], np.int32)))
    sink.write(replace(result(1, Detections.empty()), ids=np.empty(0, np.int32), detected=False))
    sink.close()
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()[1:])
    assert list(first) == ["frame", "pts", "width", "height", "detected", "detections"]
    assert (first["detected"], second["detected"]) == (True, False)
    assert [d["id"] for d in first["detections"]] == [12, 3]
    assert list(first["detections"][0]) == ["id", "class", "score", "box"]
    assert second["detections"] == []


@pytest.mark.parametrize("pts", [1001, 3003, 1_234_567_891])
def test_pts_is_not_rounded(tmp_path, pts):
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    sink.write(result(pts=pts))
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])
    assert line["pts"] == float(Fraction(pts, 30000))
    sink.close()


def test_numbers_have_few_digits(tmp_path):
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    sink.write(result())
    sink.close()
    assert '"score":0.87,"box":[10.12,20.46,110.79,220.0]' in (tmp_path / "out.jsonl").read_text()


def test_nothing_is_created_before_the_first_frame(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    JsonlSink(path, dict, ROAD).close()
    JsonlSink(tmp_path / "other.jsonl", dict, ROAD).close()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_is_replaced(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("x" * 10_000)
    sink = JsonlSink(path, dict, ROAD)
    sink.write(result())
    sink.close()
    assert [json.loads(line) for line in path.read_text().splitlines()][1]["frame"] == 0


def test_lines_can_be_read_during_the_run(tmp_path):
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    for k in range(3):
        sink.write(result(k))
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["frame"] == k
    sink.close()


def test_it_can_be_closed_twice(tmp_path):
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    sink.write(result())
    sink.close()
    sink.close()


def test_the_sink_is_named_after_its_output(tmp_path):
    assert JsonlSink(tmp_path / "out.jsonl", dict, ROAD).name == str(tmp_path / "out.jsonl")
    assert JsonlSink("-", dict, ROAD).name == "standard output"


def test_a_dash_means_standard_output(capfd):
    sink = JsonlSink("-", lambda: {"model": "m"}, ROAD)
    sink.write(result(3))
    sink.close()
    print("still open", flush=True)
    header, line, after = capfd.readouterr().out.splitlines()
    assert json.loads(header)["model"] == "m"
    assert json.loads(line)["frame"] == 3
    assert after == "still open"


def test_a_closed_pipe_is_an_error():
    code = (
        "from tests.pipeline.test_jsonl_sink import *\n"
        "sink = JsonlSink('-', dict, ROAD)\n"
        "try:\n"
        "    for k in range(100000):\n"
        "        sink.write(result(k))\n"
        "except SinkError as err:\n"
        "    print(err, file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        json.loads(child.stdout.readline())
        child.stdout.close()
        assert child.stderr.read() == "standard output: cannot write: Broken pipe\n"
        child.stderr.close()
        assert child.wait(timeout=100) == 0


def test_missing_folder_is_named(tmp_path):
    path = tmp_path / "none" / "out.jsonl"
    with pytest.raises(SinkError, match="does not exist") as caught:
        JsonlSink(path, dict, ROAD).write(result())
    assert str(path) in str(caught.value)
    assert str(path.parent) + " " in str(caught.value)


def test_folder_as_path_is_an_error(tmp_path):
    with pytest.raises(SinkError, match=r"cannot write: Is a directory"):
        JsonlSink(tmp_path, dict, ROAD).write(result())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_is_an_error():
    sink = JsonlSink("/dev/full", dict, ROAD)
    with pytest.raises(SinkError, match=r"/dev/full: cannot write: No space left on device"):
        sink.write(result())
    sink.close()


def test_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(path, dict, ROAD)

    def fill() -> None:
        for k in range(100):
            sink.write(result(k))

    # The limit falls inside a line: the system writes the first part of it, then refuses.
    with largest_file(1000), pytest.raises(SinkError, match="File too large"):
        fill()
    sink.close()
    text = path.read_text()
    assert text.endswith("]}\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["frame"] for line in lines[1:]] == list(range(len(lines) - 1))
    assert 500 < len(text) <= 1000


def test_infinite_coordinate_is_refused_rather_than_written_as_invalid_json(tmp_path):
    bad = Detections(
        np.array([[0, 0, np.inf, 1]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    )
    sink = JsonlSink(tmp_path / "out.jsonl", dict, ROAD)
    with pytest.raises(ValueError, match="JSON"):
        sink.write(result(found=bad))
    sink.close()
