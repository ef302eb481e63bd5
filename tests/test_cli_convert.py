"""`convert`: results in other formats, from whole and damaged files."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.pipeline.app import command_line
from squeezedrive.pipeline.app.results import ResultFile
from squeezedrive.pipeline.sinks.files.jsonl import JsonlSink
from tests.support.media import write_video
from tests.support.tables import ROAD, TWO, nothing, result, written

HEADER = {
    "model": {"classes": ROAD},
    "source": {"name": "drive.mp4", "kind": "file"},
}
# The kinds of files that both a run and `convert` write: option and name of the output.
KINDS = {
    "csv": "t.csv",
    "coco": "coco.json",
    "kitti": "kitti",
    "mot": "mot.txt",
    "jsonl": "copy.jsonl",
}


@pytest.fixture
def convert(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def program(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = command_line.main(["convert", *map(str, arguments)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return program


def jsonl(path: Path, frames: int = 6, followed: bool = False) -> list[bytes]:
    """Write results; return their lines."""
    ids = [7, 3] if followed else None
    results = [result(k, TWO, ids) if k % 3 else nothing(k, followed) for k in range(frames)]
    written(JsonlSink(path, lambda: HEADER, ROAD), *results)
    return path.read_bytes().splitlines(keepends=True)


def frames_in(table: Path) -> list[int]:
    return sorted({int(row.split(",")[1]) for row in table.read_text().splitlines()[1:]})


def test_converted_files_equal_those_of_a_run(run: Any, convert: Any, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, 6, size=(320, 192))
    for folder in ("run", "convert"):
        (tmp_path / folder).mkdir()
    options = [[f"--{k}", tmp_path / "run" / name] for k, name in KINDS.items()]
    arguments = [one for option in options for one in option]
    assert run(clip, "--no-video", "-t", "0.001", "--track", *arguments)[0] == 0
    options = [[f"--{k}", tmp_path / "convert" / name] for k, name in KINDS.items()]
    arguments = [one for option in options for one in option]
    code, out, err = convert(tmp_path / "run" / "copy.jsonl", *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("wrote ")
    assert out.endswith(": 6 frames\n")

    files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert len(files) == len(KINDS) - 1 + 6
    for path in files:
        other = tmp_path / "convert" / path.relative_to(tmp_path / "run")
        if path.name == "mot.txt":  # a run takes sizes from corners that are not rounded
            theirs, ours = (np.loadtxt(one, delimiter=",") for one in (path, other))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.0151)
        else:
            assert other.read_bytes() == path.read_bytes(), path
    assert any(",car," in path.read_text() for path in files if path.suffix == ".csv")


def test_a_table_can_go_to_standard_output(convert: Any, tmp_path: Path) -> None:
    jsonl(tmp_path / "in.jsonl")
    code, out, err = convert(tmp_path / "in.jsonl", "--csv", "-")
    assert code == 0
    assert len(out.splitlines()) == 1 + 2 * 4
    assert err == "wrote -: 6 frames\n"


@pytest.mark.parametrize("tail", [b"", b'{"frame"', b"\xff\xfe", b"\0" * 4096])
def test_truncated_results_are_converted_up_to_the_last_whole_line(
    convert: Any, tmp_path: Path, tail: bytes
) -> None:
    path, table = tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = jsonl(path)
    path.write_bytes(b"".join(lines[:5]) + (tail or lines[5][:40]))
    code, out, err = convert(path, "--csv", table)
    assert (code, out) == (0, f"wrote {table}: 4 frames\n")
    assert err == f"warning: {path}: ends in line 6, which is cut off, after frame 3\n"
    assert frames_in(table) == [1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 100,
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b'{"frame":2,"pts":1e999,"width":64,"height":48,"detections":[]}',
        b'{"frame":2,"pts":0.1,"width":-64,"height":48,"detections":[]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":[{"class":"car"}]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":'
        b'[{"class":"elk","score":0.5,"box":[1,2,3,4]}]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":'
        b'[{"class":"car","score":NaN,"box":[1,2,3,4]}]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":'
        b'[{"class":"car","score":0.5,"box":[1,2,3]}]}',
        b'{"frame":2,"pts":1%s,"width":64,"height":48,"detections":[]}' % (b"0" * 400),
        b'{"frame":2,"pts":"0.1","width":64,"height":48,"detections":[]}',
        b'{"frame":2.5,"pts":0.1,"width":64,"height":48,"detections":[]}',
        b'{"frame":9999999999,"pts":0.1,"width":64,"height":48,"detections":[]}',
        b'{"frame":2,"pts":0.1,"width":9999999999,"height":48,"detections":[]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detected":true,"detections":'
        b'[{"id":[1],"class":"car","score":0.5,"box":[1,2,3,4]}]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":'
        b'[{"class":"car","score":[0.5],"box":[1,2,3,4]}]}',
        b'{"frame":2,"pts":0.1,"width":64,"height":48,"detections":'
        b'[{"class":"car","score":1e300,"box":[1,2,3,4]}]}',
    ],
    ids=range(18),
)
def test_lines_after_a_damaged_one_are_converted(
    convert: Any, tmp_path: Path, damage: bytes
) -> None:
    path, table = tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = jsonl(path)
    lines[3] = damage + b"\n"
    path.write_bytes(b"".join(lines))
    code, _, err = convert(path, "--csv", table)
    assert code == 0
    assert err == (
        f"warning: {path}: damaged lines were left out: 1, the first is line 4, after frame 1;"
        " the file ends after frame 5\n"
    )
    assert frames_in(table) == [1, 4, 5]


@pytest.mark.parametrize("followed", [True, False])
def test_a_frame_without_the_ids_of_the_others_is_damage(
    convert: Any, tmp_path: Path, followed: bool
) -> None:
    path = tmp_path / "r.jsonl"
    lines, others = (jsonl(path, 4, one) for one in (followed, not followed))
    path.write_bytes(b"".join([*lines[:3], others[3], *lines[4:]]))
    option = "--mot" if followed else "--csv"
    code, _, error = convert(path, option, tmp_path / "out")
    assert code == 0
    assert "damaged lines were left out: 1, the first is line 4, after frame 1" in error


@pytest.mark.parametrize("first", [b"", b'{"type":"header"}\n', b'{"type":"header","model":3}\n'])
def test_without_a_header_the_classes_come_from_the_detections(
    convert: Any, tmp_path: Path, first: bytes
) -> None:
    path, table = tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = jsonl(path)
    path.write_bytes(first + b"".join(lines[1:]))
    assert convert(path, "--csv", table)[0] == 0
    rows = [row.split(",") for row in table.read_text().splitlines()[1:]]
    assert {(row[0], row[3]) for row in rows} == {(str(path), "car"), (str(path), "pedestrian")}


def test_a_position_that_is_not_numbers_is_damage(tmp_path: Path) -> None:
    gps = {"lat": 51.5, "lon": -0.1, "alt": 20, "speed": None, "course": 0.5, "utc": None}
    frame = {"pts": 0.0, "width": 64, "height": 48, "detections": []}
    fixes = [gps, {**gps, "alt": "high"}, {**gps, "lat": "51.5"}, {**gps, "speed": [3]}, None]
    path = tmp_path / "in.jsonl"
    lines = [json.dumps({"frame": k, **frame, "gps": fix}) for k, fix in enumerate(fixes)]
    path.write_text("\n".join(lines))
    source = ResultFile(path)
    assert [one.frame.frame_id for one in source.results] == [0, 4]
    (warning,) = source.report.warnings
    assert "damaged lines were left out: 3" in warning


def test_wrong_input_is_an_error_of_one_line(convert: Any, tmp_path: Path) -> None:
    path, table = tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = jsonl(path)
    table.write_text("precious")
    (tmp_path / "empty").touch()
    (tmp_path / "header").write_bytes(lines[0])
    for arguments, part in (
        ((path,), "expected an output, one or more of --coco, --csv"),
        ((tmp_path / "none", "--csv", tmp_path / "new"), "none: cannot be read: No such file"),
        ((tmp_path, "--csv", tmp_path / "new"), "cannot be read: Is a directory"),
        ((tmp_path / "empty", "--csv", tmp_path / "new"), "expected frames as --jsonl writes them"),
        ((tmp_path / "header", "--csv", tmp_path / "new"), "expected frames as --jsonl writes"),
        ((path, "--csv", table), "out.csv: exists already; --overwrite replaces it"),
        ((path, "--csv", path, "--overwrite"), "is the source itself"),
        ((path, "--csv", tmp_path / "no" / "x"), "does not exist"),
        ((path, "--mot", tmp_path / "new"), "--mot: expected tracked objects"),
    ):
        code, out, err = convert(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert part in err
    assert table.read_text() == "precious"
    assert path.read_bytes() == b"".join(lines)
    assert not (tmp_path / "new").exists()
    assert convert(path, "--csv", table, "--overwrite")[0] == 0
    assert frames_in(table) == [1, 2, 4, 5]


def test_a_pipe_is_refused_as_it_cannot_be_read_twice(convert: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = convert(tmp_path / "pipe", "--csv", tmp_path / "out.csv")
    assert code == 2
    assert "pipe: expected a regular file" in err


def test_a_failing_disk_is_an_error(
    convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames read before the error are in files that can be read."""
    path, table, coco = (tmp_path / name for name in ("in.jsonl", "out.csv", "out.json"))
    lines = jsonl(path)
    opened = Path.open

    def fail_after_four(self: Path, *arguments: Any, **options: Any) -> Any:
        return Failing(lines[:4]) if self == path else opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail_after_four)
    code, out, err = convert(path, "--csv", table, "--coco", coco)
    assert (code, out) == (2, "")
    assert err == f"error: {path}: cannot be read on: Input/output error\n"
    assert frames_in(table) == [1, 2]
    assert [image["id"] for image in json.loads(coco.read_text())["images"]] == [0, 1, 2]


class Failing(io.BytesIO):
    """A file that cannot be read beyond the given lines."""

    def __init__(self, lines: list[bytes]) -> None:
        super().__init__(b"".join(lines))

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return line


def test_help_names_every_kind_of_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["convert", "--help"])
    text = capsys.readouterr().out
    for option in KINDS:
        assert f"--{option} " in text
    assert "--show" not in text
