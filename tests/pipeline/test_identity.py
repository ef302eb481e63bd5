"""Metadata of a recording, copied to the files that are made from it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from squeezedrive.pipeline.core.identity import Identity
from squeezedrive.pipeline.core.moments import format_moment, parse_moment
from squeezedrive.pipeline.core.source import SourceInfo, SourceOptions
from squeezedrive.pipeline.sinks.recordings.identity import describe_output
from squeezedrive.pipeline.sources.video import VideoSource
from tests.pipeline.test_video_sink import copy
from tests.support.media import times, write_video

CREATED = "2026-11-25T10:11:12.000000Z"
PHONE = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 15",
    "com.apple.quicktime.location.ISO6709": "+48.1374+011.5755+519.000/",
    "com.apple.quicktime.creationdate": "2026-11-25T11:11:12+0100",
}
CAMERA = {"make": "Viofo", "model": "A119", "location": "+48.1374+011.5755/", "title": "To work"}


def metadata(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return container.metadata


def written(path: Path, **said: str) -> Path:
    muxer = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else None
    write_video(path, 50, metadata=said, muxer=muxer)
    return path


@pytest.mark.parametrize("said", [PHONE, CAMERA], ids=["phone", "camera"])
def test_place_time_and_camera_are_kept(tmp_path: Path, said: dict[str, str]) -> None:
    copy(written(tmp_path / "a.mp4", creation_time=CREATED, **said), tmp_path / "out.mp4")
    kept = metadata(tmp_path / "out.mp4")
    assert {key: kept.get(key) for key in said} == said
    assert kept["creation_time"] == CREATED
    assert kept["com.apple.quicktime.make"] == said.get("make", "Apple")
    assert kept["com.apple.quicktime.location.ISO6709"].startswith("+48.1374+011.5755")


def test_quicktime_metadata_gets_ffmpegs_names(tmp_path: Path) -> None:
    """Read make, model and place, which cameras write as QuickTime user data."""
    copy(written(tmp_path / "a.mov", creation_time=CREATED, **CAMERA), tmp_path / "out.mp4")
    kept = metadata(tmp_path / "out.mp4")
    assert {key: kept.get(key) for key in CAMERA} == CAMERA
    assert kept["com.apple.quicktime.model"] == "A119"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_the_creation_time_is_that_of_the_first_picture(tmp_path: Path, name: str) -> None:
    copy(written(tmp_path / name, creation_time=CREATED, **PHONE), tmp_path / "out.mp4", start=1.6)
    kept = metadata(tmp_path / "out.mp4")
    assert kept["creation_time"] == "2026-11-25T10:11:13.600000Z"
    with av.open(str(tmp_path / "out.mp4")) as output:  # MP4's own field has whole seconds
        said = output.streams.video[0].metadata["creation_time"]
    assert said == "2026-11-25T10:11:13.000000Z"
    if name == "a.mp4":  # MOV and MKV lose this tag
        assert kept["com.apple.quicktime.creationdate"] == "2026-11-25T11:11:13+0100"
    assert times(tmp_path / "out.mp4")[0] == 0


def test_the_creation_time_does_not_depend_on_where_the_clock_begins(tmp_path: Path) -> None:
    write_video(
        tmp_path / "a.mkv", range(740, 2740, 40), Fraction(1, 1000),
        metadata={"creation_time": CREATED},
    )  # fmt: skip
    source = VideoSource(str(tmp_path / "a.mkv"), SourceOptions(start=1))
    source.close()
    info = source.info
    assert info.identity.began is not None
    assert (
        format_moment(info.identity.began + info.origin * info.time_base)
        == "2026-11-25T10:11:13.000Z"
    )


def test_no_metadata_is_invented(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    copy(tmp_path / "a.mp4", tmp_path / "out.mp4")
    ours = set(metadata(tmp_path / "out.mp4"))
    assert ours <= {"major_brand", "minor_version", "compatible_brands", "encoder"}


def test_metadata_about_the_container_is_not_copied() -> None:
    info = SourceInfo("a", "file", 0, 0, None, None, Fraction(1, 10), identity=Identity({
        "major_brand": "mp42", "ENCODER": "camera", "comment": "x", "location": "+1+2/",
        "location-eng": "+1+2/", "com.apple.quicktime.creationdate": "yesterday",
        "creation_time": CREATED,
    }))  # fmt: skip
    began = parse_moment(CREATED)
    assert describe_output(info, began, 25) == {
        "comment": "x",
        "location": "+1+2/",
        "com.apple.quicktime.location.ISO6709": "+1+2/",
        "com.apple.quicktime.creationdate": "yesterday",
        "creation_time": "2026-11-25T10:11:14.500000Z",
    }
    broken = replace(info, identity=Identity({"creation_time": "when?"}))
    assert describe_output(broken, None, 0) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:01:00Z", "1970-01-01T00:01:00.000Z"),
        ("2026-11-25T10:11:12.340000+02:00", "2026-11-25T08:11:12.340Z"),
        ("2026-11-25 10:11:12", "2026-11-25T10:11:12.000Z"),
        ("1904-01-01T00:00:00Z", "1904-01-01T00:00:00.000Z"),
        ("", None),
        ("2026", None),
    ],
)
def test_timestamps_in_metadata_are_parsed(text: str, expected: str | None) -> None:
    seconds = parse_moment(text)
    assert (None if seconds is None else format_moment(seconds)) == expected
