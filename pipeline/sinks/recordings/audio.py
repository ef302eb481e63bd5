"""Copy or re-encode the audio tracks of a source into an output."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av
from av.container import OutputContainer
from av.error import FFmpegError

from squeezedrive.pipeline.sinks.recordings.sound import (
    CopiedTrack,
    EncodedTrack,
    SoundGaps,
    Track,
    can_be_copied,
)
from squeezedrive.pipeline.sinks.recordings.sound_reader import PREROLL, SoundReader

# The muxer writes nothing until every track has begun, so one that begins later gets silence first.
LATEST_BEGIN = 10  # seconds
TRIED_PACKETS = 3  # of a track, to find out whether it can be copied


class AudioTracks:
    """All audio tracks of a media file, muxed beside the video of an output.

    Tracks are copied bit by bit where MP4 may hold their codec, otherwise encoded as AAC. Whatever
    goes wrong with audio ends in a warning, which says from when to when there is no sound, never
    in the loss of the video.

    Parameters
    ----------
    reader : SoundReader
        Reads the file a second time, apart from its video, from `zero` on.
    output : av.container.OutputContainer
        Where the tracks go. They are added to it at once, so it must not have been written to.
    zero : Fraction
        The time of the file, in seconds, that is 0:00 in the output.
    begin : Fraction
        The time of the whole recording that is 0:00 in the output, for warnings.
    """

    def __init__(
        self, reader: SoundReader, output: OutputContainer, zero: Fraction, begin: Fraction
    ) -> None:
        self._own_warnings: list[str] = []
        self._output = output
        self._zero = zero
        self._begin = begin
        self._tracks: dict[int, Track] = {}
        self._gaps: dict[int, SoundGaps] = {}
        self._unwritten: set[int] = set()  # tracks that nothing was written of yet
        self._unheard: set[int] = set()  # tracks of which nothing could be used yet
        self._read_until = Fraction(0)
        self._early: list[av.Packet] = []
        self._pending: av.Packet | None = None
        self._reader = reader
        self._packets: Iterator[av.Packet] = reader.packets()
        self._late: set[int] = set()  # tracks that have not begun yet
        self._wait_for_begin()
        for stream in reader.tracks:
            self._add(stream)
        reader.keep(self._tracks)
        self._packets = itertools.chain(self._early, self._packets)
        self._advance()

    @property
    def warnings(self) -> list[str]:
        """One line for everything that could not be carried over."""
        return self._own_warnings + [line for gaps in self._gaps.values() for line in gaps.lines]

    def write_until(self, end: Fraction) -> None:
        """Mux all packets that begin before `end`, in seconds of the output."""
        while self._pending is not None and self._time(self._pending) < end:
            packet = self._pending
            track = self._tracks[packet.stream_index]
            time = self._time(packet)
            if time > -PREROLL:
                duration = (packet.duration or 0) * packet.time_base
                self._mux(packet.stream_index, track, packet, time, time + duration)
            self._read_until = time
            self._advance()
        if end > LATEST_BEGIN:
            for index in self._unwritten:
                self._write(index, self._tracks[index].silence(), Fraction(0), end)
            self._unwritten.clear()

    def finish(self, end: Fraction) -> None:
        """Mux what is left before `end`, and close the file."""
        self.write_until(end)
        for index, track in self._tracks.items():
            if self._reader.ended is not None:
                self._lost(index, self._read_until, end, f"ends early: {self._reader.ended}")
            self._mux(index, track, None, end, end)
            if index in self._unheard:
                why = "is empty" if index in self._late else "is damaged"
                self._lost(index, Fraction(0), end, why)
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._pending = None
        self._reader.close()

    def _time(self, packet: av.Packet) -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return Fraction(0) if stamp is None else stamp * packet.time_base - self._zero

    def _wait_for_begin(self) -> None:
        """Find out which tracks begin in time, keeping the packets read for it."""
        waiting = {track.index for track in self._reader.tracks}
        for packet in self._packets:
            if packet.stream.type == "audio":
                self._early.append(packet)
                waiting.discard(packet.stream_index)
            if not waiting or self._time(packet) > LATEST_BEGIN:
                break
        self._late = waiting

    def _add(self, stream: av.AudioStream) -> None:
        if stream.codec_context is None:
            self._warn(stream.index, "has a codec that FFmpeg does not know, left out")
            return
        first = [packet for packet in self._early if packet.stream_index == stream.index]
        track: Track
        try:
            if first and can_be_copied(stream, first[:TRIED_PACKETS]):
                track = CopiedTrack(stream, self._output, self._zero)
            else:
                lost = partial(self._lost, stream.index)
                track = EncodedTrack(stream, self._output, self._zero, lost)
        except Exception as error:  # whatever is wrong with a sound costs no picture
            self._warn(stream.index, f"cannot be carried over, left out: {error}")
            return
        track.stream.metadata.update(
            {key: stream.metadata[key] for key in ("language", "title") if key in stream.metadata}
        )
        track.stream.disposition = stream.disposition
        self._tracks[stream.index] = track
        self._gaps[stream.index] = SoundGaps(f"audio track {stream.index}")
        self._unwritten.add(stream.index)
        self._unheard.add(stream.index)

    def _advance(self) -> None:
        self._pending = None
        if self._tracks:
            ours = (packet for packet in self._packets if packet.stream_index in self._tracks)
            self._pending = next(ours, None)

    def _mux(
        self, index: int, track: Track, packet: av.Packet | None, begin: Fraction, end: Fraction
    ) -> None:
        try:
            packets = track.flush() if packet is None else track.take(packet)
        except FFmpegError:
            self._lost(index, begin, end, "is damaged")
        except Exception as error:  # whatever is wrong with a sound costs no picture
            self._lost(index, begin, end, str(error))
        else:
            self._write(index, packets, begin, end)
            if not packets or (packet is None and index in self._late):
                return  # nothing, or the end of the silence
            if index in self._late:
                self._late.discard(index)
                self._lost(index, Fraction(0), begin, "begins late")
            self._gaps[index].end()
            self._unwritten.discard(index)
            self._unheard.discard(index)

    def _write(self, index: int, packets: list[av.Packet], begin: Fraction, end: Fraction) -> None:
        try:
            self._output.mux(packets)
        except FFmpegError as error:
            self._lost(index, begin, end, f"cannot be written: {error.strerror}")

    def _lost(self, index: int, begin: Fraction, end: Fraction, why: str) -> None:
        if end > begin and end > 0:
            self._gaps[index].add(begin + self._begin, end + self._begin, why)

    def _warn(self, index: int, problem: str) -> None:
        self._own_warnings.append(f"audio track {index} {problem}")
