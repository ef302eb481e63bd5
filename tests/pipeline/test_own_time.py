"""Segments and clips of a file carry its own time, not that of processing."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from squeezedrive.pipeline.config import VideoConfig, load_config
from squeezedrive.pipeline.core.identity import Identity
from squeezedrive.pipeline.core.moments import format_moment, parse_moment
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import SourceInfo, SourceOptions
from squeezedrive.pipeline.sinks.recordings.clock import RecordingClock
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sinks.registry import open_sinks
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import write_video
from tests.support.recordings import NAMES, Pictures, found, results

CREATED = "2026-11-25T10:59:59.000000Z"


def created(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.metadata.get("creation_time", "")


def run(clip: Path, folder: Path, start: float, *settings: tuple[str, object]) -> list[str]:
    """Write segments and clips of a file with a cyclist in frames 40 to 60; return the names."""
    source = VideoSource(str(clip), SourceOptions(start=start))
    config = load_config(None, [("test", key, value) for key, value in settings])
    paths = {"output": folder / "ride.mp4", "jsonl": folder / "ride.jsonl"}
    sinks: list[Sink] = open_sinks(paths, source, NAMES, config, dict)  # type: ignore[arg-type]
    while (frame := source.read()) is not None:
        seen = found("cyclist") if 40 <= frame.frame_id <= 60 else found()
        for sink in sinks:
            sink.write(FrameResult(frame, seen))
    for sink in sinks:
        sink.close()
    source.close()
    assert [line for sink in sinks for line in sink.warnings] == []
    return sorted(path.name for path in folder.iterdir())


def test_segments_and_clips_are_dated_by_the_file(tmp_path: Path) -> None:
    clip, folder = tmp_path / "clip.mp4", tmp_path / "out"
    write_video(clip, 100, metadata={"creation_time": CREATED})
    folder.mkdir()
    names = run(
        clip, folder, 0.8, ("record.segment", 2.0), ("record.events", ["cyclist>0"]),
        ("record.before", 0.2), ("record.after", 0.2),
    )  # fmt: skip
    assert names == [
        "ride.000001.20261125T105959Z.jsonl", "ride.000001.20261125T105959Z.mp4",
        "ride.000002.20261125T110001Z.jsonl", "ride.000002.20261125T110001Z.mp4",
        "ride.event.000001.20261125T110000Z.cyclist.mp4", "ride.events.jsonl",
    ]  # fmt: skip
    assert created(folder / names[1]) == "2026-11-25T10:59:59.800000Z"
    assert created(folder / names[3]) == "2026-11-25T11:00:01.800000Z"
    (event,) = map(json.loads, (folder / names[5]).read_text().splitlines())
    assert event["time"] == "2026-11-25T11:00:00Z"
    begin = Fraction(event["clip_start"]).limit_denominator(1000)
    moment = parse_moment(CREATED)
    assert moment is not None
    assert created(folder / names[4]) == format_moment(moment + begin, 6)


def test_without_a_creation_time_this_computers_clock_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_764_000_000.0)
    clip, folder = tmp_path / "clip.mp4", tmp_path / "out"
    write_video(clip, 5)
    folder.mkdir()
    names = run(clip, folder, 0, ("record.segment", 1.6))
    assert names == [f"ride.000001.20251124T160000Z.{end}" for end in ("jsonl", "mp4")]
    assert created(folder / names[1]) == ""  # the time is unknown


def test_a_live_recording_is_dated_by_this_computers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_764_000_000.5)
    sink = RecordingSink(Pictures(live=True), VideoConfig(), tmp_path / "out.mp4")
    for result in results([3, 4, 5]):
        sink.write(result)
    sink.close()
    # Time 0 of the recording is the moment when the source's clock was 0.
    assert created(tmp_path / "out.mp4") == "2025-11-24T16:00:00.380000Z"


def test_pictures_are_dated_by_their_metadata() -> None:
    (frame,) = (result.frame for result in results([50]))
    source = Pictures()
    source.info = SourceInfo(
        "a", "file", 0, 0, None, None, Fraction(1, 25), identity=Identity(began=Fraction(100))
    )
    clock = RecordingClock(source)
    assert (clock.see(frame), clock.at(Fraction(3)), clock.began) == (102.0, 103.0, 100)
    here = RecordingClock()
    before = time.time()
    assert before <= here.see(frame) <= time.time()
    assert before - 1 <= here.at(Fraction(1)) <= time.time() - 1
    assert here.began is None
