"""Several sources, recordings, tracking and the live page, as users start them."""

import http.client
import itertools
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import Server
from tests.support.media import times, write_video
from tests.support.program import lines_of, start, wait_for_lines

ROOT = Path(__file__).resolve().parent.parent
LIVE = ROOT / "configs" / "live.yaml"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a video of 12 frames and one of 7."""
    folder = tmp_path_factory.mktemp("clips")
    for name, count in (("a.mp4", 12), ("b.mp4", 7)):
        write_video(folder / name, count, size=(320, 192))
    return folder / "a.mp4", folder / "b.mp4"


@pytest.fixture
def port() -> int:
    """Return a port on which no program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = int(server.getsockname()[1])
    return number


def test_each_source_has_its_own_outputs(
    run: Any, refused: Any, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    arguments = [*clips, "-o", tmp_path / "ride.mp4", "--jsonl", tmp_path / "ride.jsonl",
                 "--mot", tmp_path / "ride.txt", "--kitti", tmp_path / "kitti",
                 "--summary", figures]  # fmt: skip
    code, out, err = run(*arguments)
    assert code == 0, err
    for number, count in enumerate((12, 7)):
        assert len(times(tmp_path / f"ride.{number}.mp4")) == count
        header, *lines = lines_of(tmp_path / f"ride.{number}.jsonl")
        assert header["source"]["name"] == str(clips[number])
        assert [line["frame"] for line in lines] == list(range(count))
        assert len(list((tmp_path / "kitti" / clips[number].stem).iterdir())) == count
        assert (tmp_path / f"ride.{number}.txt").exists()
    summary = json.loads(figures.read_text())
    assert [source["name"] for source in summary["sources"]] == [str(clip) for clip in clips]
    assert [source["frames"]["processed"] for source in summary["sources"]] == [12, 7]
    assert summary["frames"] == {
        "read": 19,
        "processed": 19,
        "detected": 19,
        "dropped": {},
        "skipped": {},
    }
    assert len(summary["outputs"]) == 8
    assert "19 read, 19 processed" in out
    assert "ride.0.mp4: exists already; --resume" in refused(*arguments)


def test_sources_that_are_read_at_the_same_time_share_the_figures(
    run: Any, tmp_path: Path, clips: tuple[Path, Path]
) -> None:
    jsonl = tmp_path / "ride.jsonl"
    code, out, err = run("demo:", clips[1], "-n", "7", "--no-video", "--jsonl", jsonl)
    assert code == 0, err
    assert "14 read, 14 processed" in out
    (line,) = [line for line in out.splitlines() if line.startswith("preprocess")]
    assert re.search(r"  \d\.\d, \d\.\d of 2$", line)  # waiting frames of each source
    assert [len(lines_of(tmp_path / f"ride.{number}.jsonl")) for number in (0, 1)] == [8, 8]


def test_videos_of_several_sources_go_beside_them(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 3)
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path / "a.mp4", "demo:", "demo:loop", "-n", "3")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.detected.mp4", "a.mp4", "demo.2.detected.mp4", "demo.detected.mp4",
    ]  # fmt: skip


def test_results_of_several_sources_may_go_to_the_current_folder(
    run: Any, clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run("demo:", clips[1], "-n", "2", "--no-video", "--kitti", ".")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "results.0", "results.1"]


