"""Read the packets of sound of a media file, separately from its pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Discard, Disposition, Stream

from squeezedrive.pipeline.core.continuity import GENERATE_PTS, Continuity, has_common_clock

# Decoders need a little of what comes before the first sample that is heard.
PREROLL = Fraction(1, 10)  # seconds
SEEK_MARGIN = Fraction(1, 2)  # seconds that a time is looked up before it
MAX_PEEKED = 2000  # packets
TIMEOUT = 10.0  # seconds
# Demuxers can go on after a damaged part; one that reports nothing but damage has reached the end.
MAX_DAMAGED_READS = 16


class SoundReader:
    """Read the sound of a file from a given time, with the same corrected clock as its pictures.

    Parameters
    ----------
    location : str
        What FFmpeg opens, as in `SourceInfo.location`.
    zero : Fraction
        The time, in seconds of the mended clock, before which little is needed.
    step : Fraction
        Seconds that a picture takes.
    jumped : bool
        Whether the clock has jumped before `zero`, so that no time can be looked up in the file.
    track : int or None
        Place of the pictures' track in the file, whose clock counts; None for the one that players
        show.

    Attributes
    ----------
    tracks : list of AudioStream
        All tracks of sound.
    ended : str or None
        Why the file could not be read to its end.

    Raises
    ------
    FFmpegError
        If the file cannot be opened.
    """

    def __init__(
        self,
        location: str,
        zero: Fraction,
        step: Fraction,
        jumped: bool,
        track: int | None = None,
    ) -> None:
        self._track = track
        self.ended: str | None = None
        self._location = location
        self._step = step
        self._peeked: deque[av.Packet] = deque()
        self._open()
        start = Fraction(self._container.start_time or 0, av.time_base)
        self._packets = self._mended(start)
        if self.tracks and zero > start and (jumped or not self._seek(zero - PREROLL)):
            # A file without a usable index is read from the beginning.
            self.close()
            self._peeked.clear()
            self._open()
            self._packets = self._mended(start)

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of sound, and of the picture beside it, in the order of the file."""
        while self._peeked:
            yield self._peeked.popleft()
        yield from self._packets

    def keep(self, indices: Collection[int]) -> None:
        """Read only these tracks, and what is needed to mend their clock."""
        for stream in self._read_tracks:
            mends = stream.type == "video" and has_common_clock(self._container, stream)
            if stream.index not in indices and not mends:
                stream.discard = Discard.all

    def close(self) -> None:
        """Close the file; there are no more packets."""
        self._packets = iter(())
        self._container.close()

    def _open(self) -> None:
        self._container: InputContainer = av.open(
            self._location, timeout=(TIMEOUT, TIMEOUT), metadata_errors="replace"
        )
        # The reader of the pictures has no timestamps made up either.
        self._container.flags &= ~GENERATE_PTS
        self.tracks = list(self._container.streams.audio)
        self._read_tracks: list[Stream] = list(self.tracks)
        streams = self._container.streams
        video = streams.best("video") if self._track is None else streams[self._track]
        if video is not None and not video.disposition & Disposition.attached_pic:
            self._read_tracks.append(video)
        for stream in self._container.streams:
            if stream not in self._read_tracks:
                stream.discard = Discard.all

    def _mended(self, begin: Fraction | None) -> Iterator[av.Packet]:
        return Continuity(self._container, begin, self._step).mend(self._read())

    def _seek(self, time: Fraction) -> bool:
        """Go to a time; return whether all of the sound from there on is still to come."""
        try:
            self._container.seek(round((time - SEEK_MARGIN) * av.time_base))
        except FFmpegError:
            return False
        self._packets = self._mended(None)
        for packet in self._packets:
            self._peeked.append(packet)
            if packet.stream.type == "audio":
                stamp = packet.dts if packet.pts is None else packet.pts
                return stamp is not None and stamp * packet.time_base <= time
            if len(self._peeked) > MAX_PEEKED:
                break
        return False

    def _read(self) -> Iterator[av.Packet]:
        damaged = 0
        reason: str | None = None
        while damaged < MAX_DAMAGED_READS:
            try:
                for packet in self._container.demux(self._read_tracks):
                    damaged = 0
                    if packet.size:
                        yield packet
                return
            except InvalidDataError as error:
                damaged += 1
                reason = error.strerror
            except FFmpegError as error:
                reason = error.strerror
                break
        self.ended = reason or "it cannot be read"
