"""Reports of a fleet, during a run and at its end."""

from __future__ import annotations

import contextlib
import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.fleet.job import FileRow
from squeezedrive.pipeline.fleet.tally import SHOWN, FleetTally


def row(name: str, frames: int = 50, tries: int = 1, size: int = 100) -> FileRow:
    return FileRow(name, "key", size, frames=frames, detections=7, video_seconds=2.0, tries=tries)


def failed(name: str) -> FileRow:
    one = row(name, frames=0)
    one.fail("bad file", "open", f"{name}: expected a video,\nfound none")
    return one


def test_counters_are_those_of_the_rows() -> None:
    tally = FleetTally(5, 500)
    tally.skip("done", 100)
    tally.add(row("a", tries=3))
    tally.add(failed("b"))
    tally.workers = 4
    registry = CollectorRegistry()
    registry.register(tally)
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        'squeezedrive_fleet_files_total{exit_kind="done"} 1.0',
        'squeezedrive_fleet_files_total{exit_kind="bad file"} 1.0',
        'squeezedrive_fleet_files_total{exit_kind="fault"} 0.0',
        "squeezedrive_fleet_frames_total 50.0",
        "squeezedrive_fleet_video_seconds_total 4.0",
        "squeezedrive_fleet_detections_total 14.0",
        "squeezedrive_fleet_retries_total 2.0",
        "squeezedrive_fleet_workers 4.0",
        "squeezedrive_fleet_files_expected 5.0",
    ):
        assert line in lines


def test_parts_count_as_files_and_share_the_size_of_theirs() -> None:
    tally = FleetTally(2, 400)
    tally.expect(2)
    tally.add(FileRow("a", "key", 300, part=1, parts=3, frames=50))
    tally.skip("done", 300, parts=3)
    tally.workers = 1
    line, part = tally.line()
    assert line.startswith("file 2 of 4, 50 frames")
    assert part == 0.5


def test_the_line_tells_what_is_left_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tally = FleetTally(4, 1000)
    tally.workers = 0
    assert tally.line() == ("file 0 of 4, 0 frames, 0.0 fps, 0 workers", 0.0)
    tally.skip("bad file", 200)
    tally.add(row("a", size=100))
    now[0] = 10.0
    tally.workers = 2
    line, part = tally.line()
    # A tenth of the bytes took 10 s, and seven tenths are left.
    assert line == "file 2 of 4, 50 frames, 5.0 fps, 2 workers, 1 failed, 0:01:10 left"
    assert part == pytest.approx(0.3)


def test_the_summary_names_some_of_the_failures() -> None:
    tally = FleetTally(30, 0)
    tally.skip("infrastructure", 0)
    for number in range(SHOWN + 5):
        tally.add(failed(f"{number}.mp4"))
    tally.add(row("good"))
    lines = tally.summary("s3://out").splitlines()
    assert lines[0] == "files       1 done, 1 done before, 13 not begun or given up"
    assert "failed      15 bad file, 1 infrastructure: rows of s3://out/files" in lines
    shown = [line for line in lines if line.startswith("  ")]
    assert len(shown) == SHOWN
    assert shown[0] == "  0.mp4: open: expected a video, found none"
    assert tally.failed == 16


def test_prometheus_is_answered_while_the_fleet_runs() -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: the extra fleet")
    from squeezedrive.pipeline.fleet.run import _serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with contextlib.ExitStack() as stack, pytest.raises(ConfigError, match=f"port {port}"):
            _serve(FleetTally(1, 1), port, stack)
    with contextlib.ExitStack() as stack:
        _serve(FleetTally(3, 1), port, stack)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert b"squeezedrive_fleet_files_expected 3.0" in answer.read()
