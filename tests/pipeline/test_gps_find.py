"""Search for the positions of a recording, and their times on its clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezedrive.pipeline.core.errors import GpsError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.gps.find import follow_gps
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.gps import CREATED, block, camm, gpx, latitude, rmc, write_data, write_novatek
from tests.support.media import Extra, write_video
from tests.support.recordings import Pictures


def opened(path: Path, start: float = 0.0) -> VideoSource:
    source = VideoSource(str(path), SourceOptions(start=start))
    source.close()
    return source


def clip(path: Path, created: str = CREATED, **options: object) -> Path:
    metadata = {"creation_time": created} if created else {}
    write_video(path, 75, metadata=metadata, **options)  # type: ignore[arg-type]
    return path


def lat_at(source: VideoSource, seconds: float) -> float | None:
    fix = None if source.gps is None else source.gps.at(seconds)
    return None if fix is None else fix.lat


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_a_track_is_aligned_with_the_time_of_creation(tmp_path: Path) -> None:
    source = opened(clip(tmp_path / "a.mp4"))
    track = text(tmp_path / "b.gpx", gpx(range(-5, 9)))
    follow_gps(source, str(track), None)
    assert lat_at(source, 1.25) == pytest.approx(latitude(1.25))
    assert source.info.gps == str(track)
    assert source.report.warnings == []


def test_a_recording_whose_clock_does_not_begin_at_0_is_aligned(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 75, metadata={"creation_time": CREATED}, muxer={"output_ts_offset": "2"})
    source = opened(path, start=1)
    assert source.info.origin * source.info.time_base == 3
    follow_gps(source, str(text(tmp_path / "b.gpx", gpx(range(9)))), None, 1)
    assert lat_at(source, 3.5) == pytest.approx(latitude(1.5))


def test_a_track_file_beside_a_recording_is_found(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    for choice, expected in (("auto", None), ("none", None)):
        source = opened(path)
        follow_gps(source, choice, None)
        assert (source.gps, source.info.gps, source.report.warnings) == (expected, "", [])
    text(tmp_path / "a.NMEA", "\n".join(rmc(k) for k in range(4)))
    source = opened(path)
    follow_gps(source, "auto", None)
    assert lat_at(source, 2) == pytest.approx(latitude(2))
    source = opened(path)
    follow_gps(source, "none", None)
    assert source.gps is None
    text(tmp_path / "a.gpx", "broken")
    source = opened(path)
    follow_gps(source, "auto", None)
    (line,) = source.report.warnings
    assert line.startswith(f"{path}: no GPS: {tmp_path / 'a.gpx'}: expected a GPX file")


def test_positions_in_the_recording_take_precedence(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_novatek(path, [block(k, 48) for k in range(3)], metadata={"creation_time": CREATED})
    text(tmp_path / "a.gpx", gpx(range(100, 200)))
    source = opened(path)
    follow_gps(source, "auto", None)
    assert source.info.gps == str(path)
    assert lat_at(source, 1.0) == pytest.approx(latitude(1), abs=latitude(1.1) - latitude(0))


def test_data_tracks_are_read_or_the_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # hides exiftool
    write_data(tmp_path / "a.mp4", b"camm", [camm(k) for k in range(3)])
    source = opened(tmp_path / "a.mp4")
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "mapillary_tools.blackvue_parser", None)
        follow_gps(source, "auto", None)
    (line,) = source.report.warnings
    assert "pip install 'squeezedrive[gps]'" in line
    pytest.importorskip("mapillary_tools", reason="Google's GPS: pip install .[gps]")
    source = opened(tmp_path / "a.mp4")
    follow_gps(source, "auto", None)
    assert lat_at(source, 1.5) == pytest.approx(latitude(1.5))


def test_a_creation_time_in_local_time_is_recognised(tmp_path: Path) -> None:
    """Read the creation time as local: some cameras write local time and mark it as UTC."""
    path = clip(tmp_path / "a.mp4", "2026-11-25T12:11:12.000000Z")
    track = text(tmp_path / "b.gpx", gpx(range(-60, 60)))
    source = opened(path)
    follow_gps(source, str(track), None)
    assert lat_at(source, 1.5) == pytest.approx(latitude(1.5))
    (line,) = source.report.warnings
    assert "assumed to be local, UTC+2 h" in line

    source = opened(path)
    follow_gps(source, str(track), -7199)
    assert lat_at(source, 1.5) == pytest.approx(latitude(2.5))
    assert source.report.warnings == []


@pytest.mark.parametrize(
    ("seconds", "offset"),
    [(range(5000, 5100), None), (range(-9000, -1000, 5), None), (range(9), 500.0)],
    ids=["elsewhere", "two zones fit", "offset"],
)
def test_a_track_of_another_time_is_refused(
    tmp_path: Path, seconds: range, offset: float | None
) -> None:
    path = clip(tmp_path / "a.mp4")
    track = text(tmp_path / "a.gpx", gpx(seconds))
    with pytest.raises(GpsError, match=r"expected positions of .* recorded at 2026.*gps_offset"):
        follow_gps(opened(path), str(track), offset)
    source = opened(path)
    follow_gps(source, "auto", offset)
    assert source.gps is None
    assert len(source.report.warnings) == 1


def test_without_a_time_of_creation_a_track_begins_with_the_recording(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", "")
    track = text(tmp_path / "b.gpx", gpx(range(50, 60)))
    source = opened(path, start=1)
    follow_gps(source, str(track), None, 1)
    assert lat_at(source, 1.5) == pytest.approx(latitude(51.5))
    (line,) = source.report.warnings
    assert "has no time of creation" in line
    with pytest.raises(GpsError, match="does not have"):
        follow_gps(opened(path), str(track), 3.0)


def test_impossible_options_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(clip(tmp_path / "a.mp4"))
    for name, part in (("b.csv", "ends in .gpx or .nmea"), ("b.gpx", "No such file")):
        with pytest.raises(GpsError, match=part):
            follow_gps(source, str(tmp_path / name), None)
    live = Pictures(live=True)
    follow_gps(live, "auto", None)
    with pytest.raises(GpsError, match="got a live one"):
        follow_gps(live, "b.gpx", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpsError, match="exiftool"):
        follow_gps(source, "exiftool", None)


def with_texts(path: Path, texts: list[str]) -> Path:
    samples = [(k * 500, 500, len(t).to_bytes(2, "big") + t.encode()) for k, t in enumerate(texts)]
    return clip(path, extras=[Extra("mov_text", samples)])


@pytest.mark.parametrize("layout", ["{}", "[1795601472]{}\r\n", "front\n{}\n$GPGSV,1,1,00*79"])
def test_sentences_in_subtitles(tmp_path: Path, layout: str) -> None:
    path = with_texts(tmp_path / "a.mp4", ["", *[layout.format(rmc(k)) for k in range(3)]])
    source = opened(path)
    follow_gps(source, "auto", None)
    assert source.report.warnings == []
    assert source.info.gps == str(path)
    for shown, second in ((0.5, 0), (0.75, 0.5), (1.5, 2)):
        assert lat_at(source, shown) == pytest.approx(latitude(second), abs=1e-6)


def test_sentences_in_subtitles_without_a_fix(tmp_path: Path) -> None:
    lost = rmc(1, "V")
    source = opened(with_texts(tmp_path / "a.mp4", [lost, rmc(0), lost, lost, lost, lost]))
    follow_gps(source, "auto", None)
    assert [lat_at(source, seconds) is None for seconds in (0.5, 1.0, 2.0)] == [False, True, True]


@pytest.mark.parametrize(
    "text",
    ["48.13715, 11.57612", "F/2.0 GPS (11.5761, 48.1371, 519)", "N:48.13715° E:11.57612°"],
)
def test_positions_in_another_layout_are_reported(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # hides exiftool
    source = opened(with_texts(tmp_path / "a.mp4", [text] * 3))
    follow_gps(source, "auto", None)
    (line,) = source.report.warnings
    assert "no GPS: its subtitles have positions in a layout" in line
    assert source.gps is None


@pytest.mark.parametrize("text", ["hello", "3.5, 7.25", "2026-11-25 10:11:12 50 km/h"])
def test_other_subtitles_are_nothing_to_report(tmp_path: Path, text: str) -> None:
    source = opened(with_texts(tmp_path / "a.mp4", [text] * 30))
    follow_gps(source, "auto", None)
    assert source.report.warnings == []
    assert source.gps is None
