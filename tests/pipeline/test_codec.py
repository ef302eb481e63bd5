"""Choice of the encoder, also on machines where NVENC does not run."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest
from av.error import FFmpegError
from av.video.stream import VideoStream

from squeezedrive.engines.backends.cuda.machine import cuda_of_driver
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import Preset, VideoConfig
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings import codec
from squeezedrive.pipeline.sinks.recordings.codec import PRESETS, nvenc_options, open_encoder
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import number_of, packets, read_all, write_video

FPS = Fraction(25)
without_driver = pytest.mark.skipif(
    cuda_of_driver() is not None, reason="there is an NVIDIA driver here"
)


def describe(stream: VideoStream) -> None:
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = 320, 192, "yuv420p"
    context.time_base = Fraction(1, 25)


def opened(encoder: Any, **options: Any) -> str:
    container, stream = open_encoder(VideoConfig(encoder=encoder, **options), FPS, describe)
    container.close()
    return str(stream.codec_context.codec.name)


@without_driver
def test_an_nvenc_that_fails_is_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert opened("nvenc") == "libx264"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == "encoding on the processor: NVENC: no NVIDIA driver"


@without_driver
def test_without_a_gpu_auto_chooses_x264_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert opened("auto") == "libx264"
    assert caplog.records == []


def test_a_gpu_without_an_encoder_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Simulate a GPU without an encoder, such as an H200: prores refuses these pictures."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(codec, "cuda_of_driver", lambda: (13, 0))
    monkeypatch.setattr(codec, "NVENC", "prores")
    assert opened("auto") == "libx264"
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.message.startswith("encoding on the processor: NVENC: ")
    assert "\n" not in record.message


@pytest.mark.parametrize("encoder", ["auto", "nvenc"])
def test_nvenc_is_chosen_if_it_runs(
    encoder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(codec, "cuda_of_driver", lambda: (13, 0))
    monkeypatch.setattr(codec, "NVENC", "mpeg4")
    monkeypatch.setattr(codec, "X264", "none of the encoders")
    assert opened(encoder) == "mpeg4"
    assert caplog.records == []


def test_x264_is_chosen_on_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(codec, "cuda_of_driver", lambda: (13, 0))
    monkeypatch.setattr(codec, "NVENC", "mpeg4")
    assert opened("x264") == "libx264"
    assert caplog.records == []


@without_driver
@pytest.mark.parametrize("preset", get_args(Preset))
def test_ffmpeg_accepts_our_options_for_nvenc(preset: Preset) -> None:
    options = nvenc_options(VideoConfig(preset=preset, crf=30))
    assert options["preset"] == PRESETS[preset]
    assert (options["cq"], options["b"], options["forced-idr"]) == ("30", "0", "1")
    with pytest.raises(PermissionError):  # the options are right, the driver is missing
        codec._open(codec.NVENC, options, FPS, describe)
    with pytest.raises(ValueError, match="Invalid argument"):
        codec._open(codec.NVENC, options | {"rc": "none of these"}, FPS, describe)


@without_driver
def test_nvenc_refuses_pictures_in_gpu_memory() -> None:
    """Show why pictures are copied to the host: PyAV gives the encoder no pool of GPU frames."""

    def on_the_gpu(stream: VideoStream) -> None:
        describe(stream)
        stream.codec_context.pix_fmt = "cuda"

    with pytest.raises(ValueError, match="Invalid argument"):
        codec._open(codec.NVENC, nvenc_options(VideoConfig()), FPS, on_the_gpu)


@pytest.mark.gpu
@pytest.mark.skipif(cuda_of_driver() is None, reason="needs an NVIDIA GPU")
def test_nvenc_writes_every_frame(tmp_path: Path) -> None:
    try:
        codec._open(codec.NVENC, nvenc_options(VideoConfig()), FPS, describe)[0].close()
    except FFmpegError as error:
        pytest.skip(f"needs a GPU with NVENC: {error.strerror}")
    clip, out = tmp_path / "a.mp4", tmp_path / "out.mp4"
    write_video(clip, 60, size=(320, 192))
    source = VideoSource(str(clip), SourceOptions())
    sink = RecordingSink(source, VideoConfig(encoder="nvenc"), out)
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    written = read_all(VideoSource(str(out), SourceOptions()))
    assert [number_of(frame.image) for frame in written] == list(range(60))
    keys = [packet.pts for packet in packets(out) if packet.is_keyframe]
    assert len(keys) == 3  # one a second
