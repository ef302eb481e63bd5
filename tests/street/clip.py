"""Clips of the street: the picture as H.264, with the sound of a drive as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.street.light import rng
from tests.street.spec import StreetSpec
from tests.street.street import Street

SOUND_RATE = 48000
SOUND_BLOCK = 1024  # samples in a frame of AAC
IDLE, REVS = 31.0, 2.2  # Hz: the engine's lowest tone, and its change up and down
TONES = ((1, 0.5), (2, 1.0), (3, 0.35), (4, 0.5), (6, 0.22), (8, 0.1))  # multiples, loudness


def write_clip(
    path: Path, spec: StreetSpec, first: int = 0, *, crf: int = 23, preset: str = "ultrafast",
    sound: bool = False,
) -> None:  # fmt: skip
    """Write `spec.frames` frames of a street, from frame `first` on.

    The encoder has one thread, so the same versions of x264 and FFmpeg write the same file.
    """
    street = Street(spec)
    time_base = 1 / spec.fps
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        options = {"crf": str(crf), "preset": preset, "threads": "1"}
        picture = out.add_stream("libx264", rate=spec.fps, options=options)
        picture.width, picture.height, picture.pix_fmt = spec.width, spec.height, "yuv420p"
        picture.codec_context.time_base = picture.time_base = time_base
        track = None
        if sound:
            track = out.add_stream("aac", rate=SOUND_RATE, layout="stereo")
            track.bit_rate = 64_000
        heard = _sound(spec) if track is not None else iter(())
        for number in range(spec.frames):
            image = av.VideoFrame.from_ndarray(street.render(first + number), format="bgr24")
            image.pts, image.time_base = number, time_base
            out.mux(picture.encode(image))
            for samples in heard:
                assert track is not None
                out.mux(track.encode(samples))
                if samples.pts is not None and samples.pts * spec.fps > number * SOUND_RATE:
                    break
        out.mux(picture.encode(None))
        if track is not None:
            out.mux(track.encode(None))


def _sound(spec: StreetSpec) -> Iterator[av.AudioFrame]:
    """Yield the sound of an engine at slightly changing speed, with noise of tyres and wind."""
    count = int(spec.frames / spec.fps * SOUND_RATE)
    t = np.arange(count) / SOUND_RATE
    pitch = IDLE + REVS * np.sin(2 * np.pi * t / 5.3) + 0.6 * np.sin(2 * np.pi * t / 1.7)
    turn = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    engine = sum(loud * np.sin(k * turn + 0.7 * k) for k, loud in TONES)
    engine = engine * (1 + 0.15 * np.sin(turn / 2))
    fade = np.clip(np.minimum(t, t[-1] - t) / 0.15, 0, 1)
    sides = [fade * (0.045 * engine + 0.05 * _noise(spec.seed, side, count)) for side in (1, 2)]
    samples = (np.clip(np.stack(sides, axis=1), -1, 1) * 32767).astype(np.int16)
    for first in range(0, count, SOUND_BLOCK):
        block = np.ascontiguousarray(samples[first : first + SOUND_BLOCK]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, first, Fraction(1, SOUND_RATE)
        yield frame


def _noise(seed: int, side: int, count: int) -> NDArray[np.float64]:
    """Return noise with weak high tones and a standard deviation of 1."""
    spectrum = np.fft.rfft(rng(seed, 112, side).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / SOUND_RATE)
    noise = np.fft.irfft(spectrum / (1 + (hertz / 220) ** 1.2), count)
    return np.asarray(noise / noise.std())
