"""Clips with known frames and timestamps, written by tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import Source

SIZE = (160, 120)
BITS = 10  # squares along the top that show the frame number
BIT_SIZE = 12  # pixels
BACKGROUND = (60, 90, 120)


@dataclass(frozen=True)
class Extra:
    """A track of text or data; each sample has its begin and duration in ms, and its data."""

    codec: str
    samples: Sequence[tuple[int, int, bytes]]


def picture(number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return frame `number`: its bits as black and white squares, and a red box that moves."""
    width, height = size
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    for bit in range(BITS):
        x = bit * BIT_SIZE
        image[:BIT_SIZE, x : x + BIT_SIZE] = 255 if number >> bit & 1 else 0
    x = number * 3 % (width - 30)
    image[60:90, x : x + 30] = (30, 30, 200)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """Return the frame number that a picture shows."""
    middle = BIT_SIZE // 2
    bits = [image[middle, bit * BIT_SIZE + middle].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


def write_video(
    path: Path,
    frames: int | Sequence[int] = 50,
    time_base: Fraction = Fraction(1, 25),
    *,
    rate: Fraction | int = 25,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    format: str | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    tags: tuple[int, int] | None = None,
    aspect: Fraction = Fraction(1),
    rotation: int = 0,
    hflip: bool = False,
    draw: Callable[[int, tuple[int, int]], NDArray[np.uint8]] = picture,
    audio: str | None = None,
    audio_rate: int = 48000,
    audio_from: float = 0.0,
    audio_until: float | None = None,
    languages: Sequence[str] = ("eng",),
    metadata: Mapping[str, str] = MappingProxyType({}),
    chapters: Sequence[tuple[int, int, str]] = (),
    extras: Sequence[Extra] = (),
) -> list[int]:
    """Write a clip and return the pts of its frames, in units of `time_base`.

    `frames` is their number, or their timestamps; `tags` is colour space and range; `audio` the
    codec of a tone on each of the tracks in `languages`, from `audio_from` to `audio_until`
    seconds, or to the end; `chapters` have begin and end in seconds, and a title.
    """
    pts = list(range(frames)) if isinstance(frames, int) else list(frames)
    with av.open(str(path), "w", format=format, container_options=muxer or {}) as output:
        output.metadata.update(metadata)
        stream = output.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        stream.codec_context.sample_aspect_ratio = aspect
        space, colour_range = tags or (2, 0)
        if tags is not None:
            stream.codec_context.colorspace = space
            stream.codec_context.color_range = colour_range
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        tracks = [] if audio is None else [_track(output, audio, audio_rate, x) for x in languages]
        end = float((pts[-1] + 1) * time_base) if pts else 0.0
        end = end if audio_until is None else audio_until
        for track in tracks:
            for frame in _tone(audio_from, end, audio_rate):
                output.mux(track.encode(frame))
            output.mux(track.encode(None))
        others = [_extra(output, extra) for extra in extras]
        seconds = Fraction(1)
        output.set_chapters([
            {"id": k, "start": a, "end": b, "time_base": seconds, "metadata": {"title": title}}
            for k, (a, b, title) in enumerate(chapters)
        ])  # fmt: skip
        for track, extra in zip(others, extras, strict=True):
            for begin, duration, data in extra.samples:
                packet = av.Packet(data)
                packet.stream, packet.time_base = track, Fraction(1, 1000)
                packet.pts = packet.dts = begin
                packet.duration = duration
                output.mux(packet)
        reformatter = VideoReformatter()
        for number, stamp in enumerate(pts):
            bgr = av.VideoFrame.from_ndarray(draw(number, size), format="bgr24")
            frame = reformatter.reformat(
                bgr, format=pix_fmt, dst_colorspace=None if space == 2 else space,
                dst_color_range=colour_range,
            )  # fmt: skip
            frame.pts, frame.time_base = stamp, time_base
            output.mux(stream.encode(frame))
        output.start_encoding()  # a clip without frames has a header too
        output.mux(stream.encode(None))
    return pts


def _extra(output: av.container.OutputContainer, extra: Extra) -> av.stream.Stream:
    if extra.codec == "bin_data":
        stream: av.stream.Stream = output.add_data_stream(extra.codec)
    else:
        stream = output.add_mux_stream(extra.codec)
    stream.time_base = Fraction(1, 1000)
    return stream


def _track(
    output: av.container.OutputContainer, codec: str, rate: int, language: str
) -> av.AudioStream:
    track = output.add_stream(codec, rate=rate, layout="stereo")
    track.metadata["language"] = language
    return track


def _tone(start: float, end: float, rate: int) -> Iterable[av.AudioFrame]:
    for first in range(round(start * rate), round(end * rate), 1024):
        t = np.arange(first, first + 1024) / rate
        wave = (np.sin(2 * np.pi * 440 * t) * 8000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="s16p", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        yield frame


def read_all(source: Source) -> list[Frame]:
    """Return all frames that a source still has, and close it."""
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def packets(path: Path, kind: str = "video", track: int = 0) -> list[av.Packet]:
    """Demux a track, without packets that an edit list hides."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[track]
        return [p for p in container.demux(stream) if p.size and not p.is_discard]


def times(path: Path, count: int | None = None) -> list[Fraction]:
    """Return the times of the frames a player shows, or of the first `count`, in seconds."""
    with av.open(str(path)) as container:
        return [f.pts * f.time_base for f in islice(container.decode(video=0), count)]


def damage(path: Path, number: int, seed: int = 0) -> None:
    """Overwrite the video packet of this number, in storage order, with noise."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    data[position : position + size] = noise.tobytes()
    path.write_bytes(data)
