"""Fleets with Ray: workers that die, and the division of machines among workers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from squeezedrive.engines.errors import BackendUnavailable, ConfigError, GpuLost, WeightsError
from squeezedrive.pipeline.config import load_config
from tests.support.fake_ray import Died, FakeRay
from tests.support.media import write_video

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the extra fleet")

from squeezedrive.pipeline.fleet import ray_pool  # noqa: E402
from squeezedrive.pipeline.fleet.job import FileRow, Job  # noqa: E402
from squeezedrive.pipeline.fleet.ray_pool import RayPool, WorkerShare, share_of  # noqa: E402
from squeezedrive.pipeline.fleet.worker import WorkerOptions  # noqa: E402

CPU = {"CPU": 16.0, "memory": 1e9}
SMALL = {"CPU": 6.0}
HEAD: dict[str, float] = {"CPU": 0.0}
GPUS = {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "gpu", "cores", "workers", "share"),
    [
        ([CPU], False, None, None, WorkerShare(4, 0, 4)),
        ([CPU, SMALL, HEAD], False, None, None, WorkerShare(4, 0, 5)),
        ([{"CPU": 2.0}], True, None, None, WorkerShare(2, 0, 1)),  # no machine has a GPU
        ([CPU], False, 3, None, WorkerShare(3, 0, 5)),
        ([GPUS, CPU], True, None, None, WorkerShare(4, 1, 4)),
        ([GPUS], True, 16, None, WorkerShare(16, 1, 2)),  # cores for two workers only
        ([GPUS], False, None, None, WorkerShare(4, 0, 8)),
        ([SMALL], False, 8, 3, WorkerShare(8, 0, 3)),  # larger machines may join later
    ],
)
def test_machines_are_divided_among_workers(
    nodes: list[dict[str, float]],
    gpu: bool,
    cores: int | None,
    workers: int | None,
    share: WorkerShare,
) -> None:
    assert share_of(nodes, gpu, cores, workers) == share


def test_too_many_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="as many as a machine has, 16 at most, got 17"):
        share_of([CPU, SMALL], False, 17, None)


class ScriptedWorker:
    """A worker that raises the errors scripted for a file, one at each try."""

    fails: ClassVar[list[Exception]] = []  # raised by new workers
    script: ClassVar[dict[str, list[BaseException]]] = {}

    def __init__(self, options: WorkerOptions) -> None:
        if self.fails:
            raise self.fails.pop()

    def process(self, job: Job, before: int) -> FileRow:
        for error in self.script.get(job.name, [])[before:]:
            raise error
        return FileRow(job.name, job.key, job.size, tries=before + 1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Replace Ray with a stand-in."""
    ray = FakeRay([{"CPU": 8.0}])
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    monkeypatch.setattr(ray_pool, "FleetWorker", ScriptedWorker)
    monkeypatch.setattr(ScriptedWorker, "fails", [])
    return ray


def finish(pool: RayPool, names: Sequence[str]) -> dict[str, FileRow]:
    """Give files to a pool until all are done; return their rows."""
    jobs = [Job(name, 1, f"key of {name}") for name in names]
    rows: dict[str, FileRow] = {}
    for _ in range(1000):
        while jobs and pool.room:
            pool.submit(jobs.pop(0))
        for row in pool.wait(0):
            assert row.source not in rows
            rows[row.source] = row
        if not jobs and not pool.under_way:
            return rows
    raise AssertionError("does not come to an end")


def open_pool(tmp_path: Path) -> RayPool:
    return RayPool(WorkerOptions(load_config(), str(tmp_path), False, 100), None, None, None)


