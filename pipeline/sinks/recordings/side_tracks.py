"""Copy the subtitles and data of a source into an output."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import DataStream, Discard, Stream
from av.subtitles.stream import SubtitleStream

from squeezedrive.pipeline.core.boxes import SampleEntry, sample_entries
from squeezedrive.pipeline.sinks.recordings.audio import LATEST_BEGIN
from squeezedrive.pipeline.sinks.recordings.side_track import (
    DataTrack,
    SideSample,
    TextTrack,
    add_text_stream,
    as_mov_text,
)

TIMEOUT = 10.0  # seconds
LOOK_BACK = 10  # seconds before the beginning of an output in which a subtitle may begin
GPMD = b"gpmd"  # the one kind of data that FFmpeg writes
CHAPTERS = (b"text", b"tx3g")  # the kinds of a track of text that FFmpeg takes for data
PLAIN_ENTRY = 16  # bytes of a sample entry that has nothing but its type; FFmpeg adds zeros


class SideTracks:
    """Subtitle and data tracks of a media file, muxed beside the video of an output.

    Text of any format becomes MP4's own, `mov_text`, which keeps its style if it was that before.
    Data comes along bit by bit from MP4 files, if its sample entry is a type and nothing more, as
    those of GoPro (`gpmd`), Google (`camm`) and Sony (`rtmd`). Samples begin at 0:00 at the
    earliest and end with the picture. What cannot be carried over ends in a warning.

    Parameters
    ----------
    location : str
        What FFmpeg opens, as in `SourceInfo.location`.
    path : Path or None
        The file, if it is one.
    output : av.container.OutputContainer
        Where the tracks go. They are added to it at once, so it must not have been written to.
    zero : Fraction
        The time of the file, in seconds, that is 0:00 in the output.

    Attributes
    ----------
    kinds : dict of int to bytes
        Types that the output's sample entries are to have in place of `gpmd`, by the index of the
        stream; see `rename_entries`.

    Raises
    ------
    FFmpegError
        If the file cannot be opened.
    """

    def __init__(
        self, location: str, path: Path | None, output: OutputContainer, zero: Fraction
    ) -> None:
        self.kinds: dict[int, bytes] = {}
        self._own_warnings: list[str] = []
        self._damaged: Counter[int] = Counter()  # subtitles, by track
        self._output = output
        self._zero = zero
        self._tracks: dict[int, DataTrack | TextTrack] = {}
        self._container = av.open(location, timeout=(TIMEOUT, TIMEOUT), metadata_errors="replace")
        wanted: list[Stream] = [
            *self._container.streams.subtitles, *self._container.streams.data
        ]  # fmt: skip
        # MP4 has a list of each track's samples. In other formats a subtitle is looked for among
        # all packets, so the pictures limit how far to read.
        if "mp4" not in self._container.format.name.split(","):
            wanted += self._container.streams.video[:1]
        for stream in self._container.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        if zero > LOOK_BACK:
            self._container.seek(round((zero - LOOK_BACK) * av.time_base))
        self._samples = self._read(wanted)
        early = self._read_early()
        entries = sample_entries(path) if path is not None else []
        for stream in wanted:
            if isinstance(stream, SubtitleStream):
                self._add_text(stream)
            elif isinstance(stream, DataStream):
                begins = any(s.index == stream.index and s.begin <= LATEST_BEGIN for s in early)
                self._add_data(stream, [e for e in entries if e.track_id == stream.id], begins)
        self._samples = itertools.chain(early, self._samples)
        self._next = next(self._samples, None) if self._tracks else None

    @property
    def warnings(self) -> list[str]:
        """One line for everything that could not be carried over."""
        damaged = [
            f"subtitle track {index}: texts left out, as they are damaged: {count}"
            for index, count in self._damaged.items()
        ]
        return self._own_warnings + damaged

    def write_until(self, end: Fraction) -> None:
        """Mux what begins before `end`, in seconds of the output."""
        while self._next is not None and self._next.begin < end:
            sample = self._next
            self._next = next(self._samples, None)
            track = None if sample.index is None else self._tracks.get(sample.index)
            if track is not None:
                self._output.mux(track.take(sample))
        for track in self._tracks.values():
            self._output.mux(track.advance(end))

    def finish(self, end: Fraction) -> None:
        """Mux what is left before `end`, and close the file."""
        self.write_until(end)
        for track in self._tracks.values():
            self._output.mux(track.finish(end))
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._next = None
        self._samples = iter(())
        self._container.close()

    def _read(self, streams: list[Stream]) -> Iterator[SideSample]:
        """Yield what is shown after 0:00, in the order of the file."""
        try:
            for packet in self._container.demux(streams):
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is None or not packet.size:
                    continue
                begin = stamp * packet.time_base - self._zero
                end = begin + (packet.duration or 0) * packet.time_base
                if packet.stream.type == "video":
                    yield SideSample(None, begin, end, b"")
                elif end > 0 or begin >= 0:
                    data = self._content(packet)
                    if data:
                        yield SideSample(packet.stream_index, max(begin, Fraction(0)), end, data)
        except FFmpegError as error:
            self._own_warnings.append(f"subtitles and data end early: {error.strerror}")

    def _content(self, packet: av.Packet) -> bytes:
        """Return what is written of a packet; nothing of a subtitle that is damaged."""
        if packet.stream.type != "subtitle":
            return bytes(packet)
        try:
            return as_mov_text(packet)
        except FFmpegError:
            self._damaged[packet.stream_index] += 1
            return b""

    def _read_early(self) -> list[SideSample]:
        """Read until all tracks of data have begun that do so in time."""
        waiting = {stream.index for stream in self._container.streams.data}
        early = []
        while waiting and (sample := next(self._samples, None)) is not None:
            early.append(sample)
            waiting.discard(-1 if sample.index is None else sample.index)
            if sample.begin > LATEST_BEGIN:
                break
        return early

    def _add_text(self, stream: SubtitleStream) -> None:
        context = stream.codec_context
        if context is None:
            self._leave_out(stream, "of an unknown kind", "FFmpeg cannot read it")
        elif not context.codec.text_sub:
            self._leave_out(stream, context.name, "it is no text")
        else:
            try:
                track = add_text_stream(self._output, stream)
            except (FFmpegError, ValueError) as error:
                self._leave_out(stream, context.name, str(error))
                return
            self._name(stream, track)
            self._tracks[stream.index] = TextTrack(track)

    def _add_data(self, stream: DataStream, entries: list[SampleEntry], begins: bool) -> None:
        entry = entries[0] if entries else None
        kind = "of an unknown kind" if entry is None else entry.kind.decode("latin-1")
        if entry is not None and entry.kind in CHAPTERS:
            return
        if entry is None or any(entry.data[PLAIN_ENTRY:]):
            self._leave_out(stream, kind, "FFmpeg does not write such data to MP4")
        elif not begins:
            self._leave_out(stream, kind, f"it has nothing within {LATEST_BEGIN} s")
        else:
            track = self._output.add_data_stream("bin_data")
            track.time_base = stream.time_base
            self._name(stream, track)
            self._tracks[stream.index] = DataTrack(track)
            if entry.kind != GPMD:
                self.kinds[track.index] = entry.kind

    def _name(self, stream: Stream, track: Stream) -> None:
        for key in ("language", "title", "handler_name"):
            if key in stream.metadata:
                track.metadata[key] = stream.metadata[key]
        track.disposition = stream.disposition

    def _leave_out(self, stream: Stream, kind: str, why: str) -> None:
        self._own_warnings.append(f"{stream.type} track {stream.index} ({kind}) is left out: {why}")
