"""Files with several video tracks, such as the front and the rear camera's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import read_all, write_video

# Sizes and shades of the tracks.
TRACKS = [((160, 120), 200), ((96, 64), 90), ((128, 96), 20)]


def write_tracks(path: Path, count: int) -> None:
    with av.open(str(path), "w") as output:
        streams = []
        for (width, height), _ in TRACKS[:count]:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number in range(5):
            for stream, (size, shade) in zip(streams, TRACKS, strict=False):
                image = np.full((size[1], size[0], 3), shade, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_track_that_is_asked_for_is_read(tmp_path: Path, suffix: str, index: int) -> None:
    path = tmp_path / f"a.{suffix}"
    write_tracks(path, 3)
    source = VideoSource(str(path), SourceOptions(track_index=index))
    size, shade = TRACKS[index]
    assert (source.info.width, source.info.height) == size
    assert not any("track" in line for line in source.report.warnings)
    frames = read_all(source)
    assert len(frames) == 5
    for frame in frames:
        np.testing.assert_allclose(frame.image, shade, atol=4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("count", [2, 3])
def test_one_line_says_what_else_is_there(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"a.{suffix}"
    write_tracks(path, count)
    source = VideoSource(str(path), SourceOptions())
    (line,) = [line for line in source.report.warnings if "track" in line]
    assert f"has {count} video tracks, 0: h264 160x120, 1: h264 96x64" in line
    assert "read is track 0, --track-index N" in line
    source.close()


def test_a_start_in_another_track(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.mkv", 2)
    source = VideoSource(str(tmp_path / "a.mkv"), SourceOptions(start=0.08, track_index=1))
    frames = read_all(source)
    assert [frame.frame_id for frame in frames] == [2, 3, 4]
    assert frames[0].image.shape == (64, 96, 3)


def test_nothing_is_said_of_a_track_alone(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    assert not source.report.warnings
    source.close()


def test_an_index_too_high_is_rejected_with_what_there_is(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.mp4", 2)
    with pytest.raises(SourceError, match=r"below 2, got 2; it has 0: h264 160x120, 1: h264 96x64"):
        VideoSource(str(tmp_path / "a.mp4"), SourceOptions(track_index=2))
