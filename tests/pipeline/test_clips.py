from __future__ import annotations

import json
from fractions import Fraction
from itertools import chain
from pathlib import Path

import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings import clips as clips_module
from squeezedrive.pipeline.sinks.recordings import series
from squeezedrive.pipeline.sinks.recordings.archive import Archive
from squeezedrive.pipeline.sinks.recordings.clips import Preroll
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture
from squeezedrive.pipeline.sinks.recordings.events import EventDetector
from squeezedrive.pipeline.sinks.recordings.parts import Split
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import packets, times, write_video
from tests.support.recordings import NAMES, Disk, Pictures, found, numbers, results

FAST = VideoConfig(preset="ultrafast", threads=1)


def seen(pts: int) -> Detections:
    """Return the objects in a frame: a pedestrian from 100 to 149, a cyclist from 300 to 309."""
    if 100 <= pts < 150:
        return found("pedestrian", score=0.5 + pts / 1000)
    return found("cyclist") if 300 <= pts < 310 else Detections.empty()


def record(
    folder: Path,
    frames: int = 400,
    whole: Path | None = None,
    segment: float | None = None,
    keep: float | None = None,
    noise: bool = False,
) -> RecordingSink:
    archive = Archive(folder / "ride.mp4", None, keep)
    sink = RecordingSink(
        Pictures(),
        FAST,
        whole,
        Split(
            archive,
            None if segment is None else Segments(archive, segment),
            EventDetector(["pedestrian>=1", "cyclist>0"], NAMES, 2.0, 1.0),
        ),
    )
    for pts in range(frames):
        (result,) = results([pts], seen(pts), noise=noise)
        sink.write(result)
    sink.close()
    return sink


def clips(folder: Path) -> list[Path]:
    return sorted(folder.glob("ride.event.*.mp4"))


def index(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "ride.events.jsonl").read_text().splitlines()]


def test_a_clip_has_frames_from_before_and_after_its_event(tmp_path: Path) -> None:
    sink = record(tmp_path)
    first, second = clips(tmp_path)
    assert first.name.startswith("ride.event.000001.")
    assert first.name.endswith("Z.pedestrian.mp4")
    assert second.name.startswith("ride.event.000002.")
    assert second.name.endswith("Z.cyclist.mp4")
    assert numbers(first) == list(range(50, 175))  # 2 s before frame 100, 1 s after frame 149
    assert numbers(second) == list(range(250, 335))
    for path in (first, second):
        assert times(path)[0] == 0
        assert packets(path)[0].is_keyframe
    assert (sink.lost, sink.warnings) == (0, [])

    one, two = index(tmp_path)
    assert one.pop("time")[:2] == "20"  # type: ignore[index]
    assert one == {
        "clip": first.name,
        "events": ["pedestrian>=1"],
        "clip_start": 2.0,
        "first": 4.0,
        "last": 149 / 25,
        "best_score": 0.649,
    }
    assert (two["clip"], two["first"], two["best_score"]) == (second.name, 12.0, 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        first.name, second.name, "ride.events.jsonl",
    ]  # fmt: skip


def test_clips_are_written_beside_a_whole_file_or_segments(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    record(tmp_path / "a", whole=tmp_path / "a" / "ride.mp4")
    record(tmp_path / "b", segment=3)
    assert numbers(tmp_path / "a" / "ride.mp4") == list(range(400))
    segments = sorted((tmp_path / "b").glob("ride.0*.mp4"))
    assert list(chain(*map(numbers, segments))) == list(range(400))
    for folder in (tmp_path / "a", tmp_path / "b"):
        one, two = clips(folder)
        assert set(range(50, 175)) <= set(numbers(one)) <= set(range(25, 175))
        assert numbers(two)[-1] == 334


def test_a_clip_at_the_start_or_end_of_a_recording_is_shorter(tmp_path: Path) -> None:
    record(tmp_path, frames=120)
    (path,) = clips(tmp_path)
    assert numbers(path) == list(range(50, 120))
    (event,) = index(tmp_path)
    assert event["last"] == 119 / 25


def test_a_clip_has_its_sound(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 200, audio="aac")
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    sink = RecordingSink(
        source,
        FAST,
        split=Split(
            Archive(tmp_path / "ride.mp4"),
            events=EventDetector(["pedestrian>=1"], NAMES, 2.0, 1.0),
        ),
    )
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, seen(frame.frame_id)))
    sink.close()
    source.close()
    (path,) = clips(tmp_path)
    seconds = sum(p.duration * p.time_base for p in packets(path, "audio"))
    assert float(seconds) == pytest.approx(5.0, abs=0.15)


def test_clips_lost_on_a_full_disk_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "RETRY_SECONDS", 0.0)
    Disk(monkeypatch, tmp_path).room = 0
    sink = record(tmp_path)
    assert sink.lost == 125 + 85
    assert sink.warnings == [
        f"event clips: {sink.lost} frames are not in it: {sink.warnings[0].rpartition('it: ')[2]}",
        f"{tmp_path / 'ride.events.jsonl'}: some events could not be added",
    ]
    assert clips(tmp_path) == []


@pytest.mark.usefixtures("no_thread_outlives")
def test_a_whole_file_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    whole = tmp_path / "none" / "ride.mp4"
    with pytest.raises(SinkError, match=r"ride\.mp4: cannot be written: No such file or directory"):
        record(tmp_path, whole=whole)
    assert list(tmp_path.iterdir()) == []


def test_deleted_clips_are_removed_from_the_list(tmp_path: Path) -> None:
    record(tmp_path)
    old = clips(tmp_path)
    record(tmp_path, frames=200, keep=sum(path.stat().st_size for path in old) / 1e9)
    names = [path.name for path in clips(tmp_path)]
    assert old[0].name not in names
    assert names[-1].startswith("ride.event.000003.")
    assert [event["clip"] for event in index(tmp_path)] == names


def encoded(pts: int, size: int = 100) -> EncodedPicture:
    return EncodedPicture(bytes(size), pts, 1, pts % 25 == 0)


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.6])
def test_the_preroll_is_limited_in_seconds(seconds: float) -> None:
    preroll = Preroll(Fraction(seconds), Fraction(1, 25))
    for pts in range(1000):
        preroll.add(encoded(pts))
        kept = preroll.since(0)
        begin = round(pts - seconds * 25)
        assert kept[0].is_key
        assert kept[0].pts <= max(begin, 0)
        assert kept[0].pts > begin - 25
        assert kept[-1].pts == pts
        assert preroll.bytes == 100 * len(kept)
    assert [p.pts for p in preroll.since(990)] == list(range(975, 1000))


def test_the_preroll_is_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips_module, "MAX_BYTES", 6000)
    preroll = Preroll(Fraction(10), Fraction(1, 25))
    for pts in range(100):
        preroll.add(encoded(pts))
        assert preroll.bytes <= 6000
    assert preroll.since(0)[0].pts == 50
    for pts in range(100, 160):  # one second alone is too large
        preroll.add(encoded(pts, 1000))
        kept = preroll.since(0)
        assert preroll.bytes == sum(len(picture.data) for picture in kept) <= 6000
        assert not kept or kept[0].is_key
