"""Video decoded on a back end's device; most tests use a stand-in decoder on the host."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.base import EngineSettings, find_options
from squeezedrive.engines.backends.cpu.backend import CpuBackend, CpuSlot
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.video_decoder import (
    Codec,
    ColourMatrix,
    DecoderRefused,
    Plane,
    ToBgr,
)
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.overlay import Overlay
from squeezedrive.pipeline.canvas import OverlayCanvas
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.planes import yuv_of
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.drawing import Painter
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.sources.video import VideoSource
from tests.kernels.test_cuda_draw import drawn
from tests.support.media import number_of, read_all, write_video

CLOSED: list[str] = []  # what was closed, in this order


class HostPicture:
    """A stand-in for a picture on the device; it counts how often it is fetched and drawn on."""

    fetched = drawn = 0

    def __init__(self, frame: av.VideoFrame, matrix: ColourMatrix, to_bgr: ToBgr) -> None:
        self.matrix = matrix
        self.shape = (frame.height, frame.width, 3)
        self._planes = frame.reformat(format="nv12").to_ndarray()
        self._to_bgr = to_bgr

    def to_host(self) -> NDArray[np.uint8]:
        HostPicture.fetched += 1
        rows = self.shape[0]
        return self._to_bgr(self._planes[:rows], self._planes[rows:])

    def to_planes(self, overlay: Overlay) -> tuple[Plane, Plane, Plane]:
        HostPicture.drawn += 1
        luma, chroma = np.split(self._planes, [self.shape[0]])
        return drawn((luma, chroma[:, 0::2], chroma[:, 1::2]), overlay)


class HostDecoder:
    """A decoder of Annex B packets that fails at packet `fail_at`."""

    opened: list[HostDecoder] = []  # noqa: RUF012
    fail_at: int | None = None

    def __init__(self, codec: Codec, matrix: ColourMatrix, to_bgr: ToBgr) -> None:
        self.arguments = (codec, matrix)
        self.closed = False
        self.packets = 0
        self._context = av.CodecContext.create(codec, "r")
        self._matrix, self._to_bgr = matrix, to_bgr
        HostDecoder.opened.append(self)

    def decode(self, data: bytes, pts: int) -> list[tuple[int, HostPicture]]:
        assert data[:3] in (b"\0\0\0", b"\0\0\1")  # Annex B
        if self.packets == self.fail_at:
            raise DecoderRefused("NVDEC: out of order")
        self.packets += 1
        packet = av.Packet(data)
        packet.pts = pts
        return self._pictures(packet)

    def flush(self) -> list[tuple[int, HostPicture]]:
        return self._pictures(None)

    def close(self) -> None:
        if not self.closed:
            CLOSED.append("decoder")
        self.closed = True

    def _pictures(self, packet: av.Packet | None) -> list[tuple[int, HostPicture]]:
        frames = self._context.decode(packet)
        return [(frame.pts, HostPicture(frame, self._matrix, self._to_bgr)) for frame in frames]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostDecoder, "opened", [])
    monkeypatch.setattr(HostDecoder, "fail_at", None)
    monkeypatch.setattr(HostPicture, "fetched", 0)
    monkeypatch.setattr(HostPicture, "drawn", 0)
    CLOSED.clear()


def open_both(path: Path, **options: Any) -> tuple[VideoSource, VideoSource]:
    """Return two sources of a video: decoded by FFmpeg, and by the device."""
    chosen = SourceOptions(**options)
    return (
        VideoSource(str(path), chosen),
        VideoSource(str(path), chosen).on_device(HostDecoder),
    )


@pytest.mark.parametrize(
    ("name", "codec", "pts", "time_base"),
    [
        ("constant.mp4", "libx264", range(40), Fraction(1, 25)),
        ("variable.mp4", "libx264", [0, 3, 4, 9, 30, 31, 90, 100, 140], Fraction(1, 1000)),
        ("h265.mkv", "libx265", range(0, 800, 40), Fraction(1, 1000)),
        ("broadcast.ts", "libx264", range(126000, 126000 + 20 * 3600, 3600), Fraction(1, 90000)),
    ],
)
def test_the_device_gives_the_same_frames_and_times_as_ffmpeg(
    tmp_path: Path, name: str, codec: str, pts: Any, time_base: Fraction
) -> None:
    path = tmp_path / name
    write_video(path, list(pts), time_base, codec=codec, options={"bf": "3"})
    expected, source = open_both(path, source_id=2)
    assert source.info == expected.info
    wanted, frames = read_all(expected), read_all(source)
    assert HostPicture.fetched == 0
    assert [dataclasses.replace(f, captured_at=0, picture=0) for f in frames] == [
        dataclasses.replace(f, captured_at=0, picture=0) for f in wanted
    ]
    for frame, other in zip(frames, wanted, strict=True):
        assert frame.picture.shape == other.image.shape
        np.testing.assert_array_equal(frame.image, other.image)
        assert frame.image is frame.image  # fetched once: drawing on it is kept
    assert HostPicture.fetched == len(frames)
    assert source.report == expected.report
    (decoder,) = HostDecoder.opened
    source.close()
    assert decoder.closed


def test_start_works_on_the_device(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 60, options={"g": "20", "bf": "3"})
    expected, source = open_both(tmp_path / "a.mp4", start=1.1)
    wanted, frames = read_all(expected), read_all(source)
    assert [f.frame_id for f in frames] == [f.frame_id for f in wanted] == list(range(28, 60))
    assert [f.pts for f in frames] == [f.pts for f in wanted]
    assert [number_of(f.image) for f in frames] == list(range(28, 60))


@pytest.mark.parametrize(
    ("tags", "height", "arguments"),
    [
        (None, 120, ("h264", "bt601")),
        (None, 720, ("h264", "bt709")),
        ((1, 1), 120, ("h264", "bt709")),
        ((6, 1), 720, ("h264", "bt601")),
    ],
)
def test_the_device_uses_the_same_colour_matrix_as_the_host(
    tmp_path: Path, tags: Any, height: int, arguments: tuple[str, str]
) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 3, size=(160, height), tags=tags)
    expected, source = open_both(path)
    assert HostDecoder.opened[0].arguments == arguments
    np.testing.assert_array_equal(read_all(source)[0].image, read_all(expected)[0].image)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"codec": "mpeg4"}, "the codec is mpeg4, not h264 or hevc"),
        ({"pix_fmt": "yuv444p"}, "the pixels are yuv444p, not yuv420p"),
        ({"tags": (1, 2)}, "the pixels are yuvj420p"),
        ({"tags": (9, 1)}, "neither BT.601 nor BT.709"),
        ({"rotation": 90}, "turned or mirrored"),
        ({"hflip": True}, "turned or mirrored"),
        ({"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}}, "interlaced"),
    ],
)
def test_unsupported_videos_are_decoded_by_ffmpeg(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    write_video(tmp_path / "a.mp4", 10, **options)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    with pytest.raises(DecoderRefused, match=reason):
        source.on_device(HostDecoder)
    assert len(read_all(source)) == 10


def test_packets_without_timestamps_are_decoded_by_ffmpeg(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 10)
    source = VideoSource(str(tmp_path / "a.avi"), SourceOptions())
    with pytest.raises(DecoderRefused, match="its packets have no timestamps"):
        source.on_device(HostDecoder)
    assert [number_of(f.image) for f in read_all(source)] == list(range(10))


def test_if_the_device_fails_at_once_ffmpeg_decodes_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostDecoder, "fail_at", 0)
    write_video(tmp_path / "a.mp4", 10)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    with pytest.raises(DecoderRefused, match=r"^NVDEC: out of order$"):
        source.on_device(HostDecoder)
    assert HostDecoder.opened[0].closed
    assert [number_of(f.image) for f in read_all(source)] == list(range(10))


def test_a_device_that_fails_later_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostDecoder, "fail_at", 20)
    write_video(tmp_path / "a.mp4", 60)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions()).on_device(HostDecoder)
    with pytest.raises(SourceError, match=r"a.mp4: NVDEC: out of order; --decode cpu"):
        read_all(source)


class DeviceSlot(CpuSlot):
    def preprocess(self, images: Any) -> None:
        assert all(isinstance(image, HostPicture) for image in images)
        super().preprocess([image.to_host() for image in images])


class DeviceBackend(CpuBackend):
    """A back end with a decoder."""

    video_decoder = HostDecoder

    def close(self) -> None:
        CLOSED.append("back end")
        super().close()

    def new_slot(self, batch: int = 1) -> CpuSlot:
        return DeviceSlot(self, self._compiled[1].create_infer_request(), 1)


@pytest.fixture
def device_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_backend(_: str, settings: EngineSettings, options: Any) -> CpuBackend:
        return DeviceBackend(settings, find_options(CpuOptions, options), "a test")

    monkeypatch.setattr("squeezedrive.pipeline.app.network.open_backend", open_backend)


@pytest.mark.usefixtures("device_backend")
@pytest.mark.parametrize("draw", [True, False])
def test_pictures_are_only_copied_to_the_host_to_be_written(
    tmp_path: Path, run: Any, draw: bool
) -> None:
    clip, out = tmp_path / "a.mp4", tmp_path / "out.mp4"
    write_video(clip, 12)
    video = ["-o", out] if draw else ["--no-video"]
    plain = ["--set", "draw.status=false"]  # the status covers the frame number
    code, _, err = run(clip, *video, *plain, "--jsonl", tmp_path / "a.jsonl")
    assert code == 0, err
    assert "a.mp4: decoding on the GPU" in err
    assert HostPicture.fetched == 12  # by `DeviceSlot`
    assert HostPicture.drawn == (12 if draw else 0)
    assert '"width":160,"height":120' in (tmp_path / "a.jsonl").read_text()
    if draw:
        drawn = read_all(VideoSource(str(out), SourceOptions()))
        assert [number_of(f.image) for f in drawn] == list(range(12))
    assert CLOSED == ["decoder", "back end"]


@pytest.mark.usefixtures("device_backend")
def test_decode_cpu_does_not_use_the_device(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DeviceBackend, "new_slot")
    write_video(tmp_path / "a.mp4", 5)
    code, _, err = run(tmp_path / "a.mp4", "--no-video", "--decode", "cpu")
    assert code == 0
    assert "decoding" not in err
    assert not HostDecoder.opened


@pytest.mark.usefixtures("device_backend")
def test_a_video_that_the_device_refuses_gives_one_message(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DeviceBackend, "new_slot")
    write_video(tmp_path / "a.mp4", 5, pix_fmt="yuv444p")
    code, _, err = run(tmp_path / "a.mp4", "--no-video")
    assert code == 0
    assert "info: " in err
    assert "a.mp4: decoding on the processor: the pixels are yuv444p, not yuv420p" in err


def test_nvdec_without_a_gpu_falls_back_with_one_message(tmp_path: Path, run: Any) -> None:
    write_video(tmp_path / "a.mp4", 5)
    code, _, err = run(tmp_path / "a.mp4", "--no-video", "--backend", "cpu", "--decode", "nvdec")
    assert code == 0
    line = "warning: {}: decoding on the processor: back end cpu takes host pictures"
    assert line.format(tmp_path / "a.mp4") in err
    _, _, err = run(tmp_path / "a.mp4", "--no-video", "--backend", "cpu")
    assert "decoding" not in err


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_nvdec_and_ffmpeg_give_the_same_frames(tmp_path: Path, codec: str) -> None:
    cuda = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    try:
        import PyNvVideoCodec  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs PyNvVideoCodec and NVIDIA's video libraries: {error}")
    from squeezedrive.engines.backends.cuda.nvdec import open_nvdec

    path = tmp_path / "a.mp4"
    write_video(path, 100, size=(320, 240), codec=codec, options={"bf": "3"})
    expected = read_all(VideoSource(str(path), SourceOptions()))
    frames = read_all(VideoSource(str(path), SourceOptions()).on_device(open_nvdec))
    assert [(f.frame_id, f.pts) for f in frames] == [(f.frame_id, f.pts) for f in expected]
    for frame, other in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)


@pytest.mark.parametrize(("size", "matrix"), [((320, 180), "bt601"), ((1280, 720), "bt709")])
def test_drawing_on_the_device_looks_as_on_the_host(size: Any, matrix: Any) -> None:
    rng = np.random.default_rng(7)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*size[::-1], 3), np.uint8), (0, 0), 9)
    on_host = yuv_of(image, matrix, False)
    on_device: Any = HostPicture(on_host.frame, matrix, lambda *_: on_host.to_host())
    frame = Frame(0, 0, 0, Fraction(1, 25), 0.0, on_device)
    corner = rng.uniform(-20, size, (8, 2))
    boxes = np.hstack([corner, corner + rng.uniform(10, 120, (8, 2))]).astype(np.float32)
    ids = np.arange(8, dtype=np.int32)
    found = Detections(boxes, np.linspace(0.9, 0.4, 8, dtype=np.float32), ids % 3)
    painter = Painter(("car", "pedestrian", "cyclist"))
    before = [plane.copy() for plane in on_host.planes()]

    assert frame.yuv is None
    canvas = OverlayCanvas(frame.on_device)  # type: ignore[arg-type]
    painter.draw_on(canvas, found, "25 fps  40 ms", ids)
    frame.fetch(canvas.overlay)
    assert frame.on_device is None
    painter.draw(on_host, found, "25 fps  40 ms", ids)
    assert frame.yuv is not None
    assert frame.yuv.matrix == matrix
    for ours, theirs, plain in zip(frame.yuv.planes(), on_host.planes(), before, strict=True):
        assert (theirs != plain).mean() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=2)
    np.testing.assert_allclose(frame.to_bgr(), on_host.to_host(), atol=8)
    seen = frame.to_bgr()
    np.testing.assert_array_equal(frame.image, seen)  # the image has the drawing


def test_the_live_page_gets_the_picture_as_drawn_on_the_device() -> None:
    picture = yuv_of(np.full((36, 64, 3), 90, np.uint8), "bt601", False)
    on_device: Any = HostPicture(picture.frame, "bt601", lambda *_: picture.to_host())
    frame = Frame(0, 0, 0, Fraction(1, 25), 0.0, on_device)
    overlay = Overlay()
    overlay.fill((0, 0, 64, 36), (200, 128, 128))
    frame.fetch(overlay)
    page = PreviewSink()
    page.write(FrameResult(frame, Detections.empty()))
    page.close()
    assert frame.yuv is not None
    assert (frame.yuv.planes()[0] == 200).all()
    assert HostPicture.fetched == 0


def test_fetching_a_host_frame_returns_the_picture_itself() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    frame = Frame(0, 0, 0, Fraction(1, 25), 0.0, image)
    assert frame.image is image
