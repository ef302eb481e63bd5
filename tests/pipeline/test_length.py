"""Length of a container: that of its longest track, which may be the sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import read_all, write_video

KINDS: dict[str, dict[str, Any]] = {
    "a.mkv": {"audio": "libmp3lame"},
    "a.flv": {"audio": "libmp3lame", "audio_rate": 44100},
    "a.wmv": {"codec": "wmv2", "audio": "libmp3lame", "options": {"bf": "0"}},
    "a.mp4": {"audio": "aac"},
    "fragments.mp4": {"audio": "aac", "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "a.ts": {"audio": "aac"},
    "a.mpg": {"codec": "mpeg2video", "audio": "mp2", "options": {"bf": "0"}},
    "a.avi": {"audio": "libmp3lame"},
}


@pytest.mark.parametrize("name", KINDS)
def test_no_warning_if_the_sound_is_longer_than_the_picture(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, 35, audio_until=2.4, **KINDS[name])
    source = VideoSource(str(tmp_path / name), SourceOptions())
    assert len(read_all(source)) == 35
    assert source.report.warnings == []


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_warns_of_a_truncated_file_whose_sound_is_longer(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, 100, audio_until=4.8, **KINDS[name])
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    source = VideoSource(str(tmp_path / name), SourceOptions())
    assert 0 < len(read_all(source)) < 90
    (warning,) = source.report.warnings
    assert "the file may be cut off" in warning
