"""Fleets that divide long recordings: each part is done alone, and the rows are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import write_video

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the extra fleet")

from squeezedrive.pipeline.fleet import worker  # noqa: E402
from squeezedrive.pipeline.fleet.job import FileRow, Job  # noqa: E402
from squeezedrive.pipeline.fleet.storage import ResultFolder  # noqa: E402
from squeezedrive.pipeline.fleet.worker import FleetWorker  # noqa: E402

FRAMES = 70  # at 25 a second, with a key frame each second
VARYING = {"tries", "seconds", "finished", "host"}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Return a folder: a long video, a short one, one of another codec, a file without video."""
    folder = tmp_path / "card"
    folder.mkdir()
    options = {"g": "25", "sc_threshold": "0", "bf": "2"}
    write_video(folder / "long.mp4", FRAMES, size=(320, 192), options=options)
    write_video(folder / "short.mp4", 5, size=(320, 192))
    write_video(folder / "other.avi", 30, size=(320, 192), codec="mpeg4")
    (folder / "zero.mp4").write_text("nothing to see")
    return folder


@pytest.fixture
def fleet(run: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a fleet over the card; it returns exit code, output and errors.

    Its attribute `done` lists the files and parts of the last run.
    """
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    process = FleetWorker.process

    def noted(self: FleetWorker, job: Job, before: int = 0) -> FileRow:
        number = None if job.part is None else job.part.number
        program.done.append((Path(job.name).name, number))
        return process(self, job, before)

    def program(*arguments: str, out: str = "out") -> tuple[int, str, str]:
        program.done.clear()
        result: tuple[int, str, str] = run(
            "fleet", card, "--out", tmp_path / out, "--local", "-t", "0.01", "--no-progress",
            *arguments,
        )  # fmt: skip
        return result

    program.done = []  # type: ignore[attr-defined]
    monkeypatch.setattr(FleetWorker, "process", noted)
    return program


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of all parts of a table, in the order of the file names."""
    parts = sorted((folder / name).rglob("*.parquet"))
    return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]


def places(folder: Path, card: Path, name: str) -> list[str]:
    root = folder / name / f"file{card}"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet"))


def test_parts_have_the_rows_of_the_whole(fleet: Any, card: Path, tmp_path: Path) -> None:
    assert fleet(out="whole")[0] == 1  # zero.mp4 is not a video
    code, text, _ = fleet("--split", "1s", "--event", "car>=1")
    assert code == 1
    assert "5 done" in text
    assert "1 bad file" in text
    assert sorted(fleet.done, key=str) == [
        ("long.mp4", 2), ("long.mp4", 3), ("long.mp4", None), ("other.avi", None),
        ("short.mp4", None), ("zero.mp4", None),
    ]  # fmt: skip
    whole, split = tmp_path / "whole", tmp_path / "out"
    for name in ("detections", "events", "files"):
        assert places(split, card, name) == [
            *(f"long.mp4/part-0000{number}.parquet" for number in (1, 2, 3)),
            "other.avi.parquet", "short.mp4.parquet", "zero.mp4.parquet",
        ]  # fmt: skip
    assert table(split, "detections") == table(whole, "detections") != []
    first, second, third, other, short, zero = table(split, "files")
    assert {row["source"] for row in (first, second, third)} == {str(card / "long.mp4")}
    assert [row["part"] for row in (first, second, third, short)] == [1, 2, 3, None]
    assert [row["parts"] for row in (first, second, third, short)] == [3, 3, 3, 1]
    assert [row["frames"] for row in (first, second, third)] == [25, 25, 20]
    long = table(whole, "files")[0]
    assert sum(row["detections"] for row in (first, second, third)) == long["detections"]
    assert (zero["exit_kind"], zero["stage"]) == ("bad file", "open")
    (warning,) = other["warnings"]
    assert warning == "was not split: its codec is mpeg4, expected H.264 or H.265"
    # An event across parts is one event in each part; its times are those of the recording.
    begins = [row["begin"] for row in table(split, "events") if row["source"] == first["source"]]
    assert begins == sorted(begins)
    assert begins[-1] >= 2
    path = split / f"files/file{card}/long.mp4/part-00002.parquet"
    header = json.loads(pq.read_schema(path).metadata[b"squeezedrive"])
    assert (header["source"]["part"]["first"], header["source"]["part"]["frames"]) == (25, 25)


def test_each_part_is_resumed_on_its_own(fleet: Any, card: Path, tmp_path: Path) -> None:
    fleet("--split", "1")
    rows = table(tmp_path / "out", "detections")
    assert fleet("--split", "1")[1].count("6 done before") == 1
    assert fleet.done == []
    folder = tmp_path / f"out/files/file{card}/long.mp4"
    (folder / "part-00003.parquet").unlink()
    text = fleet("--split", "1")[1]
    assert "1 done, 5 done before, 0 not begun" in text
    assert fleet.done == [("long.mp4", 3)]
    (folder / "part-00001.parquet").unlink()  # part 1 lists the others
    assert "1 done, 5 done before, 0 not begun" in fleet("--split", "1")[1]
    assert fleet.done == [("long.mp4", None)]
    assert table(tmp_path / "out", "detections") == rows


def test_a_part_that_fails_is_done_again_alone(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ResultFolder.put

    def faulty(self: ResultFolder, path: Path, name: str) -> None:
        if name.startswith("detections") and "part-00002" in name:
            raise OSError("no route")
        put(self, path, name)

    with monkeypatch.context() as patched:
        patched.setattr(ResultFolder, "put", faulty)
        _, text, err = fleet("--split", "1")
    assert "1 infrastructure" in text
    assert "long.mp4, part 2: commit: no route" in err
    fleet("--split", "1")
    assert fleet.done == [("long.mp4", 2)]
    assert len([row for row in table(tmp_path / "out", "files") if row["part"]]) == 3


def test_rows_of_another_division_do_not_stay(fleet: Any, card: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fleet()
    rows = table(out, "detections")
    for options in (["--split", "1"], ["--split", "2"], []):
        fleet(*options)
        assert table(out, "detections") == rows  # each row once
    assert places(out, card, "files")[0] == "long.mp4.parquet"
    # A killed run leaves rows of both divisions; the next run removes those of the other one.
    whole = out / f"files/file{card}/long.mp4.parquet"
    kept = whole.read_bytes()
    fleet("--split", "1")
    assert not whole.exists()
    whole.write_bytes(kept)
    fleet("--split", "1")
    assert fleet.done == []
    assert not whole.exists()
    whole.write_bytes(kept)
    fleet()
    assert fleet.done.count(("long.mp4", None)) == 0
    assert len(places(out, card, "files")) == 4


@pytest.mark.parametrize("length", ["0", "x", "10d", "m", "nan", "inf"])
def test_lengths_that_are_none_are_refused(
    fleet: Any, capfd: pytest.CaptureFixture[str], length: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fleet("--split", length)
    assert "argument --split: expected a length" in capfd.readouterr().err


@pytest.mark.parametrize("option", [["--video"], ["--start", "1"], ["-n", "5"]])
def test_what_only_a_whole_recording_has_is_refused(
    refused: Any, card: Path, tmp_path: Path, option: list[str]
) -> None:
    line = refused("fleet", card, "--out", tmp_path / "out", "--local", "--split", "10m", *option)
    assert "--split: expected no " in line
