from __future__ import annotations

import calendar
import json
import logging
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.files.jsonl import SegmentedJsonlSink
from squeezedrive.pipeline.sinks.recordings import parts, series, writer
from squeezedrive.pipeline.sinks.recordings.archive import Archive
from squeezedrive.pipeline.sinks.recordings.parts import Split
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import packets, times, write_video
from tests.support.recordings import NAMES, Disk, Pictures, numbers, renumbered, results, used

ROOT = Path(__file__).resolve().parents[2]
FAST = VideoConfig(preset="ultrafast", threads=1)


class Recording:
    """Sinks for a recording in segments, as a session builds them."""

    def __init__(
        self,
        folder: Path,
        seconds: float = 2,
        keep: float | None = None,
        source: object = None,
    ) -> None:
        archive = Archive(folder / "ride.mp4", None, keep)
        segments = Segments(archive, seconds)
        self.archive = archive
        self.jsonl = SegmentedJsonlSink(archive, segments, lambda: {"made": "by a test"}, NAMES)
        self.video = RecordingSink(source or Pictures(), FAST, split=Split(archive, segments))

    def write(self, made: list[FrameResult]) -> None:
        for result in made:
            self.jsonl.write(result)
            self.video.write(result)

    def close(self) -> None:
        self.jsonl.close()
        self.video.close()


def record(folder: Path, made: list[FrameResult], **options: object) -> Recording:
    recording = Recording(folder, **options)  # type: ignore[arg-type]
    recording.write(made)
    recording.close()
    return recording


def thread_of(recording: Recording) -> writer.Writer:
    opened = recording.video._files
    assert opened is not None
    assert opened.parts is not None
    return opened.parts._writer


def wait_for_writer(recording: Recording) -> None:
    """Wait until the writer's thread has taken all pictures."""
    writing = thread_of(recording)
    with writing._changed:
        assert writing._changed.wait_for(lambda: not writing._waiting, 60)


def files(folder: Path, suffix: str = ".mp4") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == suffix)


def frames_of(path: Path) -> list[int]:
    header, *lines = map(json.loads, path.read_text().splitlines())
    assert header == {"type": "header", "made": "by a test"}
    return [line["frame"] for line in lines]


def shown(folder: Path) -> list[int]:
    """Return the numbers of all frames in the videos, in the order of their names."""
    return list(chain(*map(numbers, files(folder))))


def listed(folder: Path) -> list[int]:
    """Return the numbers of all frames in the JSONL files, in the order of their names."""
    return list(chain(*map(frames_of, files(folder, ".jsonl"))))


def test_segments_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    recording = record(tmp_path, results(range(130)))
    videos, lines = files(tmp_path), files(tmp_path, ".jsonl")
    assert [path.name[:12] for path in videos] == ["ride.000001.", "ride.000002.", "ride.000003."]
    assert [path.stem for path in videos] == [path.stem for path in lines]
    assert [numbers(path) for path in videos] == [frames_of(path) for path in lines]
    assert shown(tmp_path) == list(range(130))
    assert [len(numbers(path)) for path in videos] == [50, 50, 30]
    for path in videos:
        assert path.read_bytes()[4:8] == b"ftyp"
        assert times(path)[0] == 0
        keys = [p.pts * p.time_base for p in packets(path) if p.is_keyframe]
        assert keys[:2] == [0, 1]
    assert (recording.video.lost, recording.video.warnings) == (0, [])
    assert (recording.jsonl.lost, recording.jsonl.warnings) == (0, [])
    assert recording.video.name == str(tmp_path / "ride.*.mp4")


