from __future__ import annotations

from pathlib import Path

import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import damage, number_of, read_all, write_video

EACH_ALONE = {"g": "1", "bf": "0"}  # key frames only: damage does not spread


@pytest.mark.parametrize("number", [0, 20, 58, 59])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "libx265", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_a_damaged_frame_is_left_out_and_counted(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, number: int
) -> None:
    path = tmp_path / name
    options = {**EACH_ALONE, "x265-params": "log-level=none:keyint=1:bframes=0"}
    write_video(path, 60, codec=codec, pix_fmt=pix_fmt, options=options)
    damage(path, number)
    source = VideoSource(str(path), SourceOptions())
    frames = read_all(source)
    good = [k for k in range(60) if k != number]
    assert [number_of(f.image) for f in frames] == good
    assert [f.pts * f.time_base * 25 for f in frames] == good
    assert [f.frame_id for f in frames] == good
    assert source.report.skipped == {"corrupt": 1}
    assert source.report.warnings == []


@pytest.mark.parametrize("number", [10, 57])
def test_frames_that_the_decoder_drops_silently_are_counted(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 60, codec="libx265", options={"x265-params": "log-level=none:keyint=30"})
    damage(path, number)
    source = VideoSource(str(path), SourceOptions())
    frames = read_all(source)
    assert 0 < len(frames) < 60
    assert len(frames) + source.report.skipped["corrupt"] == 60


def test_nothing_is_printed_about_damage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 30)
    damage(path, 10)
    read_all(VideoSource(str(path), SourceOptions()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    muxer = {"movflags": "faststart"} if name == "a.mp4" else {}
    write_video(path, 100, options=EACH_ALONE, muxer=muxer)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    source = VideoSource(str(path), SourceOptions())
    frames = read_all(source)
    assert 40 < len(frames) < 70
    assert [number_of(f.image) for f in frames] == list(range(len(frames)))
    assert source.report.skipped["corrupt"] <= 1
    (warning,) = source.report.warnings
    assert "the video ends early, at 2." in warning
    assert f"of 4.00 s, after frame {len(frames)} of 100" in warning


def test_a_file_without_its_index_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 50)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"a\.mp4: expected a video.*cut off before its index"):
        VideoSource(str(path), SourceOptions())


@pytest.mark.parametrize("name", ["notes.mp4", "notes.txt", "notes"])
@pytest.mark.parametrize("text", ["", "hello, world\n" * 200])
def test_a_text_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match="video") as caught:
        VideoSource(str(tmp_path / name), SourceOptions())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_with_only_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 0, audio="aac")
    with pytest.raises(SourceError, match="has no video track"):
        VideoSource(str(path), SourceOptions())


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    write_video(path, 0, codec="rawvideo")
    source = VideoSource(str(path), SourceOptions())
    assert source.read() is None
    assert source.read() is None
    source.close()
    source.close()


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.mp4"
    path.symlink_to(path)
    with pytest.raises(SourceError, match=r"loop\.mp4: .*symbolic link"):
        VideoSource(str(path), SourceOptions())


def test_a_colon_in_a_file_name_is_not_taken_for_a_protocol(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", 3)
    (tmp_path / "a.mp4").rename("data:12:30.mp4")
    assert len(read_all(VideoSource("data:12:30.mp4", SourceOptions()))) == 3
