from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import packets, times, write_video


def copy(path: Path, limit: int | None = None, start: float = 0.0) -> tuple[Path, RecordingSink]:
    """Copy a clip from source to sink without drawing; return the output and the sink."""
    source = VideoSource(str(path), SourceOptions(start=start))
    out = path.with_name("out.mp4")
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    while sink.frames_written != limit and (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    return out, sink


def sound(path: Path, track: int = 0) -> tuple[np.ndarray, int, float]:
    """Decode an audio track; return its first channel, its rate and its begin in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=track))
    samples = np.concatenate([f.to_ndarray().reshape(2, -1)[0] for f in frames])
    return samples.astype(np.float64), frames[0].sample_rate, frames[0].time


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.ts", "aac"), ("a.mkv", "ac3"), ("a.mkv", "libopus"), ("a.mkv", "flac"),
     ("a.avi", "libmp3lame")],
)  # fmt: skip
def test_sound_is_copied_bit_by_bit(tmp_path: Path, name: str, codec: str) -> None:
    write_video(tmp_path / name, 60, audio=codec)
    out, sink = copy(tmp_path / name)
    assert sink.warnings == []
    before, after = packets(tmp_path / name, "audio"), packets(out, "audio")
    assert len(before) - 3 <= len(after) <= len(before)  # the video ends a little earlier
    for a, b in zip(before, after, strict=False):
        data = bytes(a)
        assert bytes(b) == (data[7:] if name == "a.ts" else data)  # without the ADTS header
    with VideoSourceInfo(tmp_path / name) as zero:
        shifts = [
            b.pts * b.time_base - (a.pts * a.time_base - zero)
            for a, b in zip(before, after, strict=False)
        ]
    assert max(map(abs, shifts)) < Fraction(1, 1000)
    assert times(out) == [Fraction(k, 25) for k in range(60)] or name != "a.mp4"


class VideoSourceInfo:
    def __init__(self, path: Path) -> None:
        self.source = VideoSource(str(path), SourceOptions())

    def __enter__(self) -> Fraction:
        return self.source.info.origin * self.source.info.time_base

    def __exit__(self, *_: object) -> None:
        self.source.close()


def test_all_audio_tracks_are_copied_with_their_languages(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 40, audio="aac", languages=["deu", "fra", "eng"])
    out, _ = copy(tmp_path / "a.mp4")
    with av.open(str(out)) as container:
        assert [s.language for s in container.streams.audio] == ["deu", "fra", "eng"]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.avi", "pcm_s16le", 48000), ("a.mov", "pcm_s16be", 44100), ("a.mkv", "pcm_s16le", 8000),
     ("a.ts", "mp2", 48000)],
)  # fmt: skip
def test_codecs_that_mp4_cannot_hold_are_encoded_as_aac(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    write_video(tmp_path / name, 50, audio=codec, audio_rate=rate)
    out, sink = copy(tmp_path / name)
    assert sink.warnings == []
    with av.open(str(out)) as container:
        (track,) = container.streams.audio
        assert (track.codec_context.name, track.rate) == ("aac", rate)
    samples, out_rate, begin = sound(out)
    assert begin == pytest.approx(0, abs=0.05)
    assert len(samples) / out_rate == pytest.approx(2.0, abs=0.2)
    middle = samples[out_rate // 2 : out_rate * 3 // 2]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440, abs=1)


def test_sound_before_the_first_picture_is_cut(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", range(10, 60), audio="aac", muxer={"movie_timescale": "12800"})
    out, _ = copy(tmp_path / "a.mp4")
    assert times(out) == [Fraction(k, 25) for k in range(10, 60)]
    assert packets(out, "audio")[0].pts == 0


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_start_and_length_also_cut_the_sound(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.mov"  # Matroska rounds to milliseconds
    write_video(path, 100, audio=codec, options={"g": "20"})
    out, _ = copy(path, start=1.5, limit=25)
    shown = times(out)
    assert (len(shown), shown[0] < Fraction(1, 25)) == (25, True)
    samples, rate, begin = sound(out)
    assert begin == pytest.approx(0, abs=0.03)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.12)

    # The tone keeps the phase that it has in the source: sound and pictures stay in step.
    heard = samples[rate // 4 : rate // 4 * 3]
    t = begin + 1.5 + np.arange(rate // 4, rate // 4 * 3) / rate
    tone = np.sin(2 * np.pi * 440 * t)
    assert np.corrcoef(heard, tone)[0, 1] > 0.95


@pytest.mark.parametrize("codec", ["aac", "mp2", "pcm_s16le"])
def test_a_track_that_begins_late(tmp_path: Path, codec: str) -> None:
    write_video(tmp_path / "a.mkv", 15, Fraction(1), rate=1, audio=codec, audio_from=11.5)
    out, sink = copy(tmp_path / "a.mkv")
    assert len(times(out)) == 15
    (warning,) = sink.warnings
    assert re.fullmatch(
        r"audio track 1 begins late, no sound from 0\.00 to 11\.[45]\d s", warning
    ), warning
    with av.open(str(out)) as container:
        heard = [
            frame.time
            for frame in container.decode(audio=0)
            if np.abs(frame.to_ndarray()).max() > 0.05
        ]
    assert heard[0] == pytest.approx(11.5, abs=0.15)
    assert heard[-1] > 14


def test_a_track_that_never_begins(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 12, Fraction(1), rate=1, audio="aac", audio_until=-1)
    out, sink = copy(tmp_path / "a.mkv")
    assert len(times(out)) == 12
    (warning,) = sink.warnings
    assert re.fullmatch(r"audio track 1 is empty, no sound from 0\.00 to 12\.00 s", warning), (
        warning
    )


def test_damaged_sound_does_not_end_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 60, audio="mp2")
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    at = 0
    for number, packet in enumerate(packets(path, "audio")[:40]):
        at = data.index(bytes(packet), at + 1)
        if number < 20:
            continue
        data[at : at + packet.size] = noise.integers(0, 256, packet.size, np.uint8).tobytes()
    path.write_bytes(data)
    out, sink = copy(path)
    assert times(out) == [Fraction(k, 25) for k in range(60)]
    (warning,) = sink.warnings
    gaps = r"audio track 1 is damaged, no sound from 0\.4\d to 0\.9\d s"
    assert re.fullmatch(gaps, warning), warning
    assert len(packets(out, "audio")) > 20


def test_a_source_that_disappears_does_not_end_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 30, audio="aac")
    source = VideoSource(str(path), SourceOptions())
    path.unlink()
    sink = RecordingSink(source, VideoConfig(), tmp_path / "out.mp4")
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    assert len(times(tmp_path / "out.mp4")) == 30
    (warning,) = sink.warnings
    assert warning == f"{path}: audio cannot be read: No such file or directory"
