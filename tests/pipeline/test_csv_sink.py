from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.files.csv import CsvSink
from tests.support.limits import largest_file
from tests.support.media import write_video
from tests.support.tables import ROAD, TWO, jsonl_rows, nothing, result, written

ROOT = Path(__file__).resolve().parents[2]
HEADER = "source,frame,pts,class,score,x1,y1,x2,y2,id,lat,lon"


def test_each_detection_is_a_row(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "out.csv", "drive.mp4", ROAD)
    path = written(sink, result(0), nothing(1), result(3, TWO[:1], [7]))
    assert path.read_bytes().decode().split("\n") == [
        HEADER,
        "drive.mp4,0,0.0,car,0.87,10.12,20.46,110.79,220.0,,,",
        "drive.mp4,0,0.0,pedestrian,0.3124,1.0,2.0,3.0,4.0,,,",
        "drive.mp4,3,0.1001,car,0.87,10.12,20.46,110.79,220.0,7,,",
        "",
    ]


def test_a_run_without_detections_writes_an_empty_table(tmp_path: Path) -> None:
    path = written(CsvSink(tmp_path / "out.csv", "drive.mp4", ROAD), nothing(0), nothing(1))
    assert path.read_text() == HEADER + "\n"


@pytest.mark.parametrize("name", ["a, b.mp4", 'say "hi".mp4', "two\nlines.mp4", "weg über.mp4"])
def test_names_with_special_characters_are_read_back_unchanged(tmp_path: Path, name: str) -> None:
    classes = [name, "x", "a,b"]
    path = written(CsvSink(tmp_path / "out.csv", name, classes), result(0))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["class"]) for row in rows] == [(name, name), (name, "a,b")]


def test_the_table_agrees_with_the_json_lines(run: Any, tmp_path: Path) -> None:
    clip, table, jsonl = (tmp_path / name for name in ("clip.mp4", "out.csv", "out.jsonl"))
    write_video(clip, 6, size=(320, 192))
    options = "--no-video", "-t", "0.001", "--track", "--jsonl", jsonl
    assert run(clip, *options, "--csv", table)[0] == 0
    expected = jsonl_rows([json.loads(line) for line in jsonl.read_text().splitlines()])
    assert expected
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert ",".join(header) == HEADER
    assert [tuple(row) for row in rows] == [
        tuple("" if value is None else str(value) for value in row) for row in expected
    ]

    code, text, _ = run(clip, *options[:-2], "--csv", "-")
    assert (code, text) == (0, table.read_text())


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    code = (
        "import sys, time\n"
        "from tests.pipeline.test_csv_sink import *\n"
        "sink = CsvSink(sys.argv[1], 'drive.mp4', ROAD)\n"
        "for k in range(50):\n"
        "    sink.write(result(k))\n"
        "print('written', flush=True)\n"
        "time.sleep(100)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.communicate(timeout=60)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert len(rows) == 1 + 2 * 50
    assert {len(row) for row in rows} == {12}


def test_full_disk_leaves_whole_frames(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "out.csv", "drive.mp4", ROAD)

    def fill() -> None:
        for k in range(100):
            sink.write(result(k))

    with largest_file(1000), pytest.raises(SinkError, match="File too large"):
        fill()
    sink.close()
    _, *rows = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert {len(row) for row in rows} == {12}
    assert len(rows) % 2 == 0
    assert len(rows) > 6


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    written(CsvSink(tmp_path / "out.csv", "drive.mp4", ROAD))
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="does not exist"):
        CsvSink(tmp_path / "none" / "out.csv", "drive.mp4", ROAD).write(result())
