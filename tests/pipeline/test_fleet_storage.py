"""Input and output places of a fleet: stores, manifests, temporary files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.core.errors import SinkError, SourceError
from tests.support.media import write_video

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: the extra fleet")

import pyarrow.parquet as pq  # noqa: E402
from pyarrow import fs  # noqa: E402

from squeezedrive.pipeline.fleet import scratch as scratch_module  # noqa: E402
from squeezedrive.pipeline.fleet import storage, worker  # noqa: E402
from squeezedrive.pipeline.fleet.scratch import PREFIX, Scratch  # noqa: E402
from squeezedrive.pipeline.fleet.sources import list_sources  # noqa: E402
from squeezedrive.pipeline.fleet.storage import fetch, filesystem_of  # noqa: E402
from squeezedrive.pipeline.fleet.tables import TABLES  # noqa: E402


def never() -> bool:
    return False


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for every object store; its bucket has three videos."""
    root = tmp_path / "store"
    (root / "bucket" / "rides" / "b").mkdir(parents=True)
    for table in TABLES:  # a real store needs no folders
        (root / "out" / table / "s3" / "bucket" / "rides" / "b").mkdir(parents=True)
    for name in ("rides/a.mp4", "rides/b/1.MP4", "other.mp4"):
        write_video(root / "bucket" / name, 5, size=(320, 192), format="mp4")
    (root / "bucket" / "rides" / "notes.txt").write_text("not a video")
    (root / "bucket" / "rides" / "._a.mp4").write_text("of a Mac")
    local = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "_open_store", lambda scheme, bucket: local)
    return root


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(scratch_module.tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("s3://bucket/rides", ["rides/a.mp4", "rides/b/1.MP4"]),
        ("s3://bucket/rides/", ["rides/a.mp4", "rides/b/1.MP4"]),
        ("s3://bucket", ["other.mp4", "rides/a.mp4", "rides/b/1.MP4"]),
        ("s3://bucket/*.mp4", ["other.mp4", "rides/a.mp4"]),
        ("s3://bucket/rides/[ab].mp4", ["rides/a.mp4"]),
        ("s3://bucket/other.mp4", ["other.mp4"]),
    ],
)
def test_what_a_store_has_is_found(store: Path, spec: str, names: list[str]) -> None:
    found = list_sources([spec])
    assert [one.name for one in found] == [f"s3://bucket/{name}" for name in names]
    sizes = [(store / "bucket" / name).stat().st_size for name in names]
    assert [one.size for one in found] == sizes
    assert all(one.modified > 0 for one in found)


def test_each_file_counts_once(store: Path) -> None:
    found = list_sources(["s3://bucket/other.mp4", "s3://bucket", "s3://bucket/*.mp4"])
    assert found[0].name == "s3://bucket/other.mp4"
    assert len(found) == 3


@pytest.mark.parametrize("spec", ["s3://bucket/none", "s3://bucket/*.avi"])
def test_a_store_without_videos_is_reported(store: Path, spec: str) -> None:
    with pytest.raises(SourceError, match=r"s3://bucket/.*(no such folder|found none)"):
        list_sources([spec])


def test_other_stores_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected a path or one of s3://, gs://, az://"):
        filesystem_of("hdfs://node/file")


def test_a_manifest_may_name_files_of_several_places(store: Path, tmp_path: Path) -> None:
    names = ["s3://bucket/other.mp4", str(store / "bucket" / "rides" / "a.mp4"), "az://x/gone.mp4"]
    manifest = tmp_path / "list.parquet"
    pq.write_table(pa.table({"source": names, "camera": [1, 2, 3]}), manifest)
    found = list_sources([str(manifest)])
    assert [one.name for one in found] == names
    assert [one.size > 0 for one in found] == [True, True, False]


def test_a_fleet_from_store_to_store(
    store: Path, run: Any, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    options = ("--local", "--no-progress", "-t", "0.01")
    assert run("fleet", "s3://bucket/rides", "--out", "s3://out", *options)[0] == 0
    out = store / "out"
    parts = {str(path.relative_to(out)) for path in out.rglob("*.parquet")}
    assert parts == {
        f"{table}/s3/bucket/rides/{name}.parquet"
        for table in ("detections", "events", "files")
        for name in ("a.mp4", "b/1.MP4")
    }
    part = pq.ParquetFile(out / "detections/s3/bucket/rides/a.mp4.parquet").read()
    assert set(part["source"].to_pylist()) <= {"s3://bucket/rides/a.mp4"}
    assert not list(temporary.iterdir())
    code, text, _ = run("fleet", "s3://bucket/rides", "--out", "s3://out", *options)
    assert code == 0
    assert "2 done before" in text


def test_messages_have_the_names_of_the_store(
    store: Path, run: Any, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "bucket" / "rides" / "a.mp4").write_text("nothing to see")
    _, text, _ = run("fleet", "s3://bucket/rides/a.mp4", "--out", "s3://out", "--local")
    assert str(temporary) not in text
    assert "s3://bucket/rides/a.mp4: open: expected a video" in text


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_file_of_another_size_is_not_taken_for_whole(
    store: Path, tmp_path: Path, wrong: int
) -> None:
    size = (store / "bucket" / "other.mp4").stat().st_size
    target = tmp_path / "fetched"
    with pytest.raises(OSError, match=f"ended after {size} of {size + wrong} bytes"):
        fetch("s3://bucket/other.mp4", size + wrong, target, never)
    fetch("s3://bucket/other.mp4", size, target, never)
    assert target.read_bytes() == (store / "bucket" / "other.mp4").read_bytes()


def test_a_file_that_is_gone_is_no_reason_to_try_again(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file any more"):
        fetch("s3://bucket/gone.mp4", 5, tmp_path / "fetched", never)


def test_temporary_files_wait_for_room(temporary: Path) -> None:
    scratch = Scratch(100)
    entered = threading.Event()

    def second() -> None:
        with scratch.folder(50, never):
            entered.set()

    with scratch.folder(60, never) as folder:
        (folder / "file").touch()
        with scratch.folder(40, never):
            thread = threading.Thread(target=second)
            thread.start()
            assert not entered.wait(0.2)
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join(10)
    assert not folder.exists()
    scratch.check(100)
    with pytest.raises(SinkError, match="--scratch"):
        scratch.check(101)
    scratch.close()
    assert not list(temporary.iterdir())


def test_the_wait_for_room_can_be_given_up(temporary: Path) -> None:
    scratch = Scratch(100)
    with scratch.folder(100, never), scratch.folder(100, lambda: True) as folder:
        assert folder.is_dir()
    scratch.close()


def in_a_process(work: Callable[[], object]) -> None:
    """Run a function in a child process that ends without cleanup."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_what_a_killed_worker_leaves_is_removed_by_the_next(temporary: Path) -> None:
    kept = Scratch(100)

    def die() -> None:
        with Scratch(100).folder(5, never) as folder:
            (folder / "large").touch()
            os._exit(0)

    in_a_process(die)
    (temporary / f"{PREFIX}new").mkdir()  # of a worker that just begins
    (left,) = set(temporary.iterdir()) - {kept.path, temporary / f"{PREFIX}new"}
    assert list(left.rglob("large"))
    Scratch(100).close()
    assert set(temporary.iterdir()) == {kept.path, temporary / f"{PREFIX}new"}
    kept.close()
