"""Files with several video tracks, such as those of a front and a rear camera."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.tracks import count_tracks
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
def test_the_requested_track_is_read(tmp_path: Path, suffix: str, index: int) -> None:
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
def test_one_message_lists_the_other_tracks(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"a.{suffix}"
    write_tracks(path, count)
    source = VideoSource(str(path), SourceOptions())
    (line,) = [line for line in source.report.warnings if "track" in line]
    assert f"has {count} video tracks, 0: h264 160x120, 1: h264 96x64" in line
    assert "read is track 0, --track-index N" in line
    source.close()


def test_start_works_in_another_track(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.mkv", 2)
    source = VideoSource(str(tmp_path / "a.mkv"), SourceOptions(start=0.08, track_index=1))
    frames = read_all(source)
    assert [frame.frame_id for frame in frames] == [2, 3, 4]
    assert frames[0].image.shape == (64, 96, 3)


def test_a_single_track_gives_no_message(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    assert not source.report.warnings
    source.close()


def test_a_track_index_too_high_is_refused_with_the_list(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.mp4", 2)
    with pytest.raises(SourceError, match=r"below 2, got 2; it has 0: h264 160x120, 1: h264 96x64"):
        VideoSource(str(tmp_path / "a.mp4"), SourceOptions(track_index=2))


def write_sound_and_tracks(path: Path, ends: tuple[float, float]) -> None:
    """Write two video tracks that end at the given seconds, and one second of sound."""
    with av.open(str(path), "w") as output:
        streams = []
        for (width, height), _ in TRACKS[:2]:
            stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        sound = output.add_stream("mp2", rate=48000, layout="mono")
        for number in range(round(max(ends) * 25)):
            for stream, end, ((width, height), shade) in zip(streams, ends, TRACKS, strict=False):
                if number < end * 25:
                    image = np.full((height, width, 3), shade, np.uint8)
                    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    output.mux(stream.encode(frame))
            if number < 25:
                wave = np.sin(np.arange(1920)[None] * 0.06 + number * 1.2) * 9000
                tone = av.AudioFrame.from_ndarray(wave.astype(np.int16), "s16", "mono")
                tone.sample_rate, tone.pts = 48000, number * 1920
                output.mux(sound.encode(tone))
        for last in (*streams, sound):
            output.mux(last.encode(None))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("ends", [(1, 2), (2, 1), (1, 1)])
def test_sound_follows_the_clock_of_the_track_that_is_read(
    tmp_path: Path, ends: tuple[float, float], index: int
) -> None:
    write_sound_and_tracks(tmp_path / "1.ts", ends)
    data = (tmp_path / "1.ts").read_bytes()
    path, out = tmp_path / "a.ts", tmp_path / "out.mp4"
    path.write_bytes(data + data)  # the copy goes on after the longest track that is read
    source = VideoSource(str(path), SourceOptions(track_index=index))
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    joint = None
    for frame in iter(source.read, None):
        sink.write(FrameResult(frame, Detections.empty()))
        if source.report.jumps and joint is None:
            joint = frame.seconds - float(source.info.origin * source.info.time_base)
    sink.close()
    source.close()
    assert joint is not None
    with av.open(str(out)) as container:
        heard = [f.time for f in container.decode(audio=0) if np.abs(f.to_ndarray()).max() > 0.05]
    begins = [b for a, b in pairwise(heard) if b - a > 0.5]
    if ends[index] == 1:
        assert begins == []  # the sound goes on without a pause
    else:
        assert begins == [pytest.approx(joint, abs=0.15)]


def test_tracks_are_counted_whatever_the_file_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_tracks(path, 2)
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"L\xe4vf"))  # Latin-1, not UTF-8
    assert count_tracks(str(path)) == 2
