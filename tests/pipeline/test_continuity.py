"""Repair of jumps in a file's clock, for all tracks together."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.continuity import MAY_JUMP, Continuity
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.archive import Archive
from squeezedrive.pipeline.sinks.recordings.encoder import Encoder
from squeezedrive.pipeline.sinks.recordings.parts import Split
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sinks.recordings.segments import Segments
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import number_of, packets, picture, read_all, times, write_video
from tests.support.recordings import Pictures

VIDEO, SOUND = 0, 1
HOUR = 3600_000  # ms
Stamps = list[tuple[int, int]]  # pairs of track and time in ms


def steady(track: int, begin: int, end: int, step: int) -> Stamps:
    return [(track, stamp) for stamp in range(begin, end, step)]


def both(begin: int, end: int, sound: int = 0) -> Stamps:
    """Return pictures and sound every 40 ms; the sound is later by `sound` ms."""
    return [one for k in range(begin, end, 40) for one in ((VIDEO, k), (SOUND, k + sound))]


def mend(stamps: Stamps, may_jump: bool = True, begin: int = 0) -> tuple[Stamps, Continuity]:
    container: Any = SimpleNamespace(format=SimpleNamespace(flags=MAY_JUMP if may_jump else 0))
    continuity = Continuity(container, Fraction(begin, 1000), Fraction(1, 25))
    given = []
    for track, stamp in stamps:
        packet = SimpleNamespace(
            stream_index=track, pts=stamp, dts=stamp, duration=40, time_base=Fraction(1, 1000)
        )
        given.append(packet)
    found: Any = continuity.mend(given)  # type: ignore[arg-type]
    return [(p.stream_index, p.dts) for p in found], continuity


@pytest.mark.parametrize(
    ("given", "may_jump", "mended", "jumps"),
    [
        # no jump
        (both(0, 400), True, both(0, 400), []),
        # appended: the clock starts again at 0
        (both(0, 2000) + both(0, 400), True, both(0, 2400), [-2]),
        # appended: the clock jumps forward; a gap of at most 10 s is kept
        (both(0, 400) + both(8 * HOUR, 8 * HOUR + 400), True, both(0, 800), [28799.6]),
        (both(0, 400) + both(9000, 9400), True, both(0, 400) + both(9000, 9400), []),
        (both(0, 400) + both(11_000, 11_400), True, both(0, 800), [10.6]),
        # three recordings
        (both(0, 2000) + both(0, 2000) + both(0, 400), True, both(0, 4400), [-2, -2]),
        # one wrong timestamp: ahead, far ahead, back
        ([*steady(0, 0, 400, 40), (0, 5400), *steady(0, 440, 800, 40)], True,
         steady(0, 0, 800, 40), [5]),
        ([*both(0, 400), (0, 99000), (1, 400), *both(440, 800)], True, both(0, 800), [98.6]),
        ([*both(0, 400), (0, 99000), (1, 400), *both(440, 800)], False, both(0, 800), [98.6]),
        ([*both(4000, 4400), (0, 400), (1, 4400), *both(4440, 4800)], False,
         both(4000, 4800), [-4]),
        # a format without jumps keeps gaps of hours, not of days; time never goes back
        (both(0, 400) + both(HOUR, HOUR + 400), False, both(0, 400) + both(HOUR, HOUR + 400), []),
        (both(0, 400) + both(30 * HOUR, 30 * HOUR + 400), False, both(0, 800), [107999.6]),
        (both(0, 2000) + both(0, 400), False, both(0, 2400), [-2]),
        # a slow camera
        (steady(0, 0, 40_000, 5000), True, steady(0, 0, 40_000, 5000), []),
    ],
)  # fmt: skip
def test_clock_jumps_are_removed(
    given: Stamps, may_jump: bool, mended: Stamps, jumps: list[float]
) -> None:
    found, continuity = mend(given, may_jump, begin=given[0][1])
    for track in (VIDEO, SOUND):
        assert [s for t, s in found if t == track] == [s for t, s in mended if t == track]
    assert [float(seconds) for seconds in continuity.jumps] == jumps


def test_sound_and_picture_stay_in_step_over_a_jump() -> None:
    given = both(0, 2000) + steady(VIDEO, 0, 400, 40) + steady(SOUND, 2000, 2200, 40)
    given += steady(SOUND, 0, 400, 40)
    found, continuity = mend(given)
    assert len(continuity.jumps) == 1
    pictures = [stamp for track, stamp in found if track == VIDEO]
    sound = [stamp for track, stamp in found if track == SOUND]
    assert pictures[50] == sound[55] == 2000  # where the appended recording begins
    assert sound[50:55] == list(range(2000, 2200, 40))


def test_the_next_recording_begins_after_longer_sound() -> None:
    given = both(0, 2000) + steady(SOUND, 2000, 3000, 40) + both(0, 400)
    found, _ = mend(given)
    assert [stamp for track, stamp in found if track == VIDEO][50] == 3000
    assert [stamp for track, stamp in found if track == SOUND][75] == 3000


@pytest.mark.parametrize("begin", [4000, 8000, 60_000])
def test_sound_that_only_the_appended_recording_has(begin: int) -> None:
    end = begin + 4000
    # The appended recording begins with sound.
    given = [*steady(VIDEO, begin, end, 40), (SOUND, 0), *both(40, 400)]
    found, continuity = mend(given, begin=begin)
    pictures = [stamp for track, stamp in found if track == VIDEO]
    sound = [stamp for track, stamp in found if track == SOUND]
    assert sound[1:] == pictures[100:]
    assert pictures[100] - pictures[99] <= 80
    assert continuity.jumps


@pytest.mark.parametrize("late", [40, 1000, 2900])
def test_sound_that_lies_behind_its_pictures_is_no_jump(late: int) -> None:
    given = [*steady(VIDEO, 0, late, 40), *steady(SOUND, 0, 400, 40)]
    found, continuity = mend(given)
    assert found == given
    assert continuity.jumps == []


def test_sound_and_picture_may_have_separate_clocks() -> None:
    given = both(0, 1000, sound=5 * HOUR)
    found, continuity = mend(given)
    assert [stamp for track, stamp in found if track == VIDEO] == list(range(0, 1000, 40))
    sound = [stamp for track, stamp in found if track == SOUND]
    assert sound == [stamp + sound[0] for stamp in range(0, 1000, 40)]
    assert 0 <= sound[0] <= 40
    assert len(continuity.jumps) == 1


def copy(path: Path, start: float = 0.0) -> tuple[Path, VideoSource, RecordingSink]:
    source = VideoSource(str(path), SourceOptions(start=start))
    out = path.with_name("out.mp4")
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    return out, source, sink


@pytest.mark.parametrize("audio", ["aac", "mp2"])
def test_appended_recordings_keep_their_sound(tmp_path: Path, audio: str) -> None:
    write_video(tmp_path / "1.ts", 35, audio=audio)
    write_video(tmp_path / "2.ts", 40, audio=audio)
    later = tmp_path / "3.ts"
    write_video(later, 50, audio=audio, muxer={"output_ts_offset": "28800"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{k}.ts").read_bytes() for k in (1, 2, 3)))
    out, source, sink = copy(joined)
    shown = read_all(VideoSource(str(out), SourceOptions()))
    assert [number_of(f.image) for f in shown] == [*range(35), *range(40), *range(50)]
    assert sink.warnings == []
    assert source.report.jumps == 2
    first, second = source.report.warnings
    assert "joined.ts: the clock jumps" in first
    assert first.endswith("at frame 35, closed")
    assert second.endswith("at frame 75, closed")
    with av.open(str(out)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        lengths = [float(s.duration * s.time_base) for s in (video, sound)]
    assert lengths[0] == pytest.approx(5.0, abs=0.3)
    assert lengths[1] == pytest.approx(lengths[0], abs=0.3)
    steps = [b - a for a, b in zip(times(out), times(out)[1:], strict=False)]
    assert max(steps) < Fraction(1, 4)


def test_segments_of_an_appended_recording_have_their_sound(tmp_path: Path) -> None:
    for name in ("1.ts", "2.ts"):
        write_video(tmp_path / name, 50, audio="aac")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    source = VideoSource(str(joined), SourceOptions())
    archive = Archive(tmp_path / "ride.mp4")
    sink = RecordingSink(
        source, VideoConfig(preset="ultrafast"), split=Split(archive, Segments(archive, 1.0))
    )
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    segments = sorted(tmp_path.glob("ride.0*.mp4"))
    assert len(segments) >= 4
    for segment in segments[:-1]:
        stamps = [p.pts * p.time_base for p in packets(segment, "audio")]
        assert stamps[0] < Fraction(1, 20)
        assert stamps[-1] > Fraction(9, 10)
        assert max(b - a for a, b in itertools.pairwise(stamps)) < Fraction(1, 5)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("hours", [Fraction(2, 3), 3])
def test_a_gap_of_hours_is_kept_where_the_format_allows_it(
    tmp_path: Path, name: str, hours: Fraction
) -> None:
    path = tmp_path / name
    pts = [*range(0, 1000, 40), *range(int(hours * HOUR), int(hours * HOUR) + 1000, 40)]
    write_video(path, pts, Fraction(1, 1000), options={"bf": "0"})
    out, source, sink = copy(path)
    assert not source.report.warnings
    assert not sink.warnings
    assert times(out)[:25] == [Fraction(k, 1000) for k in pts[:25]]
    assert times(out)[-25:] == [Fraction(k, 1000) for k in pts[25:]]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi", "a.ts"])
@pytest.mark.parametrize("seconds", [2, 5, 9])
def test_a_slow_camera_has_no_jumps(tmp_path: Path, name: str, seconds: int) -> None:
    path = tmp_path / name
    write_video(path, 8, Fraction(seconds), rate=Fraction(1, seconds))  # with B-frames
    source = VideoSource(str(path), SourceOptions())
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == list(range(8))
    assert [(f.pts - frames[0].pts) * f.time_base for f in frames] == [
        k * seconds for k in range(8)
    ]
    assert source.report.jumps == 0


def parked(time_base: Fraction, gap: int) -> list[FrameResult]:
    """Return two runs of ten frames at 25 a second; the second begins `gap` s after the first."""
    second = round(1 / time_base)
    stamps = [k * second // 25 for k in range(10)]
    stamps += [gap * second + stamp for stamp in stamps]
    return [
        FrameResult(Frame(0, k, pts, time_base, 0.0, picture(k)), Detections.empty())
        for k, pts in enumerate(stamps)
    ]


@pytest.mark.parametrize(
    ("time_base", "hours"),
    [
        (Fraction(1, 1_000_000), Fraction(2, 3)),
        (Fraction(1, 1_000_000), Fraction(30)),
        (Fraction(1, 90_000), Fraction(8)),
        (Fraction(1, 25), Fraction(24 * 60)),
    ],
)
def test_no_gap_breaks_a_recording(tmp_path: Path, time_base: Fraction, hours: Fraction) -> None:
    gap = int(hours * 3600)
    sink = RecordingSink(
        Pictures(time_base, live=True), VideoConfig(preset="ultrafast"), tmp_path / "out.mp4"
    )
    for result in parked(time_base, gap):
        sink.write(result)
    sink.close()
    assert sink.frames_written == 20
    found = times(tmp_path / "out.mp4")
    expected = [Fraction(k, 25) for k in range(10)]
    assert found[:10] == expected
    assert found[-10:] == [gap + time for time in expected]
    frames = read_all(VideoSource(str(tmp_path / "out.mp4"), SourceOptions()))
    # The last picture before the gap is shown until the next picture.
    assert [number_of(f.image) for f in frames] == [
        *range(10), *[9] * (len(frames) - 20), *range(10, 20)
    ]  # fmt: skip


def test_no_gap_breaks_segments(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "ride.mp4")
    time_base = Fraction(1, 1_000_000)
    sink = RecordingSink(
        Pictures(time_base, live=True),
        VideoConfig(preset="ultrafast"),
        split=Split(archive, Segments(archive, 60.0)),
    )
    for result in parked(time_base, 2400):
        sink.write(result)
    sink.close()
    assert sink.lost == 0
    assert sink.warnings == []
    first, second = sorted(tmp_path.glob("ride.0*.mp4"))
    assert times(first)[:10] == times(second) == [Fraction(k, 25) for k in range(10)]


def test_repeated_pictures_are_marked() -> None:
    source = Pictures(Fraction(1, 1_000_000), live=True)
    results = parked(Fraction(1, 1_000_000), 2400)
    encoder = Encoder(source.info, results[0].frame, VideoConfig(preset="ultrafast"))
    pictures = [p for r in results for p in encoder.encode(r.frame)]
    pictures += encoder.flush()
    assert [k for k, p in enumerate(pictures) if p.repeats] == [10, 11]
    assert max(p.duration for p in pictures) < 2**31