@pytest.mark.parametrize("seconds", [0.28, 1.6, 2.2])
@pytest.mark.parametrize("ticks", [25, 90_000])
def test_segments_are_as_long_as_asked_for(tmp_path: Path, seconds: float, ticks: int) -> None:
    segments = Segments(Archive(tmp_path / "ride.mp4"), seconds)
    labels = [
        segments.at(result.frame).number
        for k in range(120)
        for result in results([k * ticks // 25], time_base=Fraction(1, ticks))
    ]
    assert {labels.count(number) for number in set(labels[:-60])} == {round(seconds * 25)}


def test_the_name_says_when_a_segment_began(tmp_path: Path) -> None:
    before = int(time.time())
    record(tmp_path, results(range(3)))
    (path,) = files(tmp_path)
    stamp = time.strptime(path.name, "ride.000001.%Y%m%dT%H%M%SZ.mp4")
    assert before <= calendar.timegm(stamp) <= time.time()


@pytest.mark.parametrize(
    ("pts", "time_base", "starts"),
    [
        (
            [0, 3, 4, 9, 999, 1000, 4000, 4001, 5999, 6000, 6001],
            Fraction(1, 1000),
            [0, 1000, 4000, 5999],
        ),
        (
            list(range(70_000, 70_000 + 100 * 1001, 1001)),
            Fraction(1, 30000),
            [70_000, 100_030, 130_060, 160_090],
        ),
    ],
)
def test_segments_keep_the_timing_of_the_source(
    tmp_path: Path, pts: list[int], time_base: Fraction, starts: list[int]
) -> None:
    made = [renumbered(r, k) for k, r in enumerate(results(pts, time_base=time_base))]
    record(tmp_path, made, source=Pictures(time_base), seconds=1)
    joined, zeros, zero = [], [], Fraction(0)
    for path in files(tmp_path):
        zeros.append(zero)
        joined += [zero + t for t in times(path)]
        last = packets(path)[-1]
        zero += (last.pts + last.duration) * last.time_base
    assert joined == [(stamp - pts[0]) * time_base for stamp in pts]
    assert zeros == [(stamp - pts[0]) * time_base for stamp in starts]


def test_segments_can_be_joined(tmp_path: Path) -> None:
    record(tmp_path, results(range(130)))
    names = tmp_path / "list.txt"
    names.write_text("".join(f"file '{path.name}'\n" for path in files(tmp_path)))
    with av.open(str(names), format="concat") as container:
        stamps = [p.pts * p.time_base for p in container.demux(video=0) if p.size]
    assert stamps == pytest.approx([k / 25 for k in range(130)], abs=1e-5)


def test_numbers_go_on_after_those_of_earlier_runs(tmp_path: Path) -> None:
    foreign = ["ride.mp4", "ride.000999.mp4", "other.000777.20261125T101112Z.mp4"]
    for name in [*foreign, "ride.000041.19700101T000007Z.mp4"]:
        (tmp_path / name).write_text("precious")
    record(tmp_path, results(range(60)))
    record(tmp_path, results(range(3)))
    new = [path for path in files(tmp_path) if path.read_bytes() != b"precious"]
    assert [path.name[:12] for path in new] == ["ride.000042.", "ride.000043.", "ride.000044."]
    assert len(files(tmp_path)) == 7


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_every_segment_has_its_sound(tmp_path: Path, codec: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write_video(tmp_path / "a.mov", 130, audio=codec)
    source = VideoSource(str(tmp_path / "a.mov"), SourceOptions())
    made = []
    while (frame := source.read()) is not None:
        made.append(FrameResult(frame, Detections.empty()))
    recording = record(folder, made, source=source)
    source.close()
    assert recording.video.warnings == []
    assert len(files(folder)) == 3
    for path, seconds in zip(files(folder), [2.0, 2.0, 1.2], strict=True):
        with av.open(str(path)) as container:
            heard = [(f.time, f.samples / f.sample_rate) for f in container.decode(audio=0)]
        assert heard[0][0] == pytest.approx(0, abs=0.05)
        assert sum(length for _, length in heard) == pytest.approx(seconds, abs=0.15)


WRITER = """
import sys
from tests.pipeline.test_recorder import *
recording = Recording(Path(sys.argv[1]), seconds=1)
recording.write(results(range(260), noise=True))
wait_for_writer(recording)
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_segments_that_play(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    *whole, last = files(tmp_path)
    if last.stat().st_size > 1000:  # a smaller file has just begun
        whole.append(last)
    seen = [numbers(path) for path in whole]
    assert list(chain(*seen)) == list(range(sum(map(len, seen))))
    assert len(seen) >= 9
    assert sum(map(len, seen)) >= 260 - 30
    assert listed(tmp_path) == list(range(260))


def test_the_oldest_files_are_deleted_over_the_limit(tmp_path: Path) -> None:
    foreign = tmp_path / "ride.notes.mp4"
    foreign.write_bytes(bytes(10**6))
    old = [
        "ride.event.000001.20200101T000000Z.car.mp4",
        "ride.000001.20200101T000001Z.mp4",
        "ride.000001.20200101T000001Z.jsonl",
        "ride.000002.19700101T000000Z.mp4",  # the clock was wrong at boot
        "ride.event.000002.20200101T000003Z.car.mp4",
    ]
    for name in old:
        (tmp_path / name).write_bytes(bytes(10**5))
    recording = Recording(tmp_path, keep=0.00025)
    recording.write(results(range(3)))
    recording.close()
    left = [name for name in old if (tmp_path / name).exists()]
    assert left == ["ride.000002.19700101T000000Z.mp4", *old[4:]]
    assert foreign.exists()
    assert len(files(tmp_path)) == 4

    Recording(tmp_path, keep=1e-9).archive.tidy()
    assert files(tmp_path) == [foreign]
    assert files(tmp_path, ".jsonl") == []


def test_a_file_being_written_is_not_deleted(tmp_path: Path) -> None:
    recording = Recording(tmp_path, keep=1e-9, seconds=1)
    made = results(range(130))
    recording.write(made[:100])
    recording.archive.tidy()
    recording.write(made[100:])
    recording.close()
    assert shown(tmp_path) == list(range(125, 130))  # every other file was deleted when complete
    assert listed(tmp_path) == list(range(125, 130))
    assert recording.video.lost == 0


def test_the_limit_holds_while_a_segment_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TIDY_SECONDS", 0.0)
    old = tmp_path / "ride.000001.20200101T000001Z.mp4"
    old.write_bytes(bytes(10**5))
    recording = Recording(tmp_path, seconds=60, keep=0.0002)
    recording.write(results(range(150), noise=True))
    recording.close()
    assert not old.exists()
    (path,) = files(tmp_path)
    assert len(numbers(path)) == 150


def test_a_full_disk_deletes_only_the_oldest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, tmp_path)
    disk.room = 500_000
    recording = record(tmp_path, results(range(300), noise=True), seconds=1, keep=1.0)
    assert used(tmp_path) <= disk.room
    assert (recording.video.lost, recording.jsonl.lost) == (0, 0)
    seen = shown(tmp_path)
    assert 25 < len(seen) < 200
    assert seen == list(range(300 - len(seen), 300))
    assert listed(tmp_path) == seen


def test_a_full_disk_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(series, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(series.log, "propagate", True)
    caplog.set_level(logging.INFO, series.log.name)
    disk = Disk(monkeypatch, tmp_path)
    disk.room = 300_000
    recording = Recording(tmp_path, seconds=2)
    made = results(range(300), noise=True)
    for result in made[:200]:  # no JSONL: it would fill the disk at another time
        recording.video.write(result)
    wait_for_writer(recording)
    disk.room = None
    for result in made[200:]:
        recording.video.write(result)
    recording.close()
    seen = shown(tmp_path)
    assert seen == sorted(seen)
    assert seen[:50] == list(range(50))
    assert seen[-75:] == list(range(225, 300))
    assert sum(len(times(path)) for path in files(tmp_path)) == len(seen)  # no file is cut off
    assert recording.video.lost == 300 - len(seen) > 0
    (line,) = recording.video.warnings
    assert line.startswith(f"the recording: {recording.video.lost} frames are not in it: ")
    assert line.endswith("cannot be written: No space left on device")
    # The log has one line for each time that the disk was full, and not one for each failed file.
    levels = [record.levelno for record in caplog.records]
    assert levels[0] == logging.WARNING
    assert all(a != b for a, b in pairwise(levels))


def test_json_lines_lost_on_a_full_disk_do_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, tmp_path)
    sink = Recording(tmp_path).jsonl
    made = results(range(130))
    disk.room = 1000
    for result in made[:30]:
        sink.write(result)
    disk.room = None
    for result in made[30:]:
        sink.write(result)
    sink.close()
    seen = list(map(frames_of, files(tmp_path, ".jsonl")))
    assert seen[1:] == [list(range(50, 100)), list(range(100, 130))]  # no retry within 5 s
    assert seen[0] == list(range(len(seen[0])))
    assert sink.lost == 50 - len(seen[0]) > 20
    (line,) = sink.warnings
    assert f"{sink.lost} frames are not in it: " in line


def test_a_segment_that_cannot_be_created_does_not_end_the_run(tmp_path: Path) -> None:
    recording = record(tmp_path / "gone", results(range(60)))
    assert (recording.video.lost, recording.jsonl.lost) == (60, 60)
    assert "No such file or directory" in recording.video.warnings[0]


def test_a_hanging_disk_does_not_delay_a_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LIVE_CLOSE_SECONDS", 60.0)
    monkeypatch.setattr(writer, "MAX_BYTES", 200_000)
    disk = Disk(monkeypatch, tmp_path)
    recording = Recording(tmp_path, seconds=2, source=Pictures(live=True))
    made = results(range(300), noise=True)
    disk.goes_on.clear()
    recording.write(made[:210])
    disk.goes_on.set()
    wait_for_writer(recording)
    monkeypatch.setattr(writer, "MAX_BYTES", 10**9)
    recording.write(made[210:])
    recording.close()
    videos = [numbers(path) for path in files(tmp_path)]
    seen = list(chain(*videos))
    assert seen == sorted(seen)
    assert recording.video.lost == 300 - len(seen) > 50
    # The recording has only one gap, and a key frame follows it.
    gap = max(range(1, len(seen)), key=lambda k: seen[k] - seen[k - 1])
    assert seen[:gap] + seen[gap:] == [*range(seen[gap - 1] + 1), *range(seen[gap], 300)]
    assert seen[gap] % 25 == 0
    assert recording.video.warnings == [
        f"{recording.video.name}: {recording.video.lost} frames are not in it:"
        " the disk was too slow"
    ]


def test_a_disk_that_never_answers_does_not_keep_the_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LIVE_CLOSE_SECONDS", 0.1)
    disk = Disk(monkeypatch, tmp_path)
    disk.goes_on.clear()
    recording = record(tmp_path, results(range(60)), source=Pictures(live=True))
    assert recording.video.lost >= 58
    assert any("the disk does not answer" in line for line in recording.video.warnings)
    thread = thread_of(recording)._thread
    disk.goes_on.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_file_source_waits_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BYTES", 1000)
    recording = record(tmp_path, results(range(130), noise=True))
    assert recording.video.lost == 0
    assert shown(tmp_path) == list(range(130))


def test_a_fault_in_the_writing_thread_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Archive, "video", fail)
    recording = Recording(tmp_path)
    recording.write(results(range(1)))
    with pytest.raises(ValueError, match="a bug"):
        recording.close()


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.close()
    recording.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SinkError, match="is closed"):
        recording.video.write(results([0])[0])


def test_it_can_be_closed_twice(tmp_path: Path) -> None:
    recording = record(tmp_path, results(range(3)))
    recording.close()
    assert numbers(*files(tmp_path)) == [0, 1, 2]
