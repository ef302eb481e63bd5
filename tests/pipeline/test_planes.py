"""Pictures that keep the decoder's format on their way to the network and the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.planes import YuvPicture, yuv_of
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.drawing import Painter
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import read_all, write_video

BT601, BT709, LIMITED, FULL = 6, 1, 1, 2  # code points of the matrices and of the ranges
COLOURS = [(30, 60, 200), (90, 180, 20), (250, 250, 250), (10, 10, 10)]
KINDS = [(matrix, full) for matrix in ("bt601", "bt709") for full in (False, True)]
ROAD = ["car", "cyclist", "pedestrian"]


def noise(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a coarse random picture."""
    width, height = size
    cells = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image: NDArray[np.uint8] = cv2.resize(cells, size)  # type: ignore[assignment]
    return image


def smooth(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a random picture with less detail than that of `noise`."""
    image: NDArray[np.uint8] = cv2.resize(noise(number, (80, 64)), size)  # type: ignore[assignment]
    return image


def frames_of(path: Path) -> list[Frame]:
    return read_all(VideoSource(str(path), SourceOptions()))


def yuv(frame: Frame) -> YuvPicture:
    assert frame.yuv is not None
    return frame.yuv


def pixels(picture: YuvPicture) -> list[NDArray[np.uint8]]:
    return [plane.copy() for plane in picture.planes()]


@pytest.mark.parametrize(
    ("name", "how", "stays"),
    [
        ("a.mp4", {}, True),
        ("a.mp4", {"tags": (BT709, LIMITED)}, True),
        ("a.mp4", {"tags": (BT601, FULL)}, True),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, True),
        ("a.mkv", {"options": {"flags": "+ilme+ildct", "x264-params": "tff=1"}}, True),
        ("a.mp4", {"tags": (4, LIMITED)}, False),  # another matrix
        ("a.mp4", {"pix_fmt": "yuv422p"}, False),
        ("a.mp4", {"pix_fmt": "yuv444p"}, False),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}, False),
        ("a.nut", {"codec": "rawvideo", "pix_fmt": "nv12"}, False),
        ("a.mkv", {"codec": "ffv1", "size": (161, 120)}, False),
        ("a.mkv", {"codec": "ffv1", "size": (160, 121)}, False),
        ("a.mp4", {"rotation": 90}, False),
        ("a.mp4", {"rotation": 180}, False),
        ("a.mp4", {"hflip": True}, False),
        ("a.mp4", {"aspect": Fraction(4, 3)}, False),
    ],
)
def test_which_pixel_formats_stay_in_yuv(
    tmp_path: Path, name: str, how: dict[str, Any], stays: bool
) -> None:
    write_video(tmp_path / name, 3, **how)
    frames = frames_of(tmp_path / name)
    assert len(frames) == 3
    for frame in frames:
        assert (frame.yuv is not None) == stays
        width, height = how.get("size", (160, 120))
        sideways = how.get("rotation") == 90
        assert frame.picture.shape == ((width, height, 3) if sideways else (height, width, 3))


@pytest.mark.parametrize(("top", "bottom"), [(0, 120), (10, 50), (11, 50), (10, 51), (11, 12)])
@pytest.mark.parametrize("tags", [(BT601, LIMITED), (BT709, FULL)])
def test_rows_of_a_strip_match_the_whole_picture(
    tmp_path: Path, tags: tuple[int, int], top: int, bottom: int
) -> None:
    write_video(tmp_path / "a.mp4", 2, tags=tags, draw=noise)
    picture = yuv(frames_of(tmp_path / "a.mp4")[1])
    rows = picture.rows(top, bottom)
    np.testing.assert_array_equal(rows, picture.to_host()[top:bottom])
    assert rows.std() > 20


def test_drawing_does_not_reach_the_decoder(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 30, draw=noise, options={"g": "100", "refs": "4"})
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    kept = [pixels(yuv(frame)) for frame in frames_of(tmp_path / "a.mp4")]
    for before in kept:  # each frame is predicted from earlier ones, which were painted over
        frame = source.read()
        assert frame is not None
        for plane, expected in zip(yuv(frame).planes(), before, strict=True):
            np.testing.assert_array_equal(plane, expected)
        for plane in yuv(frame).planes_to_draw():
            plane[:] = 255
    source.close()


def test_converting_to_bgr_keeps_earlier_drawing_and_later_changes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 1)
    (frame,) = frames_of(tmp_path / "a.mp4")
    for plane, value in zip(yuv(frame).planes_to_draw(), (235, 128, 128), strict=True):
        plane[:] = value
    np.testing.assert_allclose(frame.to_bgr(), 255, atol=1)
    assert frame.yuv is not None
    np.testing.assert_allclose(frame.image, 255, atol=1)
    assert frame.yuv is None
    frame.image[:] = 7
    assert (frame.to_bgr() == 7).all()
    assert frame.image is frame.image


@pytest.mark.parametrize(("matrix", "full_range"), KINDS)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(64, 48), (64, 46), (34, 18)])
def test_bgr_to_yuv_and_back(
    matrix: Any, full_range: bool, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    image = np.full((*size[::-1], 3), colour, np.uint8)
    image[: size[1] // 4 * 2] = colour[::-1]
    back = yuv_of(image, matrix, full_range).to_host()
    np.testing.assert_allclose(back, image, atol=5)


def found(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Detections:
    corner = rng.uniform(-20, size, (count, 2))
    extent = rng.exponential(60, (count, 2)) + 2
    boxes = np.hstack([corner, corner + extent]).astype(np.float32)
    scores = np.sort(rng.uniform(0.3, 1, count))[::-1].astype(np.float32)
    return Detections(boxes, scores, rng.integers(0, 3, count).astype(np.int32))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720)])
def test_drawing_in_yuv_looks_as_in_bgr(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((*size[::-1], 3), rng.integers(40, 215, 3), np.uint8)
    picture = yuv_of(image, "bt601", False)
    boxes = found(rng, 6, size)
    Painter(ROAD).draw(picture, boxes, "25 fps  40 ms")
    Painter(ROAD).draw(image, boxes, "25 fps  40 ms")
    for drawn, expected in zip(
        picture.planes(), yuv_of(image, "bt601", False).planes(), strict=True
    ):
        assert expected.std() > 1
        np.testing.assert_allclose(drawn, expected, atol=2)  # rounded twice


@pytest.mark.parametrize(("matrix", "full_range"), KINDS)
def test_drawing_uses_the_pictures_own_colour_matrix(matrix: Any, full_range: bool) -> None:
    size = (640, 360)
    boxes = found(np.random.default_rng(3), 5, size)
    image = np.full((360, 640, 3), (120, 90, 60), np.uint8)
    picture = yuv_of(image, matrix, full_range)
    Painter(ROAD).draw(picture, boxes)
    Painter(ROAD).draw(image, boxes)
    inner = np.abs(picture.to_host().astype(int) - image)
    # Colour has half the resolution: edges differ, areas and black and white text do not.
    assert np.median(inner[np.any(image != (120, 90, 60), axis=2)]) <= 6
    assert (inner.max(axis=2) > 20).mean() < 0.02


def recorded(path: Path, frames: Sequence[Frame], source: VideoSource, crf: int = 5) -> None:
    sink = RecordingSink(source, VideoConfig(crf=crf), path)
    for frame in frames:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()


@pytest.mark.parametrize("tags", [(BT601, LIMITED), (BT601, FULL), (BT709, LIMITED), (BT709, FULL)])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_recording_may_mix_bgr_and_yuv(
    tmp_path: Path, tags: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    def flat(_: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((*size[::-1], 3), colour, np.uint8)

    write_video(tmp_path / "a.mp4", 6, tags=tags, draw=flat, options={"crf": "1"})
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    frames = read_all(source)
    for frame in frames[1::2]:
        assert frame.image.any()  # makes BGR of every second frame, as a program that draws does
    recorded(tmp_path / "out.mp4", frames, source)
    with av.open(str(tmp_path / "out.mp4")) as output:
        context = output.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == tags
        assert context.pix_fmt in ("yuv420p", "yuvj420p")
    out = frames_of(tmp_path / "out.mp4")
    assert len(out) == 6
    for frame in out:
        np.testing.assert_allclose(frame.image.mean((0, 1)), colour, atol=6)


def test_a_picture_that_changes_in_size_or_colours_is_converted(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 1, tags=(BT709, LIMITED), draw=noise, options={"crf": "1"})
    write_video(tmp_path / "b.mp4", 1, tags=(BT601, FULL), draw=noise, options={"crf": "1"})
    write_video(tmp_path / "c.mp4", 1, size=(320, 240), draw=smooth, options={"crf": "1"})
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    frames = [
        Frame(0, k, k * 512, Fraction(1, 12800), 0.0, frames_of(tmp_path / name)[0].picture)
        for k, name in enumerate(["a.mp4", "b.mp4", "c.mp4"])
    ]
    recorded(tmp_path / "out.mp4", frames, source, crf=1)
    source.close()
    out = [frame.image.astype(int) for frame in frames_of(tmp_path / "out.mp4")]
    assert np.abs(out[0] - frames[0].image).mean() < 4
    assert np.abs(out[1] - frames[1].image).mean() < 4
    assert np.abs(out[2] - cv2.resize(frames[2].image, (160, 120))).mean() < 6


def test_a_page_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 1)
    (frame,) = frames_of(tmp_path / "a.mp4")
    page = PreviewSink()
    page.write(FrameResult(frame, Detections.empty()))
    jpeg = page.picture(0, 10)
    assert jpeg is not None
    shown = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    assert frame.yuv is not None
    np.testing.assert_allclose(shown.mean((0, 1)), frame.image.mean((0, 1)), atol=4)


@pytest.mark.parametrize("tracking", [False, True])
def test_a_run_that_writes_a_video_makes_no_bgr_of_it(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch, tracking: bool
) -> None:
    """Check that no whole picture becomes BGR; only the rows that the network sees may."""
    write_video(tmp_path / "a.mp4", 12)
    with monkeypatch.context() as patch:
        patch.setattr(Frame, "image", property(lambda _: pytest.fail("BGR was asked for")))
        patch.setattr(Frame, "to_bgr", lambda _: pytest.fail("BGR was asked for"))
        more = ["--track" if tracking else "--no-track"]
        clip, out = tmp_path / "a.mp4", tmp_path / "out.mp4"
        code, _, err = run(clip, "-o", out, "--jsonl", tmp_path / "a.jsonl", *more)
    assert code == 0, err
    before, after = frames_of(tmp_path / "a.mp4"), frames_of(tmp_path / "out.mp4")
    assert len(after) == 12
    changed = np.abs(after[5].image.astype(int) - before[5].image).max(axis=2) > 60
    assert 0.01 < changed.mean() < 0.5  # the status line was drawn
