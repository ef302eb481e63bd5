"""Conversion of HDR videos to SDR, for the network and for viewers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.hdr import to_sdr
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.fakes import ONE_CAR
from tests.support.media import read_all

# Signals from 0 to 1 of 18 % grey and of graphics white (ITU-R BT.2408, table 1).
PQ_GREY, PQ_WHITE = 0.38, 0.58
HLG_GREY, HLG_WHITE = 0.38, 0.75
PQ, HLG = 16, 18


def grey(signal: float) -> NDArray[np.uint16]:
    return np.full((2, 2, 3), round(signal * 65535), np.uint16)


def write_hdr(path: Path, transfer: int, yuv: tuple[int, int, int], codec: str, pix: str) -> None:
    """Write 3 pictures of one colour: Y, U and V of 10 bits, BT.2020, limited range."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix
        context = stream.codec_context
        context.colorspace, context.color_range = 9, 1
        context.color_primaries, context.color_trc = 9, transfer
        for number in range(3):
            frame = av.VideoFrame(64, 64, pix)
            for plane, value in zip(frame.planes, yuv, strict=True):
                deep = pix.endswith("10le")
                row = np.full(plane.buffer_size // (1 + deep), value if deep else value >> 2)
                plane.update(row.astype(np.uint16 if deep else np.uint8).tobytes())
            frame.colorspace, frame.color_range = 9, 1
            frame.color_primaries, frame.color_trc = 9, transfer
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("transfer", "signal", "expected"),
    [
        (PQ, 0.0, (0, 0)),
        (PQ, PQ_GREY, (100, 125)),  # 26 of 203 cd/m2 is 0.43 as a BT.1886 signal
        (PQ, PQ_WHITE, (238, 248)),
        (PQ, 1.0, (255, 255)),
        (HLG, 0.0, (0, 0)),
        (HLG, HLG_GREY, (100, 125)),
        (HLG, HLG_WHITE, (238, 248)),
        (HLG, 1.0, (254, 255)),
    ],
)
def test_hdr_grey_becomes_as_bright_as_in_sdr(
    transfer: int, signal: float, expected: tuple[int, int]
) -> None:
    image = to_sdr(grey(signal), transfer, 9)
    assert image.dtype == np.uint8
    assert np.ptp(image) <= 1  # no tint
    assert expected[0] <= int(image[0, 0, 0]) <= expected[1]


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_mapping_is_monotonic(transfer: int) -> None:
    codes = np.repeat(np.arange(0, 65536, 64, dtype=np.uint16), 3).reshape(1, -1, 3)
    shown = to_sdr(codes, transfer, 9)[0, :, 0].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert np.diff(shown).max() <= 4  # no bands


def test_bt709_colours_survive_bt2020() -> None:
    """Convert a BT.709 red of 100 cd/m2, given in BT.2020 (ITU-R BT.2087) and coded in PQ."""
    nits = 100 * np.array([0.0164, 0.0691, 0.6274])  # blue, green, red
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10000) ** m1
    signal = ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    codes = np.rint(signal * 65535).astype(np.uint16).reshape(1, 1, 3)
    blue, green, red = to_sdr(codes, PQ, 9)[0, 0].astype(int)
    assert blue < 35
    assert green < 35
    assert red == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=3)
    assert to_sdr(codes, PQ, 1)[0, 0, 1] > 50  # tagged BT.709: not converted


@pytest.mark.parametrize(
    ("transfer", "name", "codec", "pix"),
    [
        (PQ, "PQ", "libx265", "yuv420p10le"),
        (HLG, "HLG", "libx265", "yuv420p10le"),
        (HLG, "HLG", "libx264", "yuv420p"),
        (PQ, "PQ", "libx264", "yuv420p10le"),
    ],
)
def test_an_hdr_video_is_written_as_plain_sdr(
    tmp_path: Path, transfer: int, name: str, codec: str, pix: str
) -> None:
    signal = PQ_WHITE if transfer == PQ else HLG_WHITE
    write_hdr(tmp_path / "a.mp4", transfer, (round(64 + 876 * signal), 512, 512), codec, pix)
    source = VideoSource(str(tmp_path / "a.mp4"), SourceOptions())
    (line,) = source.report.warnings
    assert f"is HDR ({name})" in line
    assert "plain SDR" in line
    assert (source.info.primaries, source.info.transfer) == (1, 1)
    with pytest.raises(DecoderRefused):
        source.on_device(lambda *_: pytest.fail("asked for a decoder"))
    sink = RecordingSink(source, VideoConfig(), tmp_path / "out.mp4")
    frames = read_all(source)
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        np.testing.assert_allclose(frame.image, 243, atol=6)
        sink.write(FrameResult(frame, ONE_CAR))
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as output:
        context = output.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert context.pix_fmt == "yuv420p"
