"""Copy or re-encode one track of sound for an MP4 file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Protocol

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer

# What MP4 may hold and browsers know, if not all of them all of it; the rest becomes AAC.
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
LAYER, LAYER_3 = 0x06, 0x02  # bits of the second byte of a header of MPEG audio
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# Bits of a packet's header that hold its rate, and what else MP4 keeps once for a whole track:
# position of the byte, and mask. AAC has them only with the headers of broadcasts, ADTS.
FIXED_BITS = {
    "aac": ((2, 0xFD), (3, 0xC0)),
    "mp3": ((1, 0x1E), (2, 0x0C)),
    "ac3": ((4, 0xC0),),
    "eac3": ((4, 0xC0),),
}
OVERLAP = Fraction(1, 10)  # seconds a frame may begin before the end of the last one
GAP = Fraction(1, 10)  # seconds between two frames from which on one is missing
MAX_GAPS = 3  # reported one by one


class Track(Protocol):
    """A track of an output."""

    stream: av.AudioStream

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """Return what to write for a packet of the source.

        Raises
        ------
        Exception
            Whatever FFmpeg finds wrong with it.
        """

    def flush(self) -> list[av.Packet]:
        """Return what is left at the end."""

    def silence(self) -> list[av.Packet]:
        """Return packets that begin a track of which nothing could be used so far."""


class CopiedTrack:
    """Copy packets unchanged.

    Parameters
    ----------
    stream : AudioStream
        The track of the source.
    output : OutputContainer
        Gets a track like it.
    zero : Fraction
        The time of the source, in seconds, that is 0:00 in the output.
    """

    def __init__(self, stream: av.AudioStream, output: OutputContainer, zero: Fraction) -> None:
        self.stream = output.add_stream_from_template(stream)
        self._shift = round(zero / (stream.time_base or 1))
        self._end: int | None = None
        self._last: int | None = None
        self._extradata = stream.codec_context.extradata
        self._changed = False
        codec = stream.codec_context.codec.canonical_name
        self._fixed_bits = FIXED_BITS.get(codec, ())
        self._fixed: list[int] | None = None
        # AAC of broadcasts has its parameters in every packet, AAC in MP4 has them in the header.
        self._filter: BitStreamFilterContext | None = None
        if codec == "aac" and not self._extradata:
            self._filter = BitStreamFilterContext("aac_adtstoasc", stream)
        elif codec == "aac":
            self._fixed_bits = ()

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """Return the packet in the output's time; none if it is not after the last one."""
        self._check_parameters(packet)
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else self._end or self._shift
        if packet.pts is None:
            packet.pts = packet.dts
        if self._last is not None and packet.dts <= self._last:
            return []  # players cannot make sense of it either
        self._last = packet.dts
        self._end = packet.dts + max(packet.duration or 0, 1)
        packet.pts -= self._shift
        packet.dts -= self._shift
        packets = [packet] if self._filter is None else self._filter.filter(packet)
        for one in packets:
            one.stream = self.stream
        return packets

    def flush(self) -> list[av.Packet]:
        """Return nothing: none is held back."""
        return []

    def silence(self) -> list[av.Packet]:
        """Return nothing: `can_be_copied` has seen that the first packets are of use."""
        return []

    def _check_parameters(self, packet: av.Packet) -> None:
        """Refuse a packet that is not of the one kind that the track is."""
        if packet.has_sidedata("new_extradata"):
            self._changed = bytes(packet.get_sidedata("new_extradata")) != self._extradata
        data = memoryview(packet)
        fixed = [data[at] & mask for at, mask in self._fixed_bits if at < len(data)]
        if self._fixed is None:
            self._fixed = fixed
        if self._changed or fixed != self._fixed:
            raise ValueError("has another rate or other channels than before")


