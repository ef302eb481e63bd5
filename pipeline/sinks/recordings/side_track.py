"""Write one track of subtitles or data of an output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import DataStream, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

EMPTY = b"\0\0"  # no text, as MP4 has it
# Finer than the time bases of other tracks, see `TextTrack`.
TEXT_TICK = Fraction(1, 1_000_000)
LONGEST_TEXT = Fraction(60)  # seconds; a sample of an hour could not be counted in ticks
LONGEST_SILENCE = Fraction(1)  # seconds, of a sample without text
STYLE = re.compile(r"\{[^}]*\}")
# What the encoder makes the sample entry of: white text without a background.
PLAIN_STYLE = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0
"""


@dataclass(frozen=True)
class SideSample:
    """What a track has between two times, in seconds of the output; without `index`: a picture."""

    index: int | None
    begin: Fraction
    end: Fraction
    data: bytes


class DataTrack:
    """A track of data, whose samples go on up to the next one or the end of the output.

    Each is written when it is over, as only then it is known how long it is.

    Parameters
    ----------
    stream : DataStream
        Of the output.
    """

    def __init__(self, stream: DataStream) -> None:
        self._stream = stream
        self._held: SideSample | None = None
        self._written = Fraction(-1)  # when the last one begins

    def take(self, sample: SideSample) -> list[av.Packet]:
        """Take the next sample; return what can be written."""
        packets = self.finish(sample.begin)
        self._held = sample
        return packets

    def advance(self, end: Fraction) -> list[av.Packet]:
        """Return what can be written when the output has come to `end`."""
        return [] if self._held is None or self._held.end > end else self.finish(end)

    def finish(self, end: Fraction) -> list[av.Packet]:
        """Return the last sample, which ends at `end` at the latest."""
        sample, self._held = self._held, None
        if sample is None or sample.begin < self._written:
            return []  # where time goes backwards a track cannot follow
        self._written = sample.begin
        tick = self._stream.time_base or Fraction(1, 1000)
        length = min(sample.end, end) - sample.begin
        return [_packet(self._stream, sample.data, sample.begin, length, tick)]


class TextTrack:
    """A track of text that has a sample at any time, if need be an empty one.

    The muxer would add those that are missing, but spoils a timestamp of the picture then: when one
    comes after the last text has ended, it may end a fragment in the midst of that picture. As it
    compares times without regard to their ticks, those of the text have to be the finer ones.

    Parameters
    ----------
    stream : Stream
        Of the output, `add_text_stream`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._shown: SideSample | None = None
        self._at = Fraction(0)  # up to when there are samples

    def take(self, sample: SideSample) -> list[av.Packet]:
        """Take the next text; return what can be written."""
        packets = self.advance(sample.begin)
        self._shown = sample
        self._at = min(self._at, sample.begin)
        return packets

    def advance(self, end: Fraction) -> list[av.Packet]:
        """Return what can be written when the output has come to `end`."""
        packets = []
        while self._at < end:
            text = self._shown
            if text is None or text.end <= self._at:
                data, length = EMPTY, LONGEST_SILENCE
            else:
                data, length = text.data, min(text.end - self._at, LONGEST_TEXT)
            packets.append(_packet(self._stream, data, self._at, length, TEXT_TICK))
            self._at += length
        return packets

    def finish(self, end: Fraction) -> list[av.Packet]:
        """Return what ends the track."""
        last = _packet(self._stream, EMPTY, end, Fraction(0), TEXT_TICK)
        return [*self.advance(end), last]


def add_text_stream(output: OutputContainer, source: SubtitleStream) -> Stream:
    """Add a track of text to an MP4 file, in the style of the source if that is MP4's own."""
    context = source.codec_context
    if context.name == "mov_text" and context.codec_tag == "tx3g":
        stream: Stream = output.add_stream_from_template(source)
    else:
        stream = output.add_stream("mov_text")
        assert isinstance(stream.codec_context, SubtitleCodecContext)
        stream.codec_context.subtitle_header = PLAIN_STYLE
    stream.time_base = TEXT_TICK
    return stream


def as_mov_text(packet: av.Packet) -> bytes:
    """Return a subtitle as MP4 has it: the length of the text, and the text; b"" for none."""
    stream = packet.stream
    assert isinstance(stream, SubtitleStream)
    if stream.codec_context.name == "mov_text":
        data = bytes(packet)
        return b"" if data[:2] == EMPTY else data
    lines = [
        line.dialogue.decode(errors="replace")
        for line in stream.decode2(packet) or ()
        if isinstance(line, AssSubtitle)
    ]
    text = STYLE.sub("", "\n".join(lines)).strip().encode()[:0xFFFF]
    return len(text).to_bytes(2, "big") + text if text else b""


def _packet(
    stream: Stream, data: bytes, begin: Fraction, length: Fraction, tick: Fraction
) -> av.Packet:
    packet = av.Packet(data)
    packet.stream = stream
    packet.time_base = tick
    packet.pts = packet.dts = round(begin / tick)
    packet.duration = max(round(length / tick), 0)
    packet.is_keyframe = True
    return packet
