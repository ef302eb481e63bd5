"""Fleets in one process: tables, failures, continuing an interrupted run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import write_video

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the extra fleet")

from squeezedrive.pipeline.fleet import pool as pools  # noqa: E402
from squeezedrive.pipeline.fleet import worker  # noqa: E402
from squeezedrive.pipeline.fleet.job import FileRow, Job  # noqa: E402
from squeezedrive.pipeline.fleet.storage import ResultFolder, read_through  # noqa: E402
from squeezedrive.pipeline.fleet.tally import FleetTally  # noqa: E402
from squeezedrive.pipeline.fleet.worker import FleetWorker  # noqa: E402

VARYING = {"tries", "seconds", "finished", "host"}


@pytest.fixture(autouse=True)
def _no_worker_outlives() -> Iterator[None]:
    """Check that all threads of a fleet have ended; libraries keep threads of their own."""
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("fleet", "rows"))]


@pytest.fixture
def card(drive: Path, tmp_path: Path) -> Path:
    """Return a folder with two clips, of 12 and 5 frames, and a file that is not a video."""
    folder = tmp_path / "card"
    (folder / "late").mkdir(parents=True)
    shutil.copy(drive, folder / "drive.mp4")
    write_video(folder / "late" / "short.mp4", 5, size=(320, 192))
    (folder / "notes.mp4").write_text("nothing to see")
    return folder


@pytest.fixture
def fleet(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a fleet in this process and returns code, output and errors."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)

    def program(*arguments: str | Path) -> tuple[int, str, str]:
        result: tuple[int, str, str] = run(
            "fleet", *arguments, "--out", tmp_path / "out", "--local", "-n", "12", "-t", "0.01",
            "--no-progress",
        )  # fmt: skip
        return result

    return program


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of all parts of a table, in the order of the file names."""
    parts = sorted((folder / name).rglob("*.parquet"))
    return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]


def kinds(folder: Path) -> dict[str, str]:
    return {Path(row["source"]).name: row["exit_kind"] for row in table(folder, "files")}