def test_all_files_are_done_once_whichever_workers_die(
    fake: FakeRay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = {"/1": [Died()], "/4": [Died()] * 4, "/5": [Died()] * 5, "/7": [GpuLost("gone")]}
    monkeypatch.setattr(ScriptedWorker, "script", script)
    pool = open_pool(tmp_path)
    assert pool.room == 0  # the workers are not ready yet
    assert fake.asked == {"num_cpus": 4, "num_gpus": 0, "max_restarts": -1, "max_concurrency": 2}
    names = [f"/{number}" for number in range(20)]
    rows = finish(pool, names)
    assert sorted(rows) == sorted(names)
    assert {n: r.tries for n, r in rows.items() if r.tries > 1} == {
        "/1": 2,
        "/4": 5,
        "/5": 5,
        "/7": 2,
    }
    assert {n for n, row in rows.items() if row.exit_kind != "done"} == {"/5"}
    assert (rows["/5"].exit_kind, rows["/5"].stage) == ("infrastructure", "worker")
    assert rows["/5"].message == "its process has ended 5 times: The actor died unexpectedly."
    assert fake.killed == 1
    (part,) = pq.ParquetFile(tmp_path / "files" / "file" / "5.parquet").read().to_pylist()
    assert part["exit_kind"] == "infrastructure"
    assert pool.workers == 2
    pool.close()
    assert not fake.running
    print("result")
    assert capsys.readouterr().out == "result\n"  # Ray's own output goes to standard error


def test_workers_that_cannot_start_are_done_without(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedWorker.fails.append(WeightsError("no weights here"))
    pool = open_pool(tmp_path)
    assert len(finish(pool, ["/a", "/b", "/c"])) == 3
    assert pool.workers == 1
    assert "a worker cannot start, 1 are left: no weights here" in caplog.text
    ScriptedWorker.fails += [WeightsError("no weights here")] * 2
    with pytest.raises(BackendUnavailable, match="no worker can start: no weights here"):
        finish(open_pool(tmp_path), ["/a"])


@pytest.mark.parametrize(
    ("address", "variable", "joined"),
    [("head:1", "other:2", "head:1"), (None, "other:2", "other:2"), (None, None, "local")],
)
def test_only_a_cluster_that_is_named_is_joined(
    fake: FakeRay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
    variable: str | None,
    joined: str,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    options = WorkerOptions(load_config(), str(tmp_path), False, 100)
    RayPool(options, address, None, None).close()
    assert fake.address == joined


def test_a_cluster_that_does_not_answer_is_reported(fake: FakeRay, tmp_path: Path) -> None:
    def fail(**_: object) -> None:
        raise ConnectionError("no answer")

    fake.init = fail  # type: ignore[method-assign]
    options = WorkerOptions(load_config(), str(tmp_path), False, 100)
    with pytest.raises(ConfigError, match="the cluster at head:6379 cannot be used: no answer"):
        RayPool(options, "head:6379", None, None)


@pytest.mark.timeout(900)  # Ray starts slowly on a busy machine
def test_a_worker_that_dies_gives_its_files_back(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: the extra fleet")
    from tests.support.dying import DyingWorker

    card = tmp_path / "card"
    card.mkdir()
    for name in ("a", "once", "z"):
        write_video(card / f"{name}.mp4", 5, size=(320, 192))
    (card / "bad.mp4").write_text("nothing to see")
    options = (card, "--no-progress", "--set", "backend=cpu", "-t", "0.01")
    assert run("fleet", *options, "--out", tmp_path / "local", "--local")[0] == 1
    shutil.copy(card / "a.mp4", card / "always.mp4")
    monkeypatch.setattr(ray_pool, "FleetWorker", DyingWorker)
    monkeypatch.setattr(ray_pool, "DEATHS", 3)
    code, text, err = run("fleet", *options, "--out", tmp_path / "ray", "--cores", "1")
    assert code == 1, err
    assert text.startswith("files ")
    assert "3 done" in text
    assert "1 bad file, 1 infrastructure" in text  # other files are done
    assert "always.mp4: worker: its process has ended 3 times" in err
    local, ray = tmp_path / "local", tmp_path / "ray"
    for path in local.rglob("*/**/*.parquet"):
        part = path.relative_to(local)
        if part.parts[0] != "files":
            assert (ray / part).read_bytes() == path.read_bytes()
    rows = {
        Path(row["source"]).name: row
        for path in ray.rglob("files/**/*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    }
    assert {name: row["exit_kind"] for name, row in rows.items()} == {
        "a.mp4": "done", "once.mp4": "done", "z.mp4": "done", "bad.mp4": "bad file",
        "always.mp4": "infrastructure",
    }  # fmt: skip
    assert rows["once.mp4"]["tries"] > 1
    assert rows["always.mp4"]["stage"] == "worker"
