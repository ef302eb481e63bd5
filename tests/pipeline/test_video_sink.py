from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import Preset, VideoConfig
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import Source, SourceInfo, SourceOptions
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import number_of, packets, picture, read_all, times, write_video

ROOT = Path(__file__).resolve().parents[2]


class Pictures(Source):
    """A source that has only its properties; the test makes the frames."""

    def __init__(self, time_base: Fraction = Fraction(1, 25), origin: int = 0) -> None:
        self.info = SourceInfo("made", "demo", 160, 120, Fraction(25), None, time_base, origin)
        super().__init__()

    def read(self) -> Frame | None:
        return None

    def close(self) -> None:
        pass


def result(image: np.ndarray, pts: int, time_base: Fraction = Fraction(1, 25)) -> FrameResult:
    return FrameResult(Frame(0, pts, pts, time_base, 0.0, image), Detections.empty())


def copy(
    source_path: Path, path: Path, limit: int | None = None, **options: object
) -> RecordingSink:
    """Copy a clip from source to sink, without drawing on it."""
    source = VideoSource(str(source_path), SourceOptions(**options))  # type: ignore[arg-type]
    sink = RecordingSink(source, VideoConfig(), path)
    while (frame := source.read()) is not None and sink.frames_written != limit:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    assert source.report.warnings == []
    return sink


@pytest.mark.parametrize(
    ("name", "pts", "time_base", "rate"),
    [
        ("constant.mp4", range(70), Fraction(1, 25), 25),
        ("ntsc.mp4", range(0, 70 * 1001, 1001), Fraction(1, 30000), Fraction(30000, 1001)),
        ("ntsc.avi", range(70), Fraction(1001, 30000), Fraction(30000, 1001)),
        ("odd.mp4", range(0, 70 * 400, 400), Fraction(1, 11988), Fraction(2997, 100)),
        ("variable.mp4", [0, 3, 4, 9, 30, 31, 900, 1000, 4000, 4001], Fraction(1, 1000), 25),
        ("milliseconds.mkv", [0, 33, 67, 100, 133, 167, 2400, 2433], Fraction(1, 1000), 30),
        ("late.mkv", [740, 773, 807, 840], Fraction(1, 1000), 30),
        ("slow.mkv", range(0, 20_000, 5000), Fraction(1, 1000), Fraction(1, 5)),
        ("broadcast.ts", range(126000, 126000 + 70 * 3600, 3600), Fraction(1, 90000), 25),
    ],
)
def test_timestamps_are_the_sources(
    tmp_path: Path, name: str, pts: list[int], time_base: Fraction, rate: Fraction
) -> None:
    write_video(tmp_path / name, list(pts), time_base, rate=rate)  # with B-frames
    with VideoSourceFrames(tmp_path / name) as (info, frames):
        expected = [(f.pts - info.origin) * f.time_base for f in frames]
    path = tmp_path / "out.mp4"
    sink = copy(tmp_path / name, path)

    assert sink.frames_written == len(pts)
    assert times(path) == expected
    written = packets(path)
    assert [p.pts * p.time_base for p in written] == expected
    ends = [(p.pts + p.duration) * p.time_base for p in written]
    assert ends[:-1] == expected[1:]
    assert ends[-1] - expected[-1] == pytest.approx(float(1 / info.fps), rel=0.05)
    assert [number_of(f.image) for f in frames] == list(range(len(pts)))
    assert sink.warnings == []


class VideoSourceFrames:
    def __init__(self, path: Path) -> None:
        self.source = VideoSource(str(path), SourceOptions())

    def __enter__(self) -> tuple[SourceInfo, list[Frame]]:
        return self.source.info, read_all(self.source)

    def __exit__(self, *_: object) -> None:
        self.source.close()


def test_the_output_has_a_format_that_browsers_play(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 70)
    copy(tmp_path / "a.mkv", tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert data[4:8] == b"ftyp"
    assert data.count(b"moov") >= 1
    with av.open(str(tmp_path / "out.mp4")) as output:
        stream = output.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (stream.frames, stream.average_rate, output.duration) == (70, 25, 2_800_000)
        keys = [p.pts * p.time_base for p in output.demux(stream) if p.is_keyframe]
        assert keys == [0, 1, 2]  # a player can jump to every second
        output.seek(2_500_000)
        assert next(output.decode(stream)).time == 2.0


def test_key_frames_follow_time_not_number(tmp_path: Path) -> None:
    source = Pictures(Fraction(1, 10))
    source.info = replace(source.info, fps=Fraction(30))
    sink = RecordingSink(source, VideoConfig(), tmp_path / "out.mp4")
    for pts in range(0, 100, 4):
        sink.write(result(picture(pts), pts, Fraction(1, 10)))
    sink.close()
    keys = [p.pts * p.time_base for p in packets(tmp_path / "out.mp4") if p.is_keyframe]
    assert max(b - a for a, b in itertools.pairwise(keys)) <= Fraction(12, 10)


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (162, 122), (854, 481), (35, 33)])
def test_odd_sizes_are_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 255, (12, 9, 3), np.uint8), 60, 0), 100, 1)
    image = np.ascontiguousarray(image[: size[1], : size[0]])
    sink = RecordingSink(Pictures(), VideoConfig(crf=5), tmp_path / "out.mp4")
    for pts in range(3):
        sink.write(result(image, pts))
    sink.close()
    (out, *_) = read_all(VideoSource(str(tmp_path / "out.mp4"), SourceOptions()))
    width, height = size
    assert out.image.shape[:2] == (height + height % 2, width + width % 2)
    assert np.abs(out.image[:height, :width].astype(int) - image).mean() < 5
    assert np.abs(out.image[-1, -1].astype(int) - image[-1, -1]).mean() < 30