def fixed(folder: Path) -> dict[str, Any]:
    """Return what must be equal in two runs: bytes of tables, rows of files."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("detections", "events")
        for path in (folder / name).rglob("*.parquet")
    }
    rows = [{k: v for k, v in row.items() if k not in VARYING} for row in table(folder, "files")]
    return {**found, "files": rows}


def test_every_file_has_its_part_of_each_table(
    fleet: Any, run: Any, card: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, err = fleet(card, "--event", "car>=1")
    assert code == 1
    assert "2 done" in text
    assert "1 bad file" in text
    places = [card / name for name in ("drive.mp4", "late/short.mp4", "notes.mp4")]
    for name in ("detections", "events", "files"):
        parts = {str(path.relative_to(out / name)) for path in (out / name).rglob("*.parquet")}
        assert parts == {f"file{path}.parquet" for path in places}

    drive, short, notes = table(out, "files")
    assert (drive["source"], drive["frames"], drive["exit_kind"]) == (str(places[0]), 12, "done")
    assert (drive["width"], drive["height"], drive["stage"]) == (320, 192, None)
    assert drive["video_seconds"] == pytest.approx(11 / 25)
    assert (short["frames"], short["size"]) == (5, places[1].stat().st_size)
    assert (notes["exit_kind"], notes["stage"], notes["tries"]) == ("bad file", "open", 1)
    assert notes["message"].startswith("expected a video")
    assert str(places[2]) in err

    single = tmp_path / "single.parquet"
    assert (
        run(places[0], "--no-video", "--no-track", "-n", 12, "-t", "0.01", "--parquet", single)[0]
        == 0
    )
    part = out / "detections" / f"file{places[0]}.parquet"
    rows = pq.ParquetFile(part).read().to_pylist()
    assert rows == pq.ParquetFile(single).read().to_pylist()
    assert drive["detections"] == len(rows) > 0
    header, other = (
        json.loads(pq.read_schema(path).metadata[b"squeezedrive"]) for path in (part, single)
    )
    assert header["source"] == other["source"]
    assert header["model"] == other["model"]
    events = table(out, "events")
    assert len(events) == drive["events"] + short["events"] > 0
    assert {event["classes"] for event in events} == {"car"}
    assert events[0]["conditions"] == ["car>=1"]
    assert 0 <= events[0]["begin"] < events[0]["end"] <= 11 / 25


def test_two_runs_give_the_same_bytes(fleet: Any, card: Path, tmp_path: Path) -> None:
    fleet(card)
    first = fixed(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    fleet(card)
    assert fixed(tmp_path / "out") == first


def test_what_is_done_is_not_done_again(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    process = FleetWorker.process

    def noted(self: FleetWorker, job: Job, before: int = 0) -> FileRow:
        done.append(Path(job.name).name)
        return process(self, job, before)

    monkeypatch.setattr(FleetWorker, "process", noted)
    fleet(card)
    assert sorted(done) == ["drive.mp4", "notes.mp4", "short.mp4"]
    done.clear()
    code, text, _ = fleet(card, "--set", "cpu.threads=1")  # does not change the results
    assert (code, done) == (1, [])  # the failed file still counts as failed
    assert "3 done before" in text
    write_video(card / "notes.mp4", 4, size=(320, 192))
    code, text, _ = fleet(card)
    assert (code, done) == (0, ["notes.mp4"])
    assert kinds(tmp_path / "out") == dict.fromkeys(["drive.mp4", "short.mp4", "notes.mp4"], "done")
    done.clear()
    assert fleet(card, "--classes", "car")[0] == 0
    assert len(done) == 3


def failing(times: int, error: Exception, of: str) -> Callable[..., None]:
    """Return a stand-in for `ResultFolder.put` that fails `times` times for the table `of`."""
    left = [times]
    put = ResultFolder.put

    def faulty(self: ResultFolder, path: Path, name: str) -> None:
        if name.startswith(of) and "drive" in name and left[0]:
            left[0] -= 1
            raise error
        put(self, path, name)

    return faulty


@pytest.mark.parametrize("of", ["detections", "files"])
def test_what_fails_now_and_then_is_tried_again(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    fleet(card)
    undisturbed = fixed(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(ResultFolder, "put", failing(2, TimeoutError("no answer"), of))
    fleet(card)
    assert fixed(tmp_path / "out") == undisturbed
    rows = {Path(row["source"]).name: row["tries"] for row in table(tmp_path / "out", "files")}
    assert rows == {"drive.mp4": 3, "short.mp4": 1, "notes.mp4": 1}


def test_what_keeps_failing_is_done_by_the_next_run(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ResultFolder, "put", failing(99, OSError("no route"), "detections"))
        code, text, err = fleet(card)
    assert code == 1
    assert "1 infrastructure" in text
    assert "drive.mp4: commit: no route" in err
    assert "drive.mp4" not in kinds(tmp_path / "out")
    fleet(card)
    assert kinds(tmp_path / "out")["drive.mp4"] == "done"


def test_a_file_that_its_disk_does_not_give_is_tried_again(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(worker, "read_through", broken)
        code, text, err = fleet(card)
    assert code == 1
    assert "1 infrastructure" in text
    assert "notes.mp4: open: cannot be read: Input/output error" in err
    row = next(one for one in table(tmp_path / "out", "files") if "notes" in one["source"])
    assert (row["exit_kind"], row["tries"]) == ("infrastructure", 3)
    fleet(card)  # the disk is whole again
    assert kinds(tmp_path / "out")["notes.mp4"] == "bad file"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc/self/mem")
def test_read_through_raises_what_the_disk_answers(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(bytes(3_000_000))
    read_through(tmp_path / "whole")
    with pytest.raises(OSError, match="Input/output error"):
        read_through(Path("/proc/self/mem"))  # nothing lies at address 0


@pytest.mark.parametrize(
    ("error", "kind", "tries"),
    [(ZeroDivisionError("ours"), "fault", 1), (MemoryError(), "infrastructure", 3)],
)
def test_an_error_of_a_stage_is_a_row(
    fleet: Any,
    card: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: str,
    tries: int,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("squeezedrive.pipeline.stages.inference.Inference.work", fail)
        assert fleet(card)[0] == 1
    rows = {Path(row["source"]).name: row for row in table(tmp_path / "out", "files")}
    row = rows["drive.mp4"]
    assert (row["exit_kind"], row["stage"], row["tries"]) == (kind, "inference", tries)
    assert type(error).__name__ in row["message"]
    fleet(card)  # only the infrastructure error is tried again
    assert (kinds(tmp_path / "out")["drive.mp4"] == "done") == (kind == "infrastructure")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_ends_the_run_and_what_is_done_stays(
    fleet: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    for number in range(6):
        shutil.copy(card / "late" / "short.mp4", card / f"more{number}.mp4")
    run = FleetWorker._run
    once = threading.Lock()  # only one of the two workers sends the first signal

    def interrupted(self: FleetWorker, *arguments: Any) -> None:
        if once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100 if signals == 2 else 0):
            if self._given_up.wait(0.1):
                break
            os.kill(os.getpid(), signal.SIGINT)
        run(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(FleetWorker, "_run", interrupted)
        code, text, err = fleet(card)
    assert code == 130
    assert "files are finished first; a second time gives them up" in err or signals == 2
    done = table(tmp_path / "out", "files")
    # One signal: the files in progress are finished, one or two. Two signals: none.
    assert len(done) in ((1, 2) if signals == 1 else (0,))
    assert f"{9 - len(done)} not begun or given up" in text
    fleet(card)
    assert len(table(tmp_path / "out", "files")) == 9
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_annotated_videos_only_if_asked_for(fleet: Any, card: Path, tmp_path: Path) -> None:
    fleet(card)
    assert not (tmp_path / "out" / "videos").exists()
    fleet(card, "--video", "--set", "draw.status=false")
    videos = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("videos/**/*.mp4")}
    assert videos == {f"videos/file{card}/{name}.mp4" for name in ("drive.mp4", "late/short.mp4")}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_manifest_names_the_files(fleet: Any, card: Path, tmp_path: Path, ending: str) -> None:
    manifest = tmp_path / f"list.{ending}"
    names = [str(card / "drive.mp4"), str(card / "gone.mp4")]
    if ending == "csv":
        manifest.write_text("id,source\n" + "".join(f"7,{name}\n" for name in names))
    else:
        pq.write_table(pytest.importorskip("pyarrow").table({"source": names}), manifest)
    assert fleet(manifest)[0] == 1
    assert kinds(tmp_path / "out") == {"drive.mp4": "done", "gone.mp4": "bad file"}


def test_wrong_input_is_refused_in_one_line(refused: Any, card: Path, tmp_path: Path) -> None:
    def line(*arguments: str | Path) -> str:
        result: str = refused("fleet", *arguments, "--local")
        return result

    out = tmp_path / "out"
    empty = tmp_path / "empty.csv"
    empty.write_text("file\nx.mp4\n")
    assert "column 'source'" in line(empty, "--out", out)
    assert "no such file" in line(tmp_path / "none", "--out", out)
    assert "s3://, gs://, az://" in line(card, "--out", "ftp://server/out")
    assert "unknown class 'horse'" in line(card, "--out", out, "--event", "horse>1")
    (tmp_path / "file").touch()
    assert "cannot be written" in line(card, "--out", tmp_path / "file")
    assert "detect.threshold" in line(card, "--out", out, "-t", "7")


def test_without_pyarrow_it_is_refused(
    refused: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refused("fleet", card, "--out", tmp_path / "out", "--local")
    assert "fleet: needs pyarrow: pip install 'squeezedrive[fleet]'" in message


def test_a_gpu_that_is_lost_ends_the_worker(
    refused: Any, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from squeezedrive.engines.errors import GpuLost

    def fail(*_: Any) -> None:
        raise GpuLost("the GPU does not answer")

    monkeypatch.setattr("squeezedrive.pipeline.stages.inference.Inference.work", fail)
    assert pools.AT_ONCE > 1
    message = refused("fleet", card / "drive.mp4", "--out", tmp_path / "out", "--local")
    assert "the GPU does not answer" in message


def test_workers_are_counted_without_a_line_of_progress(
    fleet: Any, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(FleetTally, "add", lambda self, row: counted.append(self.workers))
    fleet(card / "drive.mp4")
    assert counted == [1]


def test_one_video_track_is_read_of_all_recordings(fleet: Any, card: Path, tmp_path: Path) -> None:
    code, _, err = fleet(card, "--track-index", "all")
    assert code == 2
    assert err.startswith("error: source.track_index: a fleet reads one video track")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    keys = []
    for track in ("0", "1"):
        fleet(card / "drive.mp4", "--track-index", track)
        (row,) = table(tmp_path / "out", "files")
        keys.append(row["key"])
    assert row["exit_kind"] == "bad file"
    assert "track" in row["message"]
    assert keys[0] != keys[1]  # another track is another recording


def test_a_list_of_recordings_may_have_notes_and_empty_lines(
    fleet: Any, card: Path, tmp_path: Path
) -> None:
    names = tmp_path / "list.txt"
    names.write_text(f"# Monday\n{card / 'drive.mp4'}\n\n{card / 'late'}\n", encoding="utf-8")
    assert fleet(f"@{names}")[0] == 0
    assert kinds(tmp_path / "out") == {"drive.mp4": "done", "short.mp4": "done"}
    names.write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit, match="2"):
        fleet(f"@{names}")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--cores", "0", "a whole number from 1 to"),
        ("--workers", "x", "a whole number from 1 to"),
        ("--scratch", "nan", "a number of gigabytes above 0"),
        ("--metrics", "70000", "a whole number from 1 to 65535"),
    ],
)
def test_numbers_that_are_none_are_refused(
    fleet: Any, capfd: pytest.CaptureFixture[str], option: str, value: str, expected: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fleet("card", option, value)
    assert f"argument {option}: expected {expected}" in capfd.readouterr().err
