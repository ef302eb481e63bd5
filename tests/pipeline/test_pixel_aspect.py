"""Videos whose pixels are not square: the network and viewers see what a player shows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.drawing import ROAD_COLOURS, Painter
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.sources.video import VideoSource
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.fakes import FakeBackend, FakeSink, FakeSlot, feed_of
from tests.support.media import read_all, write_video

WHITE, BLACK = 255, 0
# Stored size, aspect of a pixel, size as shown: AVCHD, PAL, NTSC, half of 16:9, and tall pixels.
SHAPES = [
    ((288, 216), Fraction(4, 3), (384, 216)),
    ((180, 144), Fraction(16, 15), (192, 144)),
    ((176, 120), Fraction(10, 11), (176, 132)),
    ((160, 180), Fraction(2), (320, 180)),
    ((320, 90), Fraction(1, 2), (320, 180)),
]


def square(_: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a white rectangle in the middle of a black picture, half as wide and half as high."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = WHITE
    return image


class SeeingSlot(FakeSlot):
    """A slot that detects the white area of a picture."""

    def preprocess(self, images: Sequence[Image]) -> None:
        self.images = list(images)
        self.backend.sizes += [image.shape[1::-1] for image in images]  # type: ignore[attr-defined]

    def detect(self) -> list[Detections]:
        found = []
        for image in self.images:
            x, y, width, height = cv2.boundingRect((image[..., 0] > 127).astype(np.uint8))
            box = np.array([[x, y, x + width, y + height]], np.float32)
            found.append(Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32)))
        return found


class SeeingBackend(FakeBackend):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def new_slot(self, batch: int = 1) -> FakeSlot:
        self.slots.append(SeeingSlot(self))
        return self.slots[-1]


@pytest.mark.parametrize(("size", "aspect", "shown"), SHAPES)
def test_the_network_sees_square_pixels_and_boxes_count_stored_pixels(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction, shown: tuple[int, int]
) -> None:
    write_video(tmp_path / "a.mp4", 3, size=size, aspect=aspect, draw=square)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    backend, sink = SeeingBackend(), FakeSink()
    Pipeline([feed_of(source, [sink])], backend, QueueOptions()).run()
    assert backend.sizes == [shown] * 3
    width, height = size
    for result in sink.results:
        assert result.frame.image.shape == (height, width, 3)
        expected = [width // 4, height // 4, width * 3 // 4, height * 3 // 4]
        np.testing.assert_allclose(result.detections.boxes[0], expected, atol=1.5)


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(1280, 1281), Fraction(101, 100)])
def test_nearly_square_pixels_are_not_resized(tmp_path: Path, aspect: Fraction) -> None:
    write_video(tmp_path / "a.mp4", 2, aspect=aspect)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    assert source.info.sample_aspect == aspect  # the output keeps the exact aspect
    assert [frame.aspect for frame in read_all(source)] == [1, 1]


@pytest.mark.parametrize("aspect", [Fraction(50), Fraction(1, 50)])
def test_an_impossible_pixel_shape_is_reported_and_ignored(
    tmp_path: Path, aspect: Fraction
) -> None:
    write_video(tmp_path / "a.mp4", 2, aspect=aspect)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    (line,) = source.report.warnings
    assert f"{aspect.numerator}:{aspect.denominator}" in line
    assert "taken as square" in line
    assert source.info.sample_aspect == 1
    source.close()


def test_non_square_pixels_are_decoded_by_ffmpeg(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 2, aspect=Fraction(4, 3))
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    with pytest.raises(DecoderRefused, match="its pixels are not square"):
        source.on_device(lambda *_: pytest.fail("asked for a decoder"))
    assert len(read_all(source)) == 2


@pytest.mark.parametrize(("size", "aspect", "shown"), SHAPES)
def test_the_page_shows_square_pixels(
    size: tuple[int, int], aspect: Fraction, shown: tuple[int, int]
) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    sink = PreviewSink()
    frame = Frame(0, 0, 0, Fraction(1, 25), 0.0, image, aspect)
    sink.write(FrameResult(frame, Detections.empty()))
    jpeg = sink.picture(0, timeout=1)
    assert jpeg is not None
    seen = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (shown[1], shown[0], 3)


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(2), Fraction(3, 4), Fraction(1, 2)])
def test_drawing_looks_as_on_square_pixels(aspect: Fraction) -> None:
    shown = np.full((720, 1280, 3), 117, np.uint8)
    stored = np.full((720, round(1280 / aspect), 3), 117, np.uint8)
    box = np.array([[320, 240, 960, 600]], np.float32)
    one = np.array([0.87], np.float32), np.zeros(1, np.int32)
    Painter(["car"]).draw(shown, Detections(box, *one), "25 fps")
    scale = np.array([1 / float(aspect), 1] * 2, np.float32)
    Painter(["car"], aspect=float(aspect)).draw(stored, Detections(box * scale, *one), "25 fps")
    # A player scales the stored picture: text and edges become a little softer.
    seen = cv2.resize(stored, (1280, 720), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(seen.astype(int) - shown).mean(axis=2)
    touched = (shown != 117).any(axis=2)
    assert difference.mean() < 0.3 * np.abs(shown.astype(int) - 117).mean()
    assert difference[~cv2.dilate(touched.astype(np.uint8), np.ones((9, 9))).astype(bool)].max() < 2
    # Vertical and horizontal lines are equally thick and have the colour of the class.
    colour = np.array(ROAD_COLOURS["car"])
    row = (np.abs(stored[420].astype(int) - colour).max(axis=1) < 3).sum() / 2 * float(aspect)
    column = (np.abs(stored[:, stored.shape[1] // 2].astype(int) - colour).max(axis=1) < 3).sum()
    assert row == pytest.approx(column / 2, abs=float(aspect))
    assert row > 0
