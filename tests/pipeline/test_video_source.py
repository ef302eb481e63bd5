from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions, SourceReport
from squeezedrive.pipeline.sources.timestamps import Timestamps
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import number_of, picture, read_all, write_video

BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2


def open_video(path: Path, **options: object) -> VideoSource:
    return VideoSource(str(path), SourceOptions(**options))  # type: ignore[arg-type]


def flat(colour: tuple[int, int, int]) -> object:
    return lambda number, size: np.full((size[1], size[0], 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("name", "pts", "time_base", "rate"),
    [
        ("constant.mp4", range(40), Fraction(1, 25), 25),
        ("ntsc.mp4", range(0, 40 * 1001, 1001), Fraction(1, 30000), Fraction(30000, 1001)),
        ("ntsc.avi", range(40), Fraction(1001, 30000), Fraction(30000, 1001)),
        ("variable.mp4", [0, 3, 4, 9, 30, 31, 90, 100, 140, 141], Fraction(1, 1000), 25),
        ("milliseconds.mkv", [0, 33, 67, 100, 133, 167, 400, 433], Fraction(1, 1000), 30),
        ("broadcast.ts", range(126000, 126000 + 40 * 3600, 3600), Fraction(1, 90000), 25),
    ],
)
def test_every_frame_comes_once_with_its_own_time(
    tmp_path: Path, name: str, pts: list[int], time_base: Fraction, rate: Fraction
) -> None:
    path = tmp_path / name
    written = write_video(path, list(pts), time_base, rate=rate)  # with B-frames
    source = open_video(path, source_id=3)
    frames = read_all(source)

    assert [number_of(f.image) for f in frames] == list(range(len(written)))
    assert [f.frame_id for f in frames] == list(range(len(written)))
    assert {f.source_id for f in frames} == {3}
    if name.endswith(".ts"):  # MPEG-TS shifts its clock
        assert [f.pts - source.info.origin for f in frames] == [p - written[0] for p in written]
    else:
        assert [f.pts * f.time_base for f in frames] == [p * time_base for p in written]
    assert [f.time_base for f in frames] == [source.info.time_base] * len(frames)
    assert (source.info.width, source.info.height) == (160, 120)
    assert (source.info.kind, source.info.path) == ("file", path)
    assert not source.report.skipped
    assert not source.report.warnings


def test_info_has_the_constant_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 40, rate=25)
    info = open_video(tmp_path / "a.mp4").info
    assert (info.fps, info.frames, info.origin, info.live) == (25, 40, 0, False)


