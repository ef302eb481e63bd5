"""Demux and decode one video track, beyond its damaged parts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import EOFError as FFmpegEOFError
from av.error import ExitError, FFmpegError, InvalidDataError, ProtocolNotFoundError
from av.error import TimeoutError as FFmpegTimeoutError
from av.stream import Discard, Disposition

from squeezedrive.pipeline.core.continuity import (
    GENERATE_PTS,
    MAY_JUMP,
    Continuity,
    has_common_clock,
)
from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.device import DeviceFrame, DeviceTrack
from squeezedrive.pipeline.sources.groups import from_key_frame
from squeezedrive.pipeline.sources.names import STREAM, redact, shown
from squeezedrive.pipeline.sources.pipe import Pipe, is_pipe
from squeezedrive.pipeline.sources.tracks import choose_track

AnyFrame = av.VideoFrame | DeviceFrame

# Over TCP no packets are lost. FFmpeg would look at 20 frames to learn the frame rate, and wait
# for what the sender announces but does not send: audio that is switched off. It keeps what it has
# seen, so that the picture starts with a key frame.
STREAM_OPTIONS = {
    "rtsp_transport": "tcp",
    "fpsprobesize": "0",
    "analyzeduration": "2000000",
    "overrun_nonfatal": "1",  # UDP that was not read in time: packets are lost, the stream goes on
}
# Demuxers can go on after a damaged part; one that reports nothing but damage has reached the end.
MAX_DAMAGED_READS = 16
# A key frame is looked for this much ahead of a start: its decoding time may lie before it.
SEEK_MARGIN = Fraction(1, 4)
MAX_AHEAD = 1000  # packets of other tracks
# Decoders of these codecs show every picture they are given, unless it or what it is predicted
# from is damaged. Others have packets without a picture of their own.
ONE_PICTURE_PER_PACKET = frozenset({"h264", "hevc"})


class Decoder:
    """One video track of a file or stream, frame by frame.

    Parameters
    ----------
    location : str
        Path of a file, or a URL.
    options : SourceOptions
        Time-outs, and which track.
    track : DeviceTrack, optional
        Decodes in place of FFmpeg.

    Attributes
    ----------
    container : av.container.InputContainer
        The open file or stream.
    stream : av.VideoStream
        Its video track.
    url : str
        What FFmpeg opens, unless it is a pipe.
    is_url : bool
        Whether it is read over a network.
    is_pipe : bool
        Whether it can be read only once, from its beginning to its end.
    jumps : list of (int, Fraction)
        Jumps of its clock that were closed, and that were not taken off the list yet: the pts at
        which it goes on, and by how many seconds the clock was ahead, or back if negative.
    has_jumped : bool
        Whether there were any.
    latest : Fraction
        The end of what was read of any track, in seconds of the mended clock.

    Raises
    ------
    SourceError
        If there is no video in it that can be read.
    SourceTimeout
        If a stream does not answer in time.
    """

    def __init__(
        self, location: str, options: SourceOptions, track: DeviceTrack | None = None
    ) -> None:
        self._track = track
        self.is_url = STREAM.match(location) is not None
        self._name = shown(location)
        # "file:" keeps FFmpeg from taking a colon in a file name for a protocol.
        self.url = location if self.is_url else f"file:{location}"
        self._pipe = None if self.is_url or not is_pipe(location) else Pipe(location)
        self._options = options
        self._begin: int | None = None
        self._step: Fraction | None = None  # of a packet, where the clock is mended
        self._continuity: Continuity | None = None
        self._ahead: deque[av.Packet] = deque()  # read to see where a seek has led
        self.jumps: list[tuple[int, Fraction]] = []
        self.has_jumped = False
        self.latest = Fraction(0)
        self._last: int | None = None  # pts of the last frame
        self._asked_at = self._good_at = time.monotonic()  # when FFmpeg was; when a picture came
        # Frame threads decode several frames at once, but hold as many back.
        self._frame_threads = not self.is_url and not self.is_pipe
        try:
            self.container, self.stream = self._open()
        except BaseException:
            self._close_pipe()
            raise

    @property
    def is_pipe(self) -> bool:
        """Whether it can be read only once, from its beginning to its end."""
        return self._pipe is not None

    def mend_clock(self, step: Fraction) -> None:
        """Close jumps of the clock, see `Continuity`; `step` is a nominal frame in seconds."""
        self._step = step
        begin = self.container.start_time
        self._follow(None if begin is None else Fraction(begin, av.time_base))

    def skip_to(self, pts: int) -> None:
        """Begin with the first frame that is shown at `pts` or later.

        What has no index of its key frames is read from its beginning, and so is a file in which
        looking for the key frame before `pts` leads elsewhere. A pipe and what is live go on.
        """
        self._begin = pts
        if self.is_pipe or (self.is_url and self._step is None):
            return
        if self.has_jumped or self.container.format.flags & MAY_JUMP or not self._seek(pts):
            self.container.close()
            self.container, self.stream = self._open()
            if self._step is not None:
                self.mend_clock(self._step)

    def _seek(self, pts: int) -> bool:
        """Go to the key frame before `pts`; return whether that is where reading goes on."""
        margin = round(SEEK_MARGIN / (self.stream.time_base or 1))
        try:
            self.container.seek(pts - margin, stream=self.stream)
            self._follow(None)
            for packet in self._demuxed():
                self._ahead.append(packet)
                if packet.stream_index == self.stream.index:
                    stamp = packet.dts if packet.pts is None else packet.pts
                    return packet.is_keyframe and stamp is not None and stamp <= pts
                if len(self._ahead) > MAX_AHEAD:
                    return False
        except FFmpegError:
            pass
        return False

    def _follow(self, begin: Fraction | None) -> None:
        """Watch the clock from here on, in all tracks that have one."""
        self._ahead.clear()
        if self._step is None:
            return
        self._continuity = Continuity(self.container, begin, self._step)
        if has_common_clock(self.container, self.stream):
            for other in self.container.streams:
                if not other.disposition & Disposition.attached_pic:
                    other.discard = Discard.default

    def frames(self) -> Iterator[AnyFrame | None]:
        """Yield every frame once, in the order of display, and None in place of a damaged one.

        Raises DecoderRefused if the device fails that decodes.

        Damaged is what cannot be decoded and what FFmpeg marks as such. A frame that is predicted
        from a damaged one cannot be told from a good one.
        """
        packets = shown = 0
        interlaced = False
        self._good_at = time.monotonic()
        for packet in self.packets():
            stamp = packet.dts if packet.pts is None else packet.pts
            counts = self._wanted(stamp) and not packet.is_discard
            packets += counts
            try:
                decoded = self._decode(packet)
            except FFmpegError:
                if counts:
                    shown += 1
                    yield None
                continue
            for frame in self._stamped(decoded):
                shown += 1
                interlaced = interlaced or frame.interlaced_frame
                yield None if frame.is_corrupt else frame
                if not frame.is_corrupt:
                    self._good_at = time.monotonic()
        for tail in self._drain():
            shown += 1
            yield tail
        # H.265 above all drops frames without a word. Two fields in two packets are one picture,
        # and a stream is joined at any picture.
        codec = self.stream.codec_context.name
        if codec in ONE_PICTURE_PER_PACKET and not interlaced and not self.is_url:
            for _ in range(packets - shown):
                yield None

    def interrupt(self) -> None:
        """End the wait for a pipe now and for good; may be called from any thread."""
        if self._pipe is not None:
            self._pipe.interrupt()

    def close(self) -> None:
        """Close the file, pipe or connection."""
        self.container.close()
        self._close_pipe()
        if self._track is not None:
            self._track.close()

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

    def _decode(self, packet: av.Packet | None) -> Sequence[AnyFrame]:
        return (self._track or self.stream).decode(packet)

    def _open(self) -> tuple[InputContainer, av.VideoStream]:
        options = self._options
        self._asked_at = time.monotonic()
        try:
            container = av.open(
                self.url if self._pipe is None else self._pipe,
                "r",
                options=STREAM_OPTIONS if self.is_url else None,
                timeout=None if self.is_pipe else (options.open_timeout, options.read_timeout),
                metadata_errors="replace",
            )
        except (InvalidDataError, FFmpegEOFError):
            self._check_timeout(options.open_timeout)
            raise SourceError(
                f"{self._name}: expected a video, found nothing that FFmpeg can read; it may be"
                " empty, something else, or cut off before its index was written"
            ) from None
        except ProtocolNotFoundError:
            raise SourceError(
                f"{self._name}: FFmpeg as it comes with PyAV lacks this kind of stream; another"
                " FFmpeg can read it: ffmpeg -i URL -c copy -f mpegts - | squeezedrive -"
            ) from None
        except FFmpegError as error:
            raise self._failure(error, options.open_timeout) from None
        try:
            stream = choose_track(container, options.track_index, self._name)
        except SourceError:
            container.close()
            raise
        # "tty" is how FFmpeg shows a text.
        if stream.codec_context is None or container.format.name == "tty":
            container.close()
            raise SourceError(f"{self._name}: has no video that FFmpeg can decode")
        # PyAV has FFmpeg make up missing timestamps. With H.264 in AVI they are wrong; in
        # MPEG-PS, where only some are there, it does not.
        if container.format.name != "mpeg":
            container.flags &= ~GENERATE_PTS
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        stream.thread_type = "AUTO" if self._frame_threads else "SLICE"
        return container, stream

    def _wanted(self, pts: int | None) -> bool:
        return self._begin is None or pts is None or pts >= self._begin

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the video, from the key frame on that it begins with."""
        packets = self._all_packets()
        if self._continuity is not None:
            packets = self._continuity.mend(self._timed(packets))
        packets = (packet for packet in packets if packet.stream_index == self.stream.index)
        if self._begin is not None and self._step is not None:
            packets = from_key_frame(packets, self._begin)
        for packet in packets:
            if self._continuity is not None and self._continuity.jumps:
                self.has_jumped = True
                stamp = packet.dts if packet.pts is None else packet.pts
                self.jumps += [(stamp or 0, seconds) for seconds in self._continuity.jumps]
                self._continuity.jumps.clear()
            yield packet
            self._check_pictures()

    def _timed(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Note the latest time of all tracks; yield the packets of tracks whose clock is mended."""
        for packet in packets:
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                end = (stamp + (packet.duration or 0)) * (packet.time_base or 1)
                self.latest = max(self.latest, Fraction(end))
            if packet.stream_index == self.stream.index or packet.stream.type == "audio":
                yield packet

    def _all_packets(self) -> Iterator[av.Packet]:
        damaged = 0
        while damaged < MAX_DAMAGED_READS:
            self._asked_at = time.monotonic()
            try:
                for packet in self._demuxed():
                    # The last packet before a silence comes out when FFmpeg gives up waiting.
                    self._check_timeout(self._options.read_timeout)
                    damaged = 0
                    yield packet
                    self._asked_at = time.monotonic()
                return
            except InvalidDataError:
                self._check_timeout(self._options.read_timeout)
                damaged += 1
            except FFmpegError as error:
                raise self._failure(error, self._options.read_timeout) from None

    def _demuxed(self) -> Iterator[av.Packet]:
        while self._ahead:
            yield self._ahead.popleft()
        tracks = [s for s in self.container.streams if s.discard != Discard.all]
        for packet in self.container.demux(tracks):
            if packet.size:  # an empty one would end decoding
                yield packet

    def _stamped(self, frames: Sequence[AnyFrame]) -> Iterator[AnyFrame]:
        """Yield the frames that are wanted, with a pts if there is a way to know it."""
        for frame in frames:
            if frame.pts is None and frame.dts is not None:
                # AVI stores frames in the order of decoding: the decoder's delay comes on top.
                frame.pts = frame.dts - self.stream.codec_context.reorder_depth * frame.duration
            elif frame.pts is None and self._last is not None and frame.duration:
                frame.pts = self._last + frame.duration
            if self._wanted(frame.pts):
                self._last = frame.pts
                yield frame

    def _drain(self) -> Iterator[AnyFrame | None]:
        """Yield the frames that the decoder still holds at the end."""
        try:
            decoded = self._decode(None)
        except FFmpegError:
            # PyAV loses all frames that the decoder holds if one of them is damaged. Without
            # frame threads it never holds a damaged one: decode them again.
            if not self._frame_threads or self._last is None:
                yield None
                return
            self.container.close()
            self._frame_threads = False
            self.container, self.stream = self._open()
            self.skip_to(self._last + 1)
            yield from self.frames()
            return
        for frame in self._stamped(decoded):
            yield None if frame.is_corrupt else frame

    def _failure(self, error: FFmpegError, timeout: float) -> SourceError:
        # The error itself is not chained: it shows the URL with its password.
        if isinstance(error, (ExitError, FFmpegTimeoutError)):
            return self._no_answer(timeout)
        return SourceError(f"{self._name}: {redact(error.strerror or str(error))}")

    def _check_timeout(self, timeout: float) -> None:
        # FFmpeg's RTSP client calls what it did not receive in time invalid.
        if self.is_url and time.monotonic() - self._asked_at >= timeout:
            raise self._no_answer(timeout) from None

    def _check_pictures(self) -> None:
        # A stream is joined between two key frames, which can be far apart.
        patience = self._options.open_timeout + self._options.read_timeout
        if self.is_url and self._begin is None and time.monotonic() - self._good_at > patience:
            raise SourceTimeout(
                f"{self._name}: sends data, but no picture could be decoded for {patience:g} s"
            )

    def _no_answer(self, timeout: float) -> SourceTimeout:
        return SourceTimeout(f"{self._name}: no answer within {timeout:g} s")
