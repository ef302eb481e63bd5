"""`--start` in files whose key frames cannot be looked up: every frame from there on is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.decoder import Decoder
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import damage, number_of, read_all, write_video

H264 = {"g": "50", "sc_threshold": "0"}  # a key frame every 2 s
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS: dict[str, dict[str, Any]] = {
    "a.ts": {"options": H264},
    "open.ts": {"options": {**H264, "x264-params": "open-gop=1"}},
    "sound.ts": {"options": H264, "audio": "aac"},
    "hevc.ts": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=50"}},
    "a.mpg": {"codec": "mpeg2video", "options": {"g": "50", "bf": "2"}},
    "a.mkv": {"options": H264, "muxer": {"live": "1"}},
    "sound.mkv": {"options": H264, "muxer": {"live": "1"}, "audio": "aac"},
    "a.flv": {"options": H264},
    "a.mp4": {"options": H264, "muxer": FRAGMENTS},
    "a.avi": {"codec": "mpeg4", "options": {"g": "50"}},
}


def open_video(path: Path, start: float) -> VideoSource:
    return VideoSource(str(path), SourceOptions(start=start))


@pytest.mark.parametrize("name", KINDS)
def test_start_is_exact(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, 160, **KINDS[name])
    source = open_video(path, 0)
    origin = source.info.origin * source.info.time_base
    frames = [(f.pts * f.time_base, number_of(f.image)) for f in read_all(source)]
    assert len(frames) == 160
    for start in (1, 3, 5):
        later = open_video(path, start)
        found = [(f.pts * f.time_base, number_of(f.image)) for f in read_all(later)]
        assert found == [frame for frame in frames if frame[0] >= origin + start]
        assert not later.report.warnings
        assert not later.report.skipped


def test_a_failing_seek_is_made_up_for_by_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 100, options=H264)
    monkeypatch.setattr(Decoder, "_seek", lambda self, pts: False)
    frames = read_all(open_video(tmp_path / "a.mp4", 3))
    assert [number_of(f.image) for f in frames] == list(range(75, 100))


@pytest.mark.parametrize(
    ("name", "muxer"), [("a.mp4", FRAGMENTS), ("a.mp4", {}), ("a.mov", FRAGMENTS)]
)
def test_no_frame_is_lost_after_damage(tmp_path: Path, name: str, muxer: dict[str, str]) -> None:
    path = tmp_path / name
    write_video(path, 100, options={"g": "1", "bf": "0"}, muxer=muxer)
    damage(path, 97)
    source = open_video(path, 0)
    good = [k for k in range(100) if k != 97]
    assert [number_of(f.image) for f in read_all(source)] == good
    assert source.report.skipped == {"corrupt": 1}


def test_a_joined_recording_counts_from_its_beginning(tmp_path: Path) -> None:
    write_video(tmp_path / "1.ts", 60, options=H264)
    write_video(tmp_path / "2.ts", range(60, 160), options=H264)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "2.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    all_frames = read_all(open_video(joined, 0))
    later = open_video(joined, 4.2)
    found = read_all(later)
    begin = all_frames[0].pts + round(4.2 * 90_000)
    assert [(f.pts, number_of(f.image)) for f in found] == [
        (f.pts, number_of(f.image)) for f in all_frames if f.pts >= begin
    ]
    assert len(found) == 55
