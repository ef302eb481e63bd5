"""Parts of video files: together they have all frames of the file, each once."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.parts import PartPlan, is_entry, plan_parts
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import damage, packets, read_all, write_video

FRAMES = 160
H264 = {"g": "25", "sc_threshold": "0", "bf": "3"}  # a key frame each second
HEVC = {  # open groups: pictures shown before a key frame are stored after it
    "x265-params": "log-level=none:keyint=26:min-keyint=1:scenecut=0:b-adapt=0:bframes=3"
}
IRREGULAR = sorted(random.Random(1).sample(range(1, 640), FRAMES - 1))  # hundredths of a second
KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": H264},
    "fragments.mp4": {"options": H264, "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mov": {"options": H264},
    "a.ts": {"options": H264},
    "sound.ts": {"options": H264, "audio": "aac"},
    "late.mp4": {"options": H264, "frames": range(50, 50 + FRAMES)},
    "late.ts": {"options": H264, "frames": range(50, 50 + FRAMES), "audio": "aac"},
    "a.mkv": {"options": H264},
    "live.mkv": {"options": H264, "muxer": {"live": "1"}, "audio": "aac"},  # no index
    "varying.mkv": {"options": H264, "frames": [0, *IRREGULAR], "time_base": Fraction(1, 100)},
    "varying.mp4": {"options": H264, "frames": [0, *IRREGULAR], "time_base": Fraction(1, 100)},
    "hevc.mp4": {"codec": "libx265", "options": HEVC},
    "hevc.mkv": {"codec": "libx265", "options": HEVC},
    "hevc.ts": {"codec": "libx265", "options": HEVC},
}


def frames_of(path: Path, **options: Any) -> list[tuple[int, int, bytes]]:
    """Return number, pts and picture of each frame."""
    source = VideoSource(str(path), SourceOptions(**options))
    frames = [(f.frame_id, f.pts, f.image.tobytes()) for f in read_all(source)]
    assert not source.report.warnings
    return frames


def plan(path: Path, seconds: float = 2) -> PartPlan:
    return plan_parts(str(path), SourceOptions(), seconds)


@pytest.mark.parametrize("name", KINDS)
def test_parts_have_the_frames_of_the_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, **{"frames": FRAMES, **KINDS[name]})
    whole = frames_of(path)
    assert len(whole) == FRAMES
    parts = plan(path).parts
    assert len(parts) > 1
    assert [(part.number, part.count) for part in parts] == [
        (number, len(parts)) for number in range(1, len(parts) + 1)
    ]
    read = [frames_of(path, part=part) for part in parts]
    assert [len(frames) for frames in read] == [part.frames for part in parts]
    assert [frame for frames in read for frame in frames] == whole
    # Each part begins with a key frame.
    assert {part.begin for part in parts} <= {p.pts for p in packets(path) if p.is_keyframe}


def test_open_groups_are_really_there(tmp_path: Path) -> None:
    write_video(tmp_path / "hevc.mp4", FRAMES, **KINDS["hevc.mp4"])
    begin = plan(tmp_path / "hevc.mp4").parts[1].begin
    order = [p.pts for p in packets(tmp_path / "hevc.mp4")]
    assert min(order[order.index(begin) :]) < begin


@pytest.mark.parametrize(
    ("name", "video", "reason"),
    [
        ("short.mp4", {"frames": 40, "options": H264}, ""),
        ("rest.mp4", {"frames": 60, "options": H264}, ""),  # 0.4 s do not make a part
        ("open.mp4", {"options": {**H264, "x264-params": "open-gop=1"}}, "no key frame"),
        ("refreshed.mp4", {"options": {**H264, "x264-params": "intra-refresh=1"}}, "no key frame"),
        ("rare.mp4", {"options": {"g": "999", "sc_threshold": "0"}}, "no key frame"),
        ("raw.h264", {"options": H264}, "no timestamps"),
        ("a.avi", {"options": {**H264, "bf": "0"}, "codec": "mpeg4"}, "its codec is mpeg4"),
        ("fields.ts", {"options": {**H264, "x264-params": "interlaced=1"}}, "interlaced"),
    ],
)
def test_what_cannot_be_divided_surely_stays_whole(
    tmp_path: Path, name: str, video: dict[str, Any], reason: str
) -> None:
    write_video(tmp_path / name, **{"frames": FRAMES, **video})
    found = plan(tmp_path / name)
    assert found.parts == ()
    assert reason in found.reason
    assert bool(reason) == bool(found.reason)


def test_recordings_that_were_cut_or_joined_stay_whole(tmp_path: Path) -> None:
    write_video(tmp_path / "a.ts", FRAMES, options=H264)
    data = (tmp_path / "a.ts").read_bytes()
    second = next(p.pos for p in packets(tmp_path / "a.ts") if p.pts and not p.is_keyframe)
    tables = data[: 3 * 188]
    (tmp_path / "cut.ts").write_bytes(tables + data[second // 188 * 188 :])
    assert "does not begin with a key frame" in plan(tmp_path / "cut.ts").reason
    (tmp_path / "joined.ts").write_bytes(data + data)
    assert plan(tmp_path / "joined.ts").reason == "its clock jumps"


def test_damaged_frames_of_a_part_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 100, options={"g": "1", "bf": "0"})
    damage(path, 60)
    sources = [VideoSource(str(path), SourceOptions(part=part)) for part in plan(path, 1).parts]
    read = [[frame.frame_id for frame in read_all(source)] for source in sources]
    assert [number for numbers in read for number in numbers] == [
        number for number in range(100) if number != 60
    ]
    assert [source.report.skipped["corrupt"] for source in sources] == [0, 0, 1, 0]


def test_frames_that_a_decoder_drops_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 100, options=H264)
    first, *_ = plan(path, 1).parts
    source = VideoSource(str(path), SourceOptions(part=replace(first, frames=first.frames + 2)))
    assert len(read_all(source)) == first.frames
    assert source.report.skipped == {"corrupt": 2}


@pytest.mark.parametrize(
    ("codec", "data", "extradata", "expected"),
    [
        ("h264", "00000001 09f0 000001 6742 000001 65ff", "", True),  # IDR after its parameters
        ("h264", "00000001 09f0 000001 06aa 000001 41ff", "", False),
        ("h264", "00000002 09f0 00000002 65ff", "01000000 ff", True),
        ("h264", "0002 06f0 0002 41ff", "01000000 fd", False),
        ("hevc", "000001 4601 000001 2a01", "", True),  # CRA
        ("hevc", "000001 4601 000001 0201", "", False),
        ("h264", "", "", False),
    ],
)
def test_pictures_at_which_decoding_can_begin(
    codec: str, data: str, extradata: str, expected: bool
) -> None:
    assert is_entry(bytes.fromhex(data), codec, bytes.fromhex(extradata)) is expected


def test_a_file_that_is_moved_keeps_its_parts(tmp_path: Path) -> None:
    write_video(tmp_path / "a.ts", FRAMES, options=H264)
    shutil.copy(tmp_path / "a.ts", tmp_path / "b.ts")
    assert plan(tmp_path / "a.ts") == plan(tmp_path / "b.ts")
