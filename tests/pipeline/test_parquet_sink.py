from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.app import command_line
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.files import parquet
from squeezedrive.pipeline.sinks.files.parquet import ParquetSink
from tests.support.limits import largest_file
from tests.support.media import write_video
from tests.support.tables import ROAD, TWO, jsonl_rows, nothing, result, written


@pytest.fixture
def pq() -> Any:
    return pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the extra parquet")


def rows(pq: Any, path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]


def test_each_detection_is_a_row(pq: Any, tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path / "out.parquet", "weg über.mp4", ROAD)
    path = written(sink, result(0), nothing(1), result(3, TWO[:1], [7]))
    assert pq.read_schema(path).names == list(parquet.COLUMNS)
    assert rows(pq, path) == [
        ("weg über.mp4", 0, 0.0, "car", 0.87, 10.12, 20.46, 110.79, 220.0, None, None, None),
        ("weg über.mp4", 0, 0.0, "pedestrian", 0.3124, 1.0, 2.0, 3.0, 4.0, None, None, None),
        ("weg über.mp4", 3, 0.1001, "car", 0.87, 10.12, 20.46, 110.79, 220.0, 7, None, None),
    ]


def test_names_that_are_not_utf8_are_written_readably(pq: Any, tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path / "out.parquet", "caf\udce9.mp4", ["\udc80", *ROAD[1:]])
    found = rows(pq, written(sink, result(0, TWO[:1])))
    assert (found[0][0], found[0][3]) == (r"caf\xe9.mp4", r"\x80")


def test_a_run_without_detections_writes_an_empty_table(pq: Any, tmp_path: Path) -> None:
    path = written(ParquetSink(tmp_path / "out.parquet", "drive.mp4", ROAD), nothing(0))
    assert pq.read_schema(path).names == list(parquet.COLUMNS)
    assert rows(pq, path) == []


def test_rows_are_not_kept_in_memory(
    pq: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS", 10)
    sink = ParquetSink(tmp_path / "out.parquet", "drive.mp4", ROAD)
    for k in range(53):
        sink.write(result(k))
        assert len(sink._rows) < 10
    sink.close()
    path = tmp_path / "out.parquet"
    assert pq.ParquetFile(path).num_row_groups == 11
    assert [row[1] for row in rows(pq, path)] == [k for k in range(53) for _ in range(2)]


def test_a_run_and_its_conversion_agree_with_the_json_lines(
    pq: Any, run: Any, tmp_path: Path
) -> None:
    clip, out, jsonl = (tmp_path / name for name in ("clip.mp4", "out.parquet", "out.jsonl"))
    write_video(clip, 6, size=(320, 192))
    options = "--no-video", "-t", "0.001", "--track", "--jsonl", jsonl
    assert run(clip, *options, "--parquet", out)[0] == 0
    expected = jsonl_rows([json.loads(line) for line in jsonl.read_text().splitlines()])
    assert expected
    assert rows(pq, out) == expected
    header = json.loads(jsonl.read_text().splitlines()[0])
    assert {"type": "header", **json.loads(pq.read_schema(out).metadata[b"squeezedrive"])} == header
    other = tmp_path / "other.parquet"
    assert command_line.main(["convert", str(jsonl), "--parquet", str(other)]) == 0
    assert rows(pq, other) == expected


def test_an_existing_file_stays_until_the_new_one_is_finished(pq: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_text("precious")
    sink = ParquetSink(path, "drive.mp4", ROAD)
    sink.write(result(0))
    assert path.read_text() == "precious"
    sink.close()
    sink.close()
    assert len(rows(pq, path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    ParquetSink(tmp_path / "out.parquet", "drive.mp4", ROAD).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("group", [2, 20_000])  # the disk is full during the run, or at the end
def test_a_full_disk_leaves_the_existing_file(
    pq: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(parquet, "ROWS", group)
    path = tmp_path / "out.parquet"
    path.write_text("precious")
    sink = ParquetSink(path, "drive.mp4", ROAD)

    def fill() -> None:
        for k in range(100):
            sink.write(result(k))
        sink.close()

    with largest_file(1000):
        with pytest.raises(SinkError, match=r"out\.parquet: cannot write: "):
            fill()
        sink.close()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_named(pq: Any, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"the folder .*none does not exist"):
        ParquetSink(tmp_path / "none" / "out.parquet", "drive.mp4", ROAD).write(result())


def test_without_pyarrow_it_is_refused_before_the_run(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, 2, size=(320, 192))
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    message = refused(clip, "--no-video", "--parquet", tmp_path / "out.parquet")
    assert "--parquet: needs pyarrow: pip install" in message