def test_a_frame_of_another_size_is_fitted_into_the_video(tmp_path: Path) -> None:
    sink = RecordingSink(Pictures(), VideoConfig(crf=5), tmp_path / "out.mp4")
    for pts, size in enumerate([(161, 120), (80, 120), (400, 100), (161, 120)]):
        sink.write(result(np.full((size[1], size[0], 3), 200, np.uint8), pts))
    sink.close()
    frames = read_all(VideoSource(str(tmp_path / "out.mp4"), SourceOptions()))
    lit = [f.image[:, :, 1] > 100 for f in frames]
    assert {f.image.shape for f in frames} == {(120, 162, 3)}
    assert [round(float(x.mean()), 1) for x in lit] == [1.0, 0.5, 0.3, 1.0]
    assert lit[1][:, 60:100].all()
    assert lit[2][50:70].all()


@pytest.mark.parametrize(
    ("tags", "size"),
    [((1, 1), (160, 120)), ((6, 1), (160, 120)), ((1, 1), (1280, 720)), ((6, 2), (1280, 720))],
)
@pytest.mark.parametrize("colour", [(30, 60, 200), (90, 180, 20), (250, 250, 250), (10, 10, 10)])
def test_colours_are_kept(
    tmp_path: Path, tags: tuple[int, int], size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    write_video(
        tmp_path / "a.mp4", 2, size=size, tags=tags, options={"crf": "1", "preset": "ultrafast"},
        draw=lambda number, size: np.full((size[1], size[0], 3), colour, np.uint8),
    )  # fmt: skip
    copy(tmp_path / "a.mp4", tmp_path / "out.mp4")
    image = read_all(VideoSource(str(tmp_path / "out.mp4"), SourceOptions()))[0].image
    np.testing.assert_allclose(image[50:70, 50:70].mean((0, 1)), colour, atol=7)
    with av.open(str(tmp_path / "out.mp4")) as output:
        context = output.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == tags
        assert (context.color_primaries, context.color_trc) == (1, 1)


def test_non_square_pixels_are_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3, aspect=Fraction(16, 11))
    copy(tmp_path / "a.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert output.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("precious")
    sink = RecordingSink(Pictures(), VideoConfig(), path)
    sink.close()
    sink.close()
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/out.mp4", "No such file or directory"), ("", "Is a directory")],
)
def test_a_file_that_cannot_be_created_is_an_error(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    sink = RecordingSink(Pictures(), VideoConfig(), path)
    with pytest.raises(SinkError) as caught:
        sink.write(result(picture(0), 0))
    assert str(caught.value) == f"{path}: cannot be written: {reason}"
    sink.close()
    with pytest.raises(SinkError, match="is closed"):
        sink.write(result(picture(1), 1))


@pytest.mark.parametrize(("preset", "tree"), [("ultrafast", 0), ("superfast", 1), ("medium", 1)])
def test_mbtree_depends_on_the_preset(tmp_path: Path, preset: Preset, tree: int) -> None:
    sink = RecordingSink(Pictures(), VideoConfig(preset=preset), tmp_path / "out.mp4")
    for pts in range(8):
        sink.write(result(picture(pts), pts))
    sink.close()
    settings = (tmp_path / "out.mp4").read_bytes()  # x264 writes them into the first picture
    assert b" mbtree=%d " % tree in settings


def test_an_unknown_preset_is_an_error(tmp_path: Path) -> None:
    sink = RecordingSink(
        Pictures(), VideoConfig.model_construct(preset="warp"), tmp_path / "out.mp4"
    )
    with pytest.raises(SinkError, match=r"out\.mp4"):
        sink.write(result(picture(0), 0))
    sink.close()


WRITER = """
import resource, sys
from tests.pipeline.test_video_sink import *

path, frames, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
noise = np.random.default_rng(0)
sink = RecordingSink(Pictures(), VideoConfig(preset="ultrafast"), path)
try:
    for pts in range(frames):
        image = picture(pts)
        image[90:] = noise.integers(0, 256, image[90:].shape, np.uint8)
        sink.write(result(image, pts))
    print("written", flush=True)
    if not limit:
        sys.stdin.read()
except SinkError as error:
    print(sink.frames_written, error)
sink.close()
"""


def start_writer(path: Path, frames: int, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(frames), str(limit)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def test_a_killed_process_leaves_all_but_the_last_second(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with start_writer(path, 250) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    seen = times(path)
    assert seen == [Fraction(k, 25) for k in range(len(seen))]
    assert len(seen) >= 250 - 25
    frames = read_all(VideoSource(str(path), SourceOptions()))
    assert [number_of(f.image) for f in frames] == list(range(len(seen)))


def test_a_full_disk_keeps_the_frames_written_before(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    limit = 1_000_000
    with start_writer(path, 1000, limit) as process:
        out, err = process.communicate(timeout=60)
    written, _, message = out.strip().partition(" ")
    assert (err, process.returncode) == ("", 0)
    assert message == f"{path}: cannot be written: File too large"
    assert path.stat().st_size <= limit
    source = VideoSource(str(path), SourceOptions())
    seen = [number_of(f.image) for f in read_all(source)]
    assert seen == list(range(len(seen)))
    assert len(seen) >= int(written) - 30 > 50
