"""Chapters, subtitles and tracks of data are in the files made from a recording."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.boxes import rename_entries, sample_entries
from squeezedrive.pipeline.core.identity import Chapter
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.identity import chapters_between
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sinks.recordings.side_track import DataTrack, SideSample, TextTrack
from squeezedrive.pipeline.sources.video import VideoSource
from tests.pipeline.test_video_sink import copy
from tests.support.media import Extra, times, write_video

MS = Fraction(1, 1000)
SPEEDS = [Extra("mov_text", [(k * 1000, 1000, b"\0\2%02d" % k) for k in range(4)])]
# Begin and duration in ms, and the data: one sample a second, as from a GoPro.
SECONDS = [(k * 1000, 1000, b"DEVC\0\0\0\0%04d" % k) for k in range(4)]
GPMD = Extra("bin_data", SECONDS)


def written(path: Path, extras: Sequence[Extra], frames: int = 100) -> Path:
    write_video(path, frames, extras=extras)
    return path


def samples(path: Path, kind: str, track: int = 0) -> list[tuple[int, int, bytes]]:
    """Return begin and duration in ms and the data of each sample that is not empty."""
    with av.open(str(path)) as container:
        streams = {"subtitle": container.streams.subtitles, "data": container.streams.data}[kind]
        stream = streams[track]
        return [
            (round(p.pts * p.time_base * 1000), round((p.duration or 0) * p.time_base * 1000),
             bytes(p))
            for p in container.demux(stream) if p.size and bytes(p) != b"\0\0"
        ]  # fmt: skip


def kinds(path: Path) -> list[bytes]:
    return [entry.kind for entry in sample_entries(path)]


def test_subtitles_and_data_are_copied(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    sink = copy(written(tmp_path / "a.mp4", [*SPEEDS, GPMD]), out)
    assert sink.warnings == []
    assert samples(out, "subtitle") == SPEEDS[0].samples
    assert samples(out, "data") == SECONDS
    assert kinds(out) == [b"avc1", b"tx3g", b"gpmd"]
    assert times(out) == [Fraction(k, 25) for k in range(100)]
    with av.open(str(out)) as container:
        assert container.duration == 4_000_000
    copy(out, tmp_path / "again.mp4")
    assert samples(tmp_path / "again.mp4", "subtitle") == SPEEDS[0].samples
    assert samples(tmp_path / "again.mp4", "data") == SECONDS


def test_start_shifts_subtitles_and_data(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    copy(written(tmp_path / "a.mp4", [*SPEEDS, GPMD]), out, start=1.4)
    begins = [(0, 600), (600, 1000), (1600, 1000)]
    assert [sample[:2] for sample in samples(out, "subtitle")] == begins
    assert [sample[2] for sample in samples(out, "data")] == [data for _, _, data in SECONDS[1:]]
    assert [sample[:2] for sample in samples(out, "data")] == begins
    assert times(out)[0] == 0


def test_subtitles_and_data_end_with_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    extras = [Extra("mov_text", [(500, 3000, b"\0\4long")]), GPMD]
    copy(written(tmp_path / "a.mp4", extras), out, limit=40)
    assert samples(out, "subtitle") == [(500, 1100, b"\0\4long")]
    assert [sample[:2] for sample in samples(out, "data")] == [(0, 1000), (1000, 600)]
    with av.open(str(out)) as container:
        assert container.duration == 1_600_000


@pytest.mark.parametrize("kind", [b"camm", b"rtmd"])
def test_data_tracks_keep_their_type(tmp_path: Path, kind: bytes) -> None:
    extra = Extra("bin_data", [(k * 100, 100, bytes([k]) * 28) for k in range(40)])
    path = written(tmp_path / "a.mp4", [extra])
    rename_entries(path, {1: kind})
    with av.open(str(path)) as container:
        assert container.streams.data[0].codec_context is None  # PyAV does not know the codec
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.warnings == []
    assert kinds(tmp_path / "out.mp4") == [b"avc1", kind]
    assert samples(tmp_path / "out.mp4", "data") == extra.samples


def test_warns_of_data_that_mp4_cannot_hold(tmp_path: Path) -> None:
    late = Extra("bin_data", [(11_000, 1000, b"late")])
    path = written(tmp_path / "a.mp4", [late, GPMD, GPMD], 300)
    entry = sample_entries(path)[3]
    data = bytearray(path.read_bytes())
    data[entry.offset + 16] = 1  # a field behind the entry's type, as in time codes
    path.write_bytes(data)
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.warnings == [
        "data track 1 (gpmd) is left out: it has nothing within 10 s",
        "data track 3 (gpmd) is left out: FFmpeg does not write such data to MP4",
    ]
    assert samples(tmp_path / "out.mp4", "data") == SECONDS


def test_other_subtitles_are_converted_to_mp4s_format(tmp_path: Path) -> None:
    extras = [
        Extra("subrip", [(500, 700, b"<i>50</i> km/h\nN 48"), (2000, 500, b"51 km/h")]),
        Extra("ass", [(1000, 500, b"0,0,Default,,0,0,0,,{\\i1}Hello{\\i0}\\Nthere")]),
    ]
    sink = copy(written(tmp_path / "a.mkv", extras), tmp_path / "out.mp4")
    assert sink.warnings == []
    assert samples(tmp_path / "out.mp4", "subtitle") == [
        (500, 700, b"\0\x0c50 km/h\nN 48"), (2000, 500, b"\0\x0751 km/h")
    ]  # fmt: skip
    assert samples(tmp_path / "out.mp4", "subtitle", 1) == [(1000, 500, b"\0\x0bHello\nthere")]
    assert len(sample_entries(tmp_path / "out.mp4")[1].data) > 40  # has the style players need


def test_warns_of_picture_subtitles(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mkv", [Extra("dvd_subtitle", [(0, 500, bytes(40))])], 10)
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.warnings == ["subtitle track 1 (dvdsub) is left out: it is no text"]


def test_late_subtitles_do_not_delay_the_picture(tmp_path: Path) -> None:
    late = Extra("mov_text", [(11_000, 500, b"\0\4late")])
    path = written(tmp_path / "a.mp4", [late], 300)
    source = VideoSource(str(path), SourceOptions())
    sink = RecordingSink(source, VideoConfig(), tmp_path / "out.mp4")
    for _ in range(100):
        frame = source.read()
        assert frame is not None
        sink.write(FrameResult(frame, Detections.empty()))
    assert len(times(tmp_path / "out.mp4")) >= 50  # the frames that would survive a crash
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    assert samples(tmp_path / "out.mp4", "subtitle") == late.samples


def test_a_subtitle_may_stay_for_minutes() -> None:
    with av.open(io.BytesIO(), "w", format="mp4") as output:
        track = TextTrack(output.add_mux_stream("mov_text"))
        first = SideSample(1, Fraction(1, 2), Fraction(100), b"\0\1a")
        packets = [
            *track.take(first),
            *track.advance(Fraction(101, 2)),
            *track.finish(Fraction(90)),
        ]
    spans = [(p.pts / 1e6, (p.pts + p.duration) / 1e6, bytes(p)) for p in packets]
    empty, text = b"\0\0", b"\0\1a"
    assert spans == [(0, 1, empty), (0.5, 60.5, text), (60.5, 100, text), (90, 90, empty)]


def test_data_whose_time_goes_back_is_kept_where_possible() -> None:
    with av.open(io.BytesIO(), "w", format="mp4") as output:
        track = DataTrack(output.add_data_stream("bin_data"))
        begins = [0, 2, 1, 3]
        packets = []
        for k in begins:
            packets += track.take(SideSample(2, Fraction(k), Fraction(k + 1), b"%d" % k))
        packets += track.finish(Fraction(7, 2))
    assert [(bytes(p), p.pts, p.duration) for p in packets] == [
        (b"0", 0, 1000), (b"2", 2000, 0), (b"3", 3000, 500)
    ]  # fmt: skip


def chapters(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]),
             c["metadata"]["title"])
            for c in container.chapters() if c["time_base"] is not None
        ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_chapters_are_copied(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, 100, chapters=[(0, 1, "Garage"), (1, 3, "Street"), (3, 4, "A 8")])
    copy(tmp_path / name, tmp_path / "all.mp4")
    assert chapters(tmp_path / "all.mp4") == [(0, 1, "Garage"), (1, 3, "Street"), (3, 4, "A 8")]
    copy(tmp_path / name, tmp_path / "part.mp4", limit=25, start=1.2)
    assert chapters(tmp_path / "part.mp4") == [(0, 1, "Street")]
    with av.open(str(tmp_path / "part.mp4")) as container:
        assert container.duration == 1_000_000
        assert len(container.streams) == 1


def test_chapters_are_cut_to_the_part() -> None:
    whole = [Chapter(Fraction(1), Fraction(2), "a"), Chapter(Fraction(2), Fraction(9), "b")]
    assert chapters_between(whole, Fraction(0), Fraction(1)) == []
    (only,) = chapters_between(whole, Fraction(5, 2), Fraction(3))
    assert (only["start"], only["end"], only["metadata"]) == (0, 3_000_000, {"title": "b"})


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\0\0\0\x01moov", b"\0\0\0\x02moov", b"\xff\xff\xff\xffmoov", b"RIFF" * 9,
     b"\0\0\0\x10moov\0\0\0\x08trak", b"\0\0\0\0moov\0\0\0\x00trak\0\0\0\x08mdia"],
)  # fmt: skip
def test_other_files_than_mp4_have_no_entries(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert all(entry.data == b"" for entry in sample_entries(tmp_path / "a"))


@pytest.mark.parametrize("codec", ["subrip", "webvtt"])
@pytest.mark.parametrize("bad", [b"Stra\xdfe", b"\xff\xfe", b"\xc3("])
def test_a_damaged_text_costs_no_other(tmp_path: Path, codec: str, bad: bytes) -> None:
    texts = Extra(codec, [(200, 300, b"one"), (800, 300, bad), (1400, 300, b"three")])
    sink = copy(written(tmp_path / "a.mkv", [texts]), tmp_path / "out.mp4")
    assert sink.warnings == ["subtitle track 1: texts left out, as they are damaged: 1"]
    assert samples(tmp_path / "out.mp4", "subtitle") == [
        (200, 300, b"\0\3one"), (1400, 300, b"\0\5three")
    ]  # fmt: skip