def test_outputs_that_several_sources_cannot_share_are_refused(
    refused: Any, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    for arguments, part in (
        (["--jsonl", "-"], "--jsonl -: standard output is for one source"),
        (["--mot", "-"], "--mot -: standard output is for one source"),
        (["--show"], "--show: expected one source, got several"),
        (["--profile", tmp_path / "profile"], "--profile: expected a single source"),
        (["--sweep", "video.crf=20,30"], "--sweep: expected one source, got several"),
        (["--jsonl", tmp_path / "x.txt", "--mot", tmp_path / "x.txt"], "named for two outputs"),
        (["--jsonl", tmp_path / "x.y", "--summary", tmp_path / "x.1.y"], "named for two outputs"),
    ):
        assert part in refused(*clips, "--no-video", *arguments), arguments
    assert "--profile: expected one source, got several" in refused(
        clips[0], "demo:", "--no-video", "--profile", tmp_path / "profile"
    )
    assert "named for two outputs" in refused(clips[0], clips[0], "demo:")
    clips[1].with_name("c.1.mp4").symlink_to(clips[0])
    assert "is the source itself" in refused(*clips, "-y", "-o", clips[1].with_name("c.mp4"))


def test_a_silent_source_does_not_delay_the_others(
    run: Any, clips: tuple[Path, Path], tmp_path: Path, port: int
) -> None:
    """Without `source.reconnect` the silent source is given up at once; the exit code is 2."""
    jsonl = tmp_path / "out.jsonl"
    url = f"http://user:hunter2@127.0.0.1:{port}/stream"
    code, out, err = run(url, clips[0], "--no-video", "--jsonl", jsonl)
    assert code == 2
    assert "the other sources go on" in err
    assert "12 read, 12 processed" in out
    assert "hunter2" not in out + err
    assert len(lines_of(tmp_path / "out.1.jsonl")) == 13
    assert not (tmp_path / "out.0.jsonl").exists()


def test_arguments_may_be_read_from_a_file(
    run: Any, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    cameras, jsonl = tmp_path / "cameras", tmp_path / "out.jsonl"
    cameras.write_text(f"{clips[0]}\n{clips[1]}\n--set\npreview.token=hunter2\n")
    assert run(f"@{cameras}", "--no-video", "--jsonl", jsonl)[0] == 0
    for number, count in enumerate((12, 7)):
        assert len(lines_of(tmp_path / f"out.{number}.jsonl")) == count + 1


def test_a_source_that_never_answers_is_tried_until_a_signal_comes(
    small_network: Path, clips: tuple[Path, Path], tmp_path: Path, port: int
) -> None:
    jsonl = tmp_path / "out.jsonl"
    process = start(
        f"http://user:hunter2@127.0.0.1:{port}/stream", clips[0], "--config", LIVE, "--no-video",
        "--policy", "lossless", "--jsonl", jsonl, "--set", f"network={small_network}",
    )  # fmt: skip
    try:
        wait_for_lines(process, tmp_path / "out.1.jsonl", 13)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "trying again" in err
    assert "hunter2" not in out + err
    assert "12 read, 12 processed" in out


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_failing_camera_is_reconnected(
    small_network: Path, tmp_path: Path, comes_back: bool
) -> None:
    """The same files go on after the reconnection; with `source.reconnect=0` they are finished."""
    video, jsonl = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    camera = Server("mjpeg", "--fps=20")
    process = start(
        camera.url(), "--config", LIVE, "-o", video, "--jsonl", jsonl,
        "--set", f"source.reconnect={'null' if comes_back else '0.0'}",
        "--set", f"network={small_network}",
    )  # fmt: skip
    try:
        wait_for_lines(process, jsonl, 20)
        camera.kill()
        if comes_back:
            camera.start("--fps=20")
            wait_for_lines(process, jsonl, jsonl.read_bytes().count(b"\n") + 20)
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        camera.kill()
        process.kill()
    assert process.returncode == (0 if comes_back else 2), err
    assert ("connected again after" in err) == comes_back
    stamps = [line["pts"] for line in lines_of(jsonl)[1:]]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert len(times(video)) == len(stamps)


def test_writes_segments_and_event_clips(run: Any, drive: Path, tmp_path: Path) -> None:
    code, out, err = run(
        drive, "-o", tmp_path / "ride.mp4", "--jsonl", tmp_path / "ride.jsonl", "--segment", "1",
        "--keep", "1", "--event", "car>=1", "-t", "0.001",
        "--set", "record.before=0.2", "--set", "record.after=0.2",
    )  # fmt: skip
    assert code == 0, err
    segments = sorted(tmp_path.glob("ride.0*.mp4"))
    assert len(segments) == 4
    assert sum(len(times(path)) for path in segments) == 90
    detections = sorted(tmp_path.glob("ride.0*.jsonl"))
    assert [path.stem for path in detections] == [path.stem for path in segments]
    frames = [line["frame"] for path in detections for line in lines_of(path)[1:]]
    assert frames == list(range(90))
    (clip,) = tmp_path.glob("ride.event.*.mp4")
    assert len(times(clip)) > 10
    assert len(lines_of(tmp_path / "ride.events.jsonl")) == 1
    assert str(tmp_path / "ride") in out
    assert not (tmp_path / "ride.mp4").exists()
    # A second run continues the numbers and replaces no file.
    assert run(drive, "-n", "5", "-o", tmp_path / "ride.mp4", "--segment", "1")[0] == 0
    assert len(list(tmp_path.glob("ride.0*.mp4"))) == 5


def test_writes_clips_without_the_video(run: Any, drive: Path, tmp_path: Path) -> None:
    code, _, err = run(drive, "-n", "40", "--no-video", "-o", tmp_path / "x.mp4",
                       "--event", "car>=1", "-t", "0.001",
                       "--jsonl", tmp_path / "x.jsonl")  # fmt: skip
    assert code == 0, err
    (clip,) = tmp_path.glob("*.mp4")
    assert clip.name.startswith("x.event.000001.")
    assert len(times(clip)) == 40
    assert len(lines_of(tmp_path / "x.jsonl")) == 41


def test_impossible_recording_options_are_refused(
    refused: Any, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    for arguments, part in (
        (["--keep", "5"], "record.keep: deletes segments and clips, and there are none"),
        (["--segment", "0"], "--segment: record.segment: expected"),
        (["--keep", "much", "--segment", "5"], "--keep: record.keep: expected"),
        (["--event", "tram>=1"], "tram"),
        (["--event", "car"], "car"),
    ):
        assert part in refused(clips[0], "-o", tmp_path / "x.mp4", *arguments), arguments
    nothing = refused(clips[0], "--no-video", "--segment", "5")
    assert "record.segment: splits video and JSONL, and neither is written" in nothing
    assert not list(tmp_path.iterdir())


def test_tracked_objects_keep_their_numbers(run: Any, drive: Path, tmp_path: Path) -> None:
    jsonl, mot = tmp_path / "out.jsonl", tmp_path / "out.txt"
    options = "--no-video", "-t", "0.01", "--jsonl", jsonl, "--mot", mot
    assert run(drive, "-n", "60", *options)[0] == 0
    header, *lines = lines_of(jsonl)
    assert header["config"]["track"]["enabled"] is True
    ids = [[found["id"] for found in line["detections"]] for line in lines]
    assert max(map(len, ids)) > 0
    for one in ids:
        assert len(set(one)) == len(one)
    longest = max(sum(number in one for one in ids) for number in {n for one in ids for n in one})
    assert longest > 10
    rows = [row.split(",") for row in mot.read_text().splitlines()]
    assert sorted((int(row[0]) - 1, int(row[1])) for row in rows) == sorted(
        (k, number) for k, one in enumerate(ids) for number in one
    )


def ask(port: int, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """Ask the live page; return the status and the answer, decoded if it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is None:
        connection.request("GET", path, headers=headers)
    else:
        headers["Content-Type"] = "application/json"
        connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json else text


def test_the_live_page_shows_and_changes_the_run(
    small_network: Path, tmp_path: Path, port: int
) -> None:
    jsonl = tmp_path / "out.jsonl"
    process = start(
        "demo:loop", "--no-video", "--jsonl", jsonl,
        "-t", "0.001", "--preview", f"127.0.0.1:{port}", "--set", "preview.token=hunter2",
        "--set", f"network={small_network}",
    )  # fmt: skip
    try:
        wait_for_lines(process, jsonl, 20)
        assert ask(port, "/status")[0] in (401, 403)
        code, status = ask(port, "/status", token="hunter2")
        assert code == 200
        (source,) = status["sources"]
        assert (source["state"], source["read"] >= source["processed"] > 0) == ("connected", True)
        assert ask(port, "/health", token="hunter2")[0] == 200
        assert ask(port, "/controls", {"threshold": 1.0}, "hunter2")[0] in (200, 204)
        before = jsonl.read_bytes().count(b"\n")
        wait_for_lines(process, jsonl, before + 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    header, *lines = lines_of(jsonl)
    assert lines[0]["detections"]
    # Frames that were already in the pipeline, one or two a stage, have the old threshold.
    assert not any(line["detections"] for line in lines[before + 20 :])
    assert header["config"]["preview"]["token"] == "**********"
    assert "hunter2" not in out + err + jsonl.read_text()


def test_a_port_in_use_is_an_error(refused: Any, clips: tuple[Path, Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        message = refused(clips[0], "-o", tmp_path / "x.mp4", "--preview", str(taken))
    assert str(taken) in message
    message = refused(clips[0], "-o", tmp_path / "x.mp4", "--preview", "0.0.0.0:8080")
    assert "preview.token" in message
    assert not list(tmp_path.iterdir())
