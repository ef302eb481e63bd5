"""Correct the clock of a file where it jumps, for all of its tracks together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.stream import Stream

MAY_JUMP = 0x200  # AVFMT_TS_DISCONT: recordings of this format may be appended to each other
GENERATE_PTS = 0x1  # AVFMT_FLAG_GENPTS, with which FFmpeg makes up timestamps
LIMIT = Fraction(10)  # seconds, the longest gap that is kept where the format may jump
LONGEST_GAP = Fraction(5 * 3600)  # likewise where it may not: a parked car's camera sleeps
BACK = Fraction(1, 10)  # seconds a decoding time may lie before the end of the last packet
# Formats that may not jump do not always keep decoding times; then FFmpeg guesses them.
BACK_UNSURE = Fraction(1)
LATE = Fraction(3)  # seconds a track's first packet may be late where the format may jump
STEADY = Fraction(1)  # seconds within which a packet needs no second look
MEMORY = Fraction(10)  # seconds after a jump within which a track may fall back to its old clock
MAX_HELD = 500  # packets


@dataclass
class _Track:
    """The clock of one track."""

    end: Fraction  # of the last packet, mended
    offset: Fraction  # what mends the clock now
    before: Fraction  # what mended it before the last jump
    jumped_at: Fraction  # when the last jump was, mended


class Continuity:
    """Mends the timestamps of packets where a file's clock jumps, as FFmpeg's program does.

    Where the format may jump (MPEG-TS and -PS, Ogg), a jump ahead of more than 10 s is closed, and
    so is each jump back: what follows goes on where the track that is ahead had ended. In other
    formats gaps of up to 5 h are kept. All tracks take the same correction, so that sound and
    picture stay together, but each when it comes to its own jump; a track with a clock of its own
    keeps a correction of its own. One timestamp that is wrong, with the next one in line again, is
    put in line.

    Two readers of the same packets, in the order of the file, mend them alike.

    Parameters
    ----------
    container : InputContainer
        The file, for its format.
    begin : Fraction or None
        When the file begins, in seconds; None where reading begins in its midst.
    step : Fraction
        Seconds that a packet takes that does not say so.

    Attributes
    ----------
    jumps : list of Fraction
        Seconds by which the clock was ahead (back if negative) at each jump that was closed. The
        reader removes what it has reported.
    """

    def __init__(self, container: InputContainer, begin: Fraction | None, step: Fraction) -> None:
        may_jump = bool(container.format.flags & MAY_JUMP)
        self.jumps: list[Fraction] = []
        self._limit = LIMIT if may_jump else LONGEST_GAP
        self._back = BACK if may_jump else BACK_UNSURE
        self._late = LATE if may_jump else LONGEST_GAP
        self._latest = begin
        self._step = step
        self._tracks: dict[int, _Track] = {}
        self._held: list[av.Packet] = []

    def mend(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Yield all packets in their order, with mended timestamps."""
        for packet in packets:
            yield from self._take(packet)
        while self._held:
            yield from self._release(None)

    def _take(self, packet: av.Packet) -> Iterator[av.Packet]:
        if self._held:
            self._held.append(packet)
            if packet.stream_index == self._held[0].stream_index:
                yield from self._release(packet)
            elif len(self._held) > MAX_HELD:
                yield from self._release(None)
        elif self._is_odd(packet):
            self._held.append(packet)
        else:
            yield self._mended(packet)

    def _release(self, witness: av.Packet | None) -> Iterator[av.Packet]:
        """Yield the packet that is held, and what came after it."""
        held, self._held = self._held, []
        packet = held[0]
        track = self._tracks[packet.stream_index]
        stamp, duration = self._times(packet)
        is_alone = False
        if witness is not None and stamp is not None:
            following = self._times(witness)[0]
            if following is not None:
                ahead = following + track.offset - track.end
                is_alone = -self._back <= ahead - duration <= STEADY
        if is_alone and stamp is not None:
            by = stamp + track.offset - track.end
            self.jumps.append(by)
            _shift(packet, track.offset - by)
            track.end += duration
            yield packet
        else:
            yield self._mended(packet)
        for later in held[1:]:
            yield from self._take(later)

    def _is_odd(self, packet: av.Packet) -> bool:
        track, (stamp, _) = self._tracks.get(packet.stream_index), self._times(packet)
        if track is None or stamp is None:
            return False
        return not -self._back <= stamp + track.offset - track.end <= STEADY

    def _mended(self, packet: av.Packet) -> av.Packet:
        stamp, duration = self._times(packet)
        track = self._tracks.get(packet.stream_index)
        if stamp is None:
            if track is not None:
                _shift(packet, track.offset)
            return packet
        if track is None:
            shown = stamp if packet.pts is None else packet.pts * (packet.time_base or 1)
            offset = self._offset_of_first(Fraction(shown))
            now = stamp + offset
            self._tracks[packet.stream_index] = _Track(now + duration, offset, offset, now)
        else:
            offset = self._offset_of_next(track, stamp)
            if offset != track.offset:
                track.before, track.offset, track.jumped_at = track.offset, offset, stamp + offset
            track.end = stamp + offset + duration
        self._latest = max(self._latest or stamp + offset, stamp + offset)
        _shift(packet, offset)
        return packet

    def _offset_of_first(self, stamp: Fraction) -> Fraction:
        # A file begins when its first picture is shown.
        if self._latest is None:
            return Fraction(0)
        known = [Fraction(0), *(track.offset for track in self._tracks.values())]
        best = min(known, key=lambda offset: abs(stamp + offset - (self._latest or 0)))
        if -self._late <= stamp + best - self._latest <= self._limit:
            return best
        self.jumps.append(stamp + best - self._latest)
        return self._latest - stamp

    def _offset_of_next(self, track: _Track, stamp: Fraction) -> Fraction:
        ahead = stamp + track.offset - track.end
        if -self._back <= ahead <= STEADY:
            return track.offset
        others = [other for other in self._tracks.values() if other is not track]
        known = [other.offset for other in others]
        if track.end - track.jumped_at < MEMORY:
            known.append(track.before)
        fitting = [
            offset
            for offset in known
            if -BACK_UNSURE / 2 <= stamp + offset - track.end <= self._limit
        ]
        if -self._back <= ahead <= self._limit:
            fitting.append(track.offset)
        if fitting:
            return min(fitting, key=lambda offset: abs(stamp + offset - track.end))
        # The first track that comes to a jump decides for all where the recording goes on.
        ends = [other.end for other in others if other.end - track.end <= LIMIT]
        end = max([track.end, *ends])
        self.jumps.append(ahead)
        return end - stamp

    def _times(self, packet: av.Packet) -> tuple[Fraction | None, Fraction]:
        """Return decoding time and duration, in seconds.

        Without a decoding time, a packet does not show whether the clock jumps: presentation times
        go to and fro, by any number of seconds with a slow camera.
        """
        base = packet.time_base or Fraction(1)
        # MP4 has a gap in the duration of the packet before it.
        duration = min(packet.duration * base, STEADY) if packet.duration else self._step
        return None if packet.dts is None else packet.dts * base, duration


def has_common_clock(container: InputContainer, video: Stream) -> bool:
    """Return whether all tracks have to be read to mend the clock of one.

    MP4 has a table of times for each track, in which time only goes forward.
    """
    return not (video.duration and "mp4" in container.format.name.split(","))


def _shift(packet: av.Packet, seconds: Fraction) -> None:
    ticks = round(seconds / (packet.time_base or Fraction(1)))
    if not ticks:
        return
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
