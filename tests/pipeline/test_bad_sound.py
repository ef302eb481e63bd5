"""Damaged or unusual sound: no picture is lost, and a warning reports missing sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from squeezedrive.pipeline.sinks.recordings.sound import SoundGaps
from squeezedrive.pipeline.sources.video import VideoSource
from tests.support.media import packets, picture, times, write_video

PICTURES = [Fraction(k, 25) for k in range(50)]


def copy(path: Path) -> tuple[Path, list[str]]:
    """Run a clip from source to sink, without drawing on it; return the warnings of the sink."""
    source = VideoSource(str(path), SourceOptions())
    out = path.with_name("out.mp4")
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    return out, sink.warnings


def loudness(path: Path, begin: float, end: float) -> float:
    """Return the mean level of the first track between two times; the full scale is 1."""
    samples = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            if frame.time is not None and begin <= frame.time < end:
                samples.append(frame.to_ndarray().ravel())
    return float(np.abs(np.concatenate(samples)).mean()) if samples else 0.0


def tone(rate: int, layout: str, begin: float, end: float) -> Sequence[av.AudioFrame]:
    """Return the frames of a tone from `begin` to `end`, in seconds of the recording."""
    channels = av.AudioLayout(layout).nb_channels
    frames = []
    for first in range(round(begin * rate), round(end * rate) - 1023, 1024):
        wave = np.sin(2 * np.pi * 440 * np.arange(first, first + 1024) / rate) * 8000
        data = np.tile(wave.astype(np.int16)[None], (channels, 1))
        frame = av.AudioFrame.from_ndarray(data, format="s16p", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        frames.append(frame)
    return frames


def with_header(packet: av.Packet, rate: int) -> av.Packet:
    """Return a packet of stereo AAC with an ADTS header, as broadcasts have."""
    index, size = {48000: 3, 44100: 4, 32000: 5}[rate], packet.size + 7
    header = [0xFF, 0xF1, 1 << 6 | index << 2, 2 << 6 | size >> 11, size >> 3 & 255]
    made = av.Packet(bytes([*header, (size & 7) << 5 | 0x1F, 0xFC]) + bytes(packet))
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration or 0
    return made


def changing(path: Path, codec: str, shapes: Sequence[tuple[int, str]]) -> None:
    """Write two seconds of pictures, with sound that changes after the first second."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        track = output.add_stream(codec, rate=shapes[0][0], layout=shapes[0][1])
        sound = [p for frame in tone(*shapes[0], 0, 1) for p in track.encode(frame)]
        other = av.CodecContext.create(codec, "w")
        other.sample_rate, other.layout = shapes[1]
        other.format = track.codec_context.format
        other.time_base = Fraction(1, shapes[1][0])
        for frame in tone(*shapes[1], 1, 2):
            for packet in other.encode(frame):
                if codec == "aac":  # the muxer would write the rate of the first half
                    packet = with_header(packet, shapes[1][0])
                packet.time_base, packet.stream = Fraction(1, shapes[1][0]), track
                sound.append(packet)
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(picture(k), format="bgr24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            while sound and (sound[0].pts or 0) * sound[0].time_base <= k / 25:
                output.mux(sound.pop(0))
            output.mux(video.encode(frame))
        output.mux(sound)
        output.mux(video.encode(None))


def overwrite(path: Path, which: slice) -> None:
    """Replace some packets of sound with noise."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    begin, places = 0, []
    for packet in packets(path, "audio"):
        begin = data.index(bytes(packet), begin) + packet.size
        places.append((begin - packet.size, packet.size))
    for at, size in places[which]:
        data[at : at + size] = noise.integers(0, 128, size, np.uint8).tobytes()
    path.write_bytes(data)


def test_warns_of_a_track_with_an_unknown_codec(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_video(path, 50, audio="aac", languages=["eng", "deu"])
    data = path.read_bytes()
    second = data.rindex(b"stsd")  # names the codec of the last audio track
    data = data[:second] + data[second:].replace(b"mp4a", b"apac").replace(b"esds", b"dapa")
    path.write_bytes(data)
    out, warnings = copy(path)
    assert times(out) == PICTURES
    assert loudness(out, 0, 2) > 0.05
    assert warnings == ["audio track 2 has a codec that FFmpeg does not know, left out"]


@pytest.mark.parametrize("name", ["a.avi", "a.mov"])
def test_any_unknown_codec_leaves_the_picture_intact(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, 50, audio="pcm_s16le")
    tag = {"a.avi": b"\1\0\2\0\x80\xbb\0\0", "a.mov": b"sowt"}[name]
    data = path.read_bytes()
    assert tag in data
    path.write_bytes(
        data.replace(tag, b"\x77\x77" + tag[2:] if name == "a.avi" else b"x" * len(tag))
    )
    out, warnings = copy(path)
    assert times(out) == PICTURES
    assert len(packets(out)) == 50
    assert [re.sub(r"\d", "N", w) for w in warnings] == [
        "audio track N has a codec that FFmpeg does not know, left out"
    ]


@pytest.mark.parametrize(
    ("name", "codec", "shapes"),
    [
        ("a.mkv", "mp2", [(48000, "stereo"), (32000, "stereo")]),
        ("a.ts", "mp2", [(44100, "mono"), (48000, "mono")]),
        ("a.mkv", "mp2", [(48000, "stereo"), (48000, "mono")]),
        ("a.ts", "mp2", [(48000, "mono"), (44100, "stereo")]),
    ],
)
def test_encoded_sound_continues_when_its_format_changes(
    tmp_path: Path, name: str, codec: str, shapes: list[tuple[int, str]]
) -> None:
    path = tmp_path / name
    changing(path, codec, shapes)
    out, warnings = copy(path)
    assert len(times(out)) == 50
    assert warnings == []
    for begin in (0.3, 1.3):
        assert loudness(out, begin, begin + 0.5) > 0.05


@pytest.mark.parametrize(
    ("name", "codec"), [("a.ts", "aac"), ("a.mkv", "libmp3lame"), ("a.mkv", "ac3")]
)
def test_copied_sound_ends_when_its_format_changes(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    changing(path, codec, [(48000, "stereo"), (32000, "stereo")])
    out, warnings = copy(path)
    assert len(times(out)) == 50
    (line,) = warnings
    change = "audio track 1 has another rate or other channels than before, no sound"
    found = re.fullmatch(rf"{change} from (\d\.\d\d) to (\d\.\d\d) s", line)
    assert found, line
    assert float(found[1]) == pytest.approx(1.0, abs=0.1)
    assert float(found[2]) == pytest.approx(1.9, abs=0.15)
    assert loudness(out, 0.3, 0.8) > 0.05
    assert loudness(out, 1.2, 2.0) == 0.0


@pytest.mark.parametrize("codec", ["mp2", "ac3", "aac"])
def test_sound_that_begins_in_an_appended_recording(tmp_path: Path, codec: str) -> None:
    path, first, second = (tmp_path / name for name in ("a.ts", "1.ts", "2.ts"))
    write_video(first, 100)
    write_video(second, 50, audio=codec)
    path.write_bytes(first.read_bytes() + second.read_bytes())
    out, warnings = copy(path)
    assert warnings == []
    assert len(times(out)) == 150
    assert loudness(out, 0.0, 3.8) == 0.0
    assert loudness(out, 4.2, 5.8) > 0.05
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name in ("aac", "ac3")


def test_a_gap_in_which_nothing_is_heard_is_one() -> None:
    gaps = SoundGaps("audio track 1")
    for begin, end in ((1, 2), (3, 4)):
        gaps.add(Fraction(begin), Fraction(end), "is damaged")
    gaps.end()
    gaps.add(Fraction(6), Fraction(7), "is damaged")
    assert gaps.lines == [
        "audio track 1 is damaged, no sound from 1.00 to 4.00 s, from 6.00 to 7.00 s"
    ]


def test_warns_of_a_track_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, 50, audio="mp2")
    overwrite(path, slice(None))
    out, warnings = copy(path)
    assert times(out) == PICTURES
    (line,) = warnings
    assert re.fullmatch(r"audio track 1 is damaged, no sound from 0\.00 to [12]\.\d\d s", line), (
        line
    )


def test_an_empty_audio_track_does_not_keep_pictures_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, 25, Fraction(1), rate=1, audio="mp2")
    overwrite(path, slice(None))
    source = VideoSource(str(path), SourceOptions())
    out = path.with_name("out.mp4")
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    for _ in range(20):
        frame = source.read()
        assert frame is not None
        sink.write(FrameResult(frame, Detections.empty()))
    assert len(times(out)) > 10  # readable even if the process is killed now
    sink.close()
    source.close()


def test_an_unknown_channel_layout_leaves_the_picture_intact(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 50, audio="pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"\x9f\x81\x02")  # the number of channels
    data[at + 2] = 3
    path.write_bytes(data)
    out, warnings = copy(path)
    assert times(out) == PICTURES
    assert warnings == [] or "no sound from 0.00" in warnings[0]


def test_many_gaps_give_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 15, Fraction(1), rate=1, audio="mp2")
    overwrite(path, slice(50, None, 100))
    out, warnings = copy(path)
    assert len(times(out)) == 15
    (line,) = warnings
    assert re.fullmatch(
        r"audio track 1 is damaged, no sound from 1\.\d\d to 1\.\d\d s, from 3\.\d\d to 3\.\d\d s,"
        r" from [56]\.\d\d to 6\.\d\d s and 3 more times up to 13\.\d\d s",
        line,
    ), line