class EncodedTrack:
    """Decode packets and encode them as AAC, at the rate with which the track begins.

    Rate, layout and format may change on the way.

    Parameters
    ----------
    stream, output, zero
        As of `CopiedTrack`.
    lost : callable
        Gets begin and end, in seconds of the output, of what the decoder made nothing of, and why.
    """

    def __init__(
        self,
        stream: av.AudioStream,
        output: OutputContainer,
        zero: Fraction,
        lost: Callable[[Fraction, Fraction, str], None],
    ) -> None:
        context = stream.codec_context
        self._rate = context.sample_rate if context.sample_rate in AAC_RATES else 48000
        self._layout = "mono" if context.channels == 1 else "stereo"
        self.stream = output.add_stream("aac", rate=self._rate, layout=self._layout)
        self._source = stream
        self._zero = zero
        self._lost = lost
        self._end: int | None = None  # of the last frame encoded, in samples of the output
        self._fed: tuple[Fraction, Fraction] | None = None  # begin and end of packets decoded
        self._shape: tuple[str, str, int] | None = None  # of what the resampler takes
        self._resampler: av.AudioResampler | None = None

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """Return what the encoder has ready after a packet."""
        packets: list[av.Packet] = []
        begin = (packet.pts or packet.dts or 0) * packet.time_base - self._zero
        end = begin + (packet.duration or 0) * packet.time_base
        try:
            for frame in self._source.decode(packet):
                packets += self._take_frame(frame)
        finally:
            self._fed = begin if self._fed is None else self._fed[0], end
        return packets

    def flush(self) -> list[av.Packet]:
        """Return what decoder, resampler and encoder still hold."""
        packets: list[av.Packet] = []
        for frame in self._source.decode(None):
            packets += self._take_frame(frame)
        packets += self._encode(self._resampled(None))
        if self._fed is not None:
            self._check_gap(self._fed[1])
        return packets + list(self.stream.encode(None))

    def silence(self) -> list[av.Packet]:
        """Encode a little silence at 0:00."""
        frame = av.AudioFrame("fltp", self._layout, 4096)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = self._rate, 0, Fraction(1, self._rate)
        return self._encode([frame])

    def _take_frame(self, frame: av.AudioFrame) -> list[av.Packet]:
        tick = Fraction(1, frame.sample_rate)
        if frame.pts is not None and frame.time_base is not None:
            frame.pts = round((frame.pts * frame.time_base - self._zero) / tick)
        else:  # put in line
            frame.pts = round(Fraction(self._end or 0, self._rate) / tick)
        frame.time_base = tick
        packets: list[av.Packet] = []
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            packets += self._encode(self._resampled(None))
            self._resampler = av.AudioResampler(
                self.stream.codec_context.format, self._layout, self._rate
            )
            self._shape = shape
        return packets + self._encode(self._resampled(frame))

    def _resampled(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        if self._resampler is None:
            return []
        return [one for one in self._resampler.resample(frame) if one is not None]

    def _encode(self, frames: Iterable[av.AudioFrame]) -> list[av.Packet]:
        packets: list[av.Packet] = []
        for frame in frames:
            pts = frame.pts
            if pts is not None and frame.time_base is not None:
                pts = round(pts * frame.time_base * self._rate)
            if self._end is not None and (pts is None or pts < self._end):
                if pts is not None and self._end - pts > OVERLAP * self._rate:
                    continue  # that time has its sound already
                pts = self._end
            frame.pts, frame.time_base = pts or 0, Fraction(1, self._rate)
            self._check_gap(Fraction(frame.pts, self._rate))
            self._end = frame.pts + frame.samples
            packets += self.stream.encode(frame)
        return packets

    def _check_gap(self, begin: Fraction) -> None:
        """Report that there is no sound up to `begin`, if there were packets that should be it."""
        if self._fed is None:
            return
        end = max(self._fed[0], Fraction(self._end or 0, self._rate))
        if begin - end > GAP and self._fed[1] - end > GAP:
            self._lost(end, begin, "is damaged")


def can_be_copied(stream: av.AudioStream, first: Sequence[av.Packet]) -> bool:
    """Return whether MP4 accepts a track unchanged, by writing its first packets to memory."""
    codec = stream.codec_context.codec.canonical_name
    if codec not in COPIED:
        return False
    # FFmpeg takes any MPEG audio for MP3 where a track of MPEG-TS begins late.
    if codec == "mp3" and any(packet.size > 1 and not _is_mp3(packet) for packet in first):
        return False
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as output:
            track = CopiedTrack(stream, output, Fraction(0))
            for packet in first:
                trial = av.Packet(bytes(packet))
                trial.pts, trial.dts, trial.time_base = packet.pts, packet.dts, packet.time_base
                trial.duration = packet.duration or 0
                output.mux(track.take(trial))
    except Exception:  # whatever it is, the track is not fit to be copied
        return False
    return True


def _is_mp3(packet: av.Packet) -> bool:
    return memoryview(packet)[1] & LAYER == LAYER_3


class SoundGaps:
    """Collect the gaps in a track of sound.

    Parameters
    ----------
    name : str
        What the track is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: list[tuple[Fraction, Fraction]] = []
        self._why = ""
        self._more = 0
        self._last = Fraction(0), Fraction(0)
        self._is_open = False  # whether nothing was heard since the last gap

    def end(self) -> None:
        """Note that there is sound again: what is lost from now on is another gap."""
        self._is_open = False

    def add(self, begin: Fraction, end: Fraction, why: str) -> None:
        """Note that there is no sound between two times, in seconds of the recording."""
        begin, why = max(begin, Fraction(0)), self._why or why
        self._why = why
        last = self._last
        if self._is_open or ((self._first or self._more) and begin - last[1] < GAP):  # it goes on
            self._is_open = True
            self._last = last[0], max(last[1], end)
            if not self._more:
                self._first[-1] = self._last
            return
        self._is_open = True
        self._last = begin, end
        if len(self._first) < MAX_GAPS:
            self._first.append(self._last)
        else:
            self._more += 1

    @property
    def lines(self) -> list[str]:
        """One line if there is a gap, else none."""
        if not self._first:
            return []
        spans = ", ".join(f"from {float(a):.2f} to {float(b):.2f} s" for a, b in self._first)
        more = f" and {self._more} more times up to {float(self._last[1]):.2f} s" * bool(self._more)
        return [f"{self._name} {self._why}, no sound {spans}{more}"]
