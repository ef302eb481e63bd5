"""Read rate, zero and end of a video from its container."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av

from squeezedrive.pipeline.core.source import DEFAULT_FPS, SourceOptions
from squeezedrive.pipeline.sources.decoder import Decoder

NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
ARRIVAL = Fraction(1, 1_000_000)  # time base of live frames without timestamps


@dataclass(frozen=True)
class Clock:
    """The time of a video.

    Attributes
    ----------
    live : bool
        Whether it is a stream without an end of its own.
    untimed : bool
        Whether its frames have no timestamps.
    fps : Fraction or None
        Nominal frame rate, if there is one.
    time_base : Fraction
        Seconds per unit of pts.
    zero : int
        The pts that is 0:00, where the container begins, in `time_base` units.
    end : Fraction or None
        When it ends, in seconds after zero; None where the container does not say.
    frames : int or None
        How many frames it has by its list or its length.
    of_all_tracks : bool
        Whether `end` is that of the track that ends last, which need not be the picture.
    """

    live: bool
    untimed: bool
    fps: Fraction | None
    time_base: Fraction
    zero: int = 0
    end: Fraction | None = None
    frames: int | None = None
    of_all_tracks: bool = False

    @property
    def begin(self) -> Fraction:
        """The time that is 0:00, in seconds."""
        return self.zero * self.time_base

    @property
    def step(self) -> int:
        """Duration of a nominal frame in `time_base` units."""
        return round(1 / ((self.fps or DEFAULT_FPS) * self.time_base))


def read_clock(decoder: Decoder, location: str, options: SourceOptions) -> Clock:
    """Return the clock of an open video; `location` is what it was opened by."""
    container, stream = decoder.container, decoder.stream
    untimed = bool(container.format.flags & NO_TIMESTAMPS)
    has_length = stream.duration or container.duration
    is_file = location.lower().startswith("http") and has_length and not untimed
    live = decoder.is_url and not is_file
    frames = _listed_frames(stream)
    if untimed and live:  # FFmpeg assumes 25 frames a second
        return Clock(live, untimed, options.fps, ARRIVAL, frames=frames)
    if untimed:
        rate = options.fps or stream.guessed_rate or DEFAULT_FPS
        return Clock(live, untimed, rate, 1 / rate, frames=frames)

    fps = stream.average_rate or stream.guessed_rate
    time_base = stream.time_base or Fraction(1, av.time_base)
    # 0:00 is where the container starts, for FFmpeg and players: maybe with its audio.
    start = Fraction(container.start_time or 0, av.time_base)
    zero = round(start / time_base)
    end = None
    of_all_tracks = False
    if stream.duration and stream.start_time is not None:
        end = (stream.start_time + stream.duration - zero) * time_base
        # FFmpeg gives the tracks of ASF the duration of the file.
        length = Fraction(container.duration or 0, av.time_base)
        of_all_tracks = abs(end - length) <= time_base
    elif container.duration:
        end = Fraction(container.duration, av.time_base)
        of_all_tracks = True
        if "matroska" in container.format.name:  # its duration is counted from 0
            end -= start
    if end is not None and fps is not None:
        if frames is None:
            frames = round(end * fps)
        else:  # FFmpeg shortens the duration of a cut off AVI to what is left
            end = max(end, frames / fps)
    return Clock(live, untimed, fps, time_base, zero, end, frames, of_all_tracks)


def _listed_frames(stream: av.VideoStream) -> int | None:
    """Return how many frames the container lists that are shown, if it has a list."""
    index = stream.index_entries
    if stream.frames and len(index) == stream.frames:  # an edit list may hide some of them
        return sum(not entry.is_discard for entry in index)
    return stream.frames or None
