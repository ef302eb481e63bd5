"""A run with positions, from the command line: JSON lines, tables, GPX and the status line."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpxpy
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.app import command_line
from squeezedrive.pipeline.core.gps import GpsFix, GpsTrack
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.gps.gpx import read_gpx
from squeezedrive.pipeline.sinks.files.gpx import GpxSink
from squeezedrive.pipeline.stages.batch import Results
from squeezedrive.pipeline.stages.feed import Feed
from squeezedrive.pipeline.stages.render import Render
from tests.support.gps import CREATED, block, gpx, latitude, write_novatek
from tests.support.media import write_video
from tests.support.recordings import Pictures, results

FRAMES = 6


def frames(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_novatek_positions_reach_every_output(run: Any, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    blocks = [block(k, 48, b"VNE\0" if k == 3 else b"ANE\0") for k in range(5)]
    write_novatek(clip, blocks, size=(320, 192))
    jsonl, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    code, _, err = run(
        clip, "-o", out, "--jsonl", jsonl, "--csv", table, "-t", "0.001", "--summary",
        tmp_path / "s.json",
    )  # fmt: skip
    assert code == 0, err
    said = [frame["gps"] for frame in frames(jsonl)]
    assert len(said) == 25
    assert said[0]["lon"] == 11
    assert said[0]["speed"] == 20
    assert re.fullmatch(r"2026-11-25T10:11:1[234]\.\d{3}Z", said[6]["utc"])
    lost = [k for k, one in enumerate(said) if one is None]
    assert lost
    assert lost == list(range(lost[0], lost[-1] + 1))  # frames of the second without a fix
    assert 12 <= lost[0] <= 20
    header = json.loads(jsonl.read_text().splitlines()[0])
    assert header["source"]["gps"] == str(clip)
    rows = list(csv.DictReader(table.open()))
    assert rows
    for row in rows:
        one = said[int(row["frame"])]
        expected = ("", "") if one is None else (str(one["lat"]), str(one["lon"]))
        assert (row["lat"], row["lon"]) == expected

    track = gpxpy.parse((tmp_path / "out.gpx").read_text())
    points = [[round(p.latitude, 4) for p in part.points] for part in track.tracks[0].segments]
    assert points == [[round(latitude(k), 4) for k in (0, 1, 2)], [round(latitude(4), 4)]]
    assert str(tmp_path / "out.gpx") in json.loads((tmp_path / "s.json").read_text())["outputs"]
    fix = read_gpx(tmp_path / "out.gpx")[0][1]
    assert fix is not None
    assert (fix.speed, fix.course) == (20, 0)

    copy = tmp_path / "copy.gpx"
    assert command_line.main(["convert", str(jsonl), "--gpx", str(copy)]) == 0
    again = [time for time, fix in read_gpx(copy) if fix is not None]
    assert len(again) == 5  # the fix after the gap also covers the second before it


def test_a_track_file_beside_the_video_is_used_or_refused(
    run: Any, refused: Any, tmp_path: Path
) -> None:
    clip, jsonl = tmp_path / "clip.mp4", tmp_path / "out.jsonl"
    pts = range(0, 50, 5)
    write_video(clip, list(pts), rate=5, metadata={"creation_time": CREATED}, size=(320, 192))
    track = tmp_path / "ride.gpx"
    track.write_text(gpx(range(5)))
    assert run(clip, "--no-video", "--jsonl", jsonl, "--gps", track, "--start", 1)[0] == 0
    assert [frame["gps"]["lat"] for frame in frames(jsonl)][:2] == [
        pytest.approx(latitude(1)), pytest.approx(latitude(1.2))
    ]  # fmt: skip
    assert not (tmp_path / "clip.detected.gpx").exists()
    assert run(clip, "--no-video", "--gps", track, "--gpx", tmp_path / "a.gpx", "-n", 6)[0] == 0
    assert len(gpxpy.parse((tmp_path / "a.gpx").read_text()).tracks[0].segments[0].points) == 2
    track.write_text("nothing")
    message = refused(clip, "--no-video", "--jsonl", jsonl, "--gps", track)
    assert "expected a GPX file" in message


def test_without_gps_no_output_mentions_it(run: Any, tmp_path: Path) -> None:
    clip, jsonl = tmp_path / "clip.mp4", tmp_path / "out.jsonl"
    write_video(clip, 3, size=(320, 192))
    assert run(clip, "-o", tmp_path / "out.mp4", "--jsonl", jsonl)[0] == 0
    assert "gps" not in frames(jsonl)[0]
    assert not (tmp_path / "out.gpx").exists()


def test_the_status_line_has_the_speed() -> None:
    drawn = []
    made = results([0, 1])
    feed = Feed(Pictures(), None, [], lambda result, status: drawn.append(status))  # type: ignore[arg-type]
    feed.source.follow(GpsTrack([(0.0, GpsFix(1, 2, speed=20.0)), (0.04, None)], "t"))
    frames = iter([one.frame for one in made])
    feed.source.read = lambda: next(frames)  # type: ignore[method-assign]
    taken = [feed.take(), feed.take()]
    entries = [(feed, FrameResult(frame, Detections.empty())) for frame in taken if frame]
    Render().work(Results(entries, 0.01))
    assert [line.endswith("72 km/h") for line in drawn] == [True, False]


def test_gpx_of_frames_has_a_point_a_second(tmp_path: Path) -> None:
    sink = GpxSink(tmp_path / "a.gpx", None)
    for result in results(range(0, 100, 5)):
        lost = 30 <= result.frame.pts < 50
        fix = None if lost else GpsFix(1, 2 + result.frame.seconds, utc=result.frame.seconds)
        sink.write(replace(result, frame=replace(result.frame, has_gps=True, gps=fix)))
    sink.close()
    parts = gpxpy.parse((tmp_path / "a.gpx").read_text()).tracks[0].segments
    assert [[p.longitude for p in part.points] for part in parts] == [[2, 3], [4, 5]]


OWN = "<gpx/>"  # a track that the user made


def test_a_track_that_is_read_is_never_replaced(run: Any, refused: Any, tmp_path: Path) -> None:
    clip, track, out = (tmp_path / name for name in ("ride.mkv", "ride.gpx", "ride.mp4"))
    write_video(clip, FRAMES, size=(320, 192), metadata={"creation_time": CREATED})
    track.write_text(gpx(range(3)))
    assert "ride.gpx: is the source itself" in refused(clip, "-o", out, "--overwrite")
    for options in (["--resume"], ["--resume", "--overwrite"]):
        code, text, _ = run(clip, "-o", out, *options)
        assert code == 1
        assert "ride.gpx: is the source itself" in text
    assert track.read_text() == gpx(range(3))
    code, _, err = run(clip, "-o", out, "--gpx", tmp_path / "other.gpx", "--resume")
    assert code == 0, err


@pytest.mark.parametrize("place", ["ride.mp4", "out"])
def test_tracks_of_others_stay(run: Any, tmp_path: Path, place: str) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / place
    write_novatek(clip, [block(k, 48) for k in range(2)], size=(320, 192))
    track = tmp_path / "ride.gpx" if out.suffix else out / "clip.detected.gpx"
    track.parent.mkdir(exist_ok=True)
    track.write_text(OWN)
    code, text, _ = run(clip, "-o", out, "--resume")
    assert code == 1
    assert f"{track}: exists already" in text
    assert track.read_text() == OWN
    assert run(clip, "-o", out, "--resume", "--overwrite")[0] == 0
    assert track.read_text() != OWN


def test_a_track_belongs_to_what_is_finished(run: Any, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out"
    write_novatek(clip, [block(k, 48) for k in range(2)], size=(320, 192))
    out.mkdir()
    track = out / "clip.detected.gpx"
    states = []
    for change in (None, None, track.unlink, lambda: track.write_text(OWN)):
        if change is not None:
            change()
        code, text, err = run(clip, "-o", out, "--resume", "-y")
        assert code == 0, err
        states.append(re.search(r"^files +1 (.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
        assert len(read_gpx(track)) == 2
    assert states == ["done", "done before", "done", "done"]
