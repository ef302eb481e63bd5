"""The audio tracks of a source, carried over into an output."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition

# What MP4 may hold and browsers know, if not all of them all of it; the rest becomes AAC.
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# Decoders need a little of what comes before the first sample that is heard.
PREROLL = Fraction(1, 10)  # seconds
# The muxer writes nothing until every track has begun, so one that begins later is left out.
LATEST_BEGIN = 10  # seconds
TIMEOUT = 10.0  # seconds


class _CopiedTrack:
    """Passes packets on as they are."""

    def __init__(self, stream: av.AudioStream, output: OutputContainer, zero: Fraction) -> None:
        self.stream = output.add_stream_from_template(stream)
        self._shift = round(zero / (stream.time_base or 1))
        self._last: int | None = None
        # AAC of broadcasts has its parameters in every packet, AAC in MP4 has them in the header.
        self._filter: BitStreamFilterContext | None = None
        if stream.codec_context.name == "aac" and not stream.codec_context.extradata:
            self._filter = BitStreamFilterContext("aac_adtstoasc", stream)

    def take(self, packet: av.Packet) -> list[av.Packet]:
        if packet.pts is None or packet.dts is None:
            return []
        if self._last is not None and packet.dts <= self._last:
            return []  # players cannot make sense of it either
        self._last = packet.dts
        packet.pts -= self._shift
        packet.dts -= self._shift
        packets = [packet] if self._filter is None else self._filter.filter(packet)
        for packet in packets:
            packet.stream = self.stream
        return packets

    def flush(self) -> list[av.Packet]:
        return []


class _EncodedTrack:
    """Decodes packets and encodes them as AAC."""

    def __init__(self, stream: av.AudioStream, output: OutputContainer, zero: Fraction) -> None:
        context = stream.codec_context
        rate = context.sample_rate if context.sample_rate in AAC_RATES else 48000
        layout = "mono" if context.channels == 1 else "stereo"
        self.stream = output.add_stream("aac", rate=rate, layout=layout)
        self._source = stream
        self._zero = zero

    def take(self, packet: av.Packet) -> list[av.Packet]:
        packets: list[av.Packet] = []
        for frame in self._source.decode(packet):
            if frame.pts is not None and frame.time_base is not None:
                tick = Fraction(1, frame.sample_rate)
                frame.pts = round((frame.pts * frame.time_base - self._zero) / tick)
                frame.time_base = tick
            packets += self.stream.encode(frame)
        return packets

    def flush(self) -> list[av.Packet]:
        return list(self.stream.encode(None))


class AudioTracks:
    """All audio tracks of a media file, muxed beside the video of an output.

    Tracks are copied bit by bit where MP4 may hold their codec, otherwise encoded as AAC. Whatever
    goes wrong with audio ends in a warning, never in the loss of the video.

    Parameters
    ----------
    path : Path
        The file; it is read a second time, apart from its video.
    output : av.container.OutputContainer
        Where the tracks go. They are added to it at once, so it must not have been written to.
    zero : Fraction
        The time of the file, in seconds, that is 0:00 in the output.

    Attributes
    ----------
    warnings : list of str
        One line for everything that could not be carried over.
    """

    def __init__(self, path: Path, output: OutputContainer, zero: Fraction) -> None:
        self.warnings: list[str] = []
        self._output = output
        self._zero = zero
        self._tracks: dict[int, _CopiedTrack | _EncodedTrack] = {}
        self._early: deque[av.Packet] = deque()
        self._pending: av.Packet | None = None
        self._input = av.open(f"file:{path}", timeout=(TIMEOUT, TIMEOUT), metadata_errors="replace")
        self._packets = self._read()
        if not self._input.streams.audio:
            return
        start = Fraction(self._input.start_time or 0, av.time_base)
        if zero > start:
            with contextlib.suppress(FFmpegError):  # then it is read from where it begins
                self._input.seek(round((zero - PREROLL) * av.time_base))
        for stream in self._begun():
            self._add(stream)
        self._advance()

    def write_until(self, end: Fraction) -> None:
        """Mux all packets that begin before `end`, in seconds of the output."""
        while self._pending is not None and self._time(self._pending) < end:
            packet = self._pending
            track = self._tracks.get(packet.stream_index)
            if track is not None and self._time(packet) > -PREROLL:
                self._mux(packet.stream_index, track, packet)
            self._advance()

    def finish(self, end: Fraction) -> None:
        """Mux what is left before `end`, and close the file."""
        self.write_until(end)
        for index, track in list(self._tracks.items()):
            self._mux(index, track, None)
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._pending = None
        self._packets.close()
        self._input.close()

    def _time(self, packet: av.Packet) -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return Fraction(0) if stamp is None else stamp * packet.time_base - self._zero

    def _begun(self) -> list[av.AudioStream]:
        """Return the tracks that begin in time, keeping the packets read to find out."""
        tracks = list(self._input.streams.audio)
        video = [
            s for s in self._input.streams.video if not s.disposition & Disposition.attached_pic
        ]
        waiting = {track.index for track in tracks}
        with contextlib.suppress(FFmpegError):  # comes again, and is reported, later on
            for packet in self._input.demux([*tracks, *video[:1]]):
                if not packet.size:
                    continue
                if packet.stream_index in waiting or packet.stream.type == "audio":
                    self._early.append(packet)
                    waiting.discard(packet.stream_index)
                if not waiting or self._time(packet) > LATEST_BEGIN:
                    break
        for track in tracks:
            if track.index in waiting:
                self._warn(track.index, f"has no sound within {LATEST_BEGIN} s, left out")
        return [track for track in tracks if track.index not in waiting]

    def _add(self, stream: av.AudioStream) -> None:
        kind = (
            _CopiedTrack if stream.codec_context.codec.canonical_name in COPIED else _EncodedTrack
        )
        try:
            track = kind(stream, self._output, self._zero)
        except (FFmpegError, ValueError) as error:
            self._warn(stream.index, f"cannot be carried over: {error}")
            return
        track.stream.metadata.update(
            {key: stream.metadata[key] for key in ("language", "title") if key in stream.metadata}
        )
        track.stream.disposition = stream.disposition
        self._tracks[stream.index] = track

    def _read(self) -> Generator[av.Packet, None, None]:
        while self._early:
            yield self._early.popleft()
        for stream in self._input.streams:
            if stream.index not in self._tracks:
                stream.discard = Discard.all
        try:
            for packet in self._input.demux(self._input.streams.audio):
                if packet.size:
                    yield packet
        except FFmpegError as error:
            self.warnings.append(f"audio ends early: {error.strerror}")

    def _advance(self) -> None:
        self._pending = next(self._packets, None) if self._tracks else None

    def _mux(
        self, index: int, track: _CopiedTrack | _EncodedTrack, packet: av.Packet | None
    ) -> None:
        try:
            packets = track.flush() if packet is None else track.take(packet)
        except FFmpegError:
            self._warn(index, "is damaged, parts of it are left out")
            return
        try:
            self._output.mux(packets)
        except FFmpegError as error:
            self._warn(index, f"cannot be written, it ends early: {error.strerror}")
            del self._tracks[index]

    def _warn(self, index: int, problem: str) -> None:
        line = f"audio track {index} {problem}"
        if line not in self.warnings:
            self.warnings.append(line)