def test_zero_is_where_the_container_starts_not_where_its_video_starts(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    write_video(path, range(10, 40), audio="aac", muxer={"movie_timescale": "12800"})
    source = open_video(path)
    assert source.info.origin == 0
    assert [f.seconds for f in read_all(source)][:2] == pytest.approx([10 / 25, 11 / 25])

    write_video(path, range(10, 40), audio="mp2", audio_from=0.2, format="mpegts")
    source = open_video(path)
    first = read_all(source)[0]
    assert (first.pts - source.info.origin) * first.time_base == pytest.approx(0.2, abs=0.02)


def test_frames_an_edit_list_hides_are_neither_shown_nor_missed(tmp_path: Path) -> None:
    path = tmp_path / "edited.mp4"
    muxer = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    write_video(path, range(-10, 40), muxer=muxer, options={"bf": "0"})
    source = open_video(path)
    assert source.info.frames == 40
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == list(range(10, 50))
    assert [f.frame_id for f in frames] == list(range(40))
    assert not source.report.warnings
    assert not source.report.skipped


def test_a_real_edit_list_is_followed(shared: Path) -> None:
    source = open_video(shared / "data" / "videos" / "tmo_seattlestreet1.mp4")
    assert source.info.frames == 1010
    frames = 0
    while source.read() is not None:
        frames += 1
    assert frames == 1010
    assert not source.report.warnings


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_pictures_are_turned_upright_once(tmp_path: Path, rotation: int, hflip: bool) -> None:
    path = tmp_path / "turned.mp4"
    write_video(path, 3, rotation=rotation, hflip=hflip, aspect=Fraction(4, 3))
    source = open_video(path)
    image = read_all(source)[1].image
    expected = np.rot90(picture(1), rotation // 90)  # counter-clockwise, as in FFmpeg
    expected = expected[:, ::-1] if hflip else expected
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4
    assert image.flags.c_contiguous
    sideways = rotation % 180 != 0
    assert (source.info.width, source.info.height) == ((120, 160) if sideways else (160, 120))
    assert source.info.sample_aspect == (Fraction(3, 4) if sideways else Fraction(4, 3))


@pytest.mark.parametrize("size", [(160, 120), (163, 121)])
def test_a_frame_owns_its_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "own.mkv"
    write_video(path, 8, size=size, codec="ffv1", pix_fmt="yuv444p")
    source = open_video(path)
    frames = []
    while (frame := source.read()) is not None:
        assert frame.image.shape == (size[1], size[0], 3)
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.writeable
        frames.append((frame, number_of(frame.image)))
        frame.image[:] = 0  # drawing on one frame must not change the next
    assert [number for _, number in frames] == list(range(8))


def test_drawing_on_a_bgr_frame_does_not_reach_the_decoder(tmp_path: Path) -> None:
    path = (
        tmp_path / "screen.flv"
    )  # Flash Screen Video decodes to BGR and changes its last frame to get the next one
    size = 192, 128  # rows without padding: rows with padding are always copied
    write_video(path, 8, size=size, codec="flashsv", pix_fmt="bgr24", options={"g": "100"})
    source = open_video(path)
    while (frame := source.read()) is not None:
        np.testing.assert_array_equal(frame.image, picture(frame.frame_id, size))
        frame.image[:] = 0


@pytest.mark.parametrize(
    ("tags", "pix_fmt", "size", "codec"),
    [
        ((BT709, LIMITED), "yuv420p", (160, 120), "libx264"),
        ((BT601, LIMITED), "yuv420p", (160, 120), "libx264"),
        ((BT601, LIMITED), "yuv420p", (1280, 720), "libx264"),
        ((BT709, FULL), "yuv420p", (160, 120), "libx264"),
        ((BT709, LIMITED), "yuv420p10le", (160, 120), "libx264"),
        ((BT601, FULL), "yuvj422p", (160, 120), "mjpeg"),
    ],
)
@pytest.mark.parametrize("colour", [(30, 60, 200), (90, 180, 20), (255, 255, 255), (10, 10, 10)])
def test_colours_follow_the_tags(
    tmp_path: Path,
    tags: tuple[int, int],
    pix_fmt: str,
    size: tuple[int, int],
    codec: str,
    colour: tuple[int, int, int],
) -> None:
    path = tmp_path / "colour.mov"
    options = {"crf": "1", "preset": "ultrafast"} if codec == "libx264" else {"qmin": "1"}
    how = {"codec": codec, "pix_fmt": pix_fmt, "tags": tags, "options": options}
    write_video(path, 2, size=size, draw=flat(colour), **how)
    image = read_all(open_video(path))[0].image
    np.testing.assert_allclose(image[50:70, 50:70].mean((0, 1)), colour, atol=6)


@pytest.mark.parametrize(("size", "matrix"), [((1280, 720), BT709), ((640, 480), BT601)])
def test_untagged_video_has_the_colours_players_give_it(
    tmp_path: Path, size: tuple[int, int], matrix: int
) -> None:
    path = tmp_path / "untagged.y4m"  # this format does not store the colour matrix

    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((size[1], size[0], 3), (30, 60, 200), np.uint8)

    write_video(path, 1, size=size, codec="rawvideo", tags=(matrix, LIMITED), draw=draw)
    image = read_all(open_video(path))[0].image
    np.testing.assert_allclose(image[100, 100], (30, 60, 200), atol=6)


@pytest.mark.parametrize(
    ("fps", "step"), [(None, Fraction(1, 30)), (Fraction(10), Fraction(1, 10))]
)
def test_without_timestamps_frames_are_counted(
    tmp_path: Path, fps: Fraction | None, step: Fraction
) -> None:
    path = tmp_path / "raw.h264"
    write_video(path, 20, Fraction(1, 30), rate=30, format="h264")
    source = open_video(path, fps=fps)
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == list(range(20))
    assert [f.pts * f.time_base for f in frames] == [k * step for k in range(20)]
    assert source.info.fps == 1 / step
    (warning,) = source.report.warnings
    assert "has no timestamps" in warning
    assert f"{1 / step} frames/s" in warning


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.h264"])
@pytest.mark.parametrize("start", [0.5, 1.0, 1.01])
def test_start_skips_frames_exactly(tmp_path: Path, name: str, start: float) -> None:
    path = tmp_path / name
    write_video(path, 60, options={"g": "12"}, format="h264" if name.endswith("h264") else None)
    source = open_video(path, start=start)
    frames = read_all(source)
    expected = [k for k in range(60) if k >= round(start * 1000) / 40]
    assert [number_of(f.image) for f in frames] == expected
    assert [f.frame_id for f in frames] == expected
    assert source.info.origin * source.info.time_base == pytest.approx(start, abs=0.04)
    if source.info.frames is not None:
        assert source.info.frames == len(expected)
    assert "early" not in " ".join(source.report.warnings)


def test_start_after_the_end_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 25)
    with pytest.raises(SourceError, match=r"start before its end at 1 s, got 7 s"):
        open_video(tmp_path / "a.mp4", start=7.0)


def test_the_frame_size_may_change(tmp_path: Path) -> None:
    path = tmp_path / "two.ts"
    write_video(tmp_path / "1.ts", 10, options={"bf": "0"})
    write_video(tmp_path / "2.ts", range(10, 20), options={"bf": "0"}, size=(200, 140))
    path.write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    source = open_video(path)
    shapes = [f.image.shape[:2] for f in read_all(source)]
    assert shapes == [(120, 160)] * 10 + [(140, 200)] * 10
    assert "frame size changes from 160x120 to 200x140 at frame 10" in source.report.warnings


@pytest.mark.parametrize(
    ("given", "mended", "warnings"),
    [
        ([0, 40, 80], [0, 40, 80], 0),
        ([5, 7, 1000], [5, 7, 1000], 0),
        ([0, 40, 40, 80], [0, 40, 41, 80], 1),
        ([0, 80, 40, 120], [0, 80, 81, 120], 1),
        ([9000, 9040, 0, 40, 80], [9000, 9040, 9080, 9120, 9160], 1),
        ([None, None, 100], [0, 40, 100], 1),
        ([0, None, 80], [0, 40, 80], 1),
    ],
)
def test_time_never_runs_backwards(
    given: list[int | None], mended: list[int], warnings: int
) -> None:
    report = SourceReport()
    timestamps = Timestamps(step=40, second=1000, report=report)
    assert [timestamps.mend(pts, k) for k, pts in enumerate(given)] == mended
    assert len(report.warnings) == warnings


def test_decoded_frames_are_freed_without_the_garbage_collector(drive: Path) -> None:
    source = VideoSource(str(drive), SourceOptions())
    gc.collect()
    gc.disable()
    try:
        for _ in range(40):
            assert source.read() is not None
        waiting = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    finally:
        gc.enable()
        source.close()
    assert waiting < 10
