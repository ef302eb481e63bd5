"""MP4 files made of encoded pictures, readable even if their end is missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from squeezedrive.pipeline.core.boxes import rename_entries
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.source import DEFAULT_FPS, Source
from squeezedrive.pipeline.sinks.disk import MakeRoom, SyncedFile
from squeezedrive.pipeline.sinks.recordings.audio import AudioTracks
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture
from squeezedrive.pipeline.sinks.recordings.identity import chapters_between, describe_output
from squeezedrive.pipeline.sinks.recordings.side_tracks import SideTracks
from squeezedrive.pipeline.sinks.recordings.sound_reader import SoundReader

FRAGMENT_SECONDS = Fraction(1, 2)
# While it is written, the file is a row of fragments that each can be played; closing makes it a
# plain MP4. `delay_moov` and `use_editlist` keep the time at which each track begins;
# `use_metadata_tags` keeps metadata that MP4 has no name of its own for, such as the camera's make.
MUXER = {
    "movflags": "hybrid_fragmented+delay_moov+use_metadata_tags",
    "frag_duration": str(round(FRAGMENT_SECONDS * av.time_base)),
    "use_editlist": "1",
    "avoid_negative_ts": "disabled",
    # Sound that pauses may not keep the picture in memory.
    "max_interleave_delta": str(av.time_base),
}


class Mp4File:
    """An MP4 file that browsers play, with the other tracks of the source file.

    If the process is killed, or power is lost, the file can be played up to a second or so before
    that moment; likewise if it cannot be written to its end.

    Parameters
    ----------
    path : Path
        The file; it is replaced if it exists.
    template : VideoStream
        The encoder's stream. Packets are copied, so that several files can take the same.
    source : Source
        Where the pictures come from: its clock, what it says of its recording, and the file with
        its other tracks, see `AudioTracks` and `SideTracks`.
    zero : int
        The time of the source, in units of its time base, that is 0:00 in the file.
    began : Fraction, optional
        When the source's clock was at 0, in seconds since 1970, see `RecordingClock`.
    make_room : callable, optional
        Asked for room when the disk is full, see `making_room`.

    Attributes
    ----------
    frames : int
        Pictures taken.
    safe : int
        How many of them are in the file for certain if its end cannot be written.

    Raises
    ------
    SinkError
        From everything, if the file cannot be created or written. The file is closed then, and
        what was written before can be played.
    """

    def __init__(
        self,
        path: Path,
        template: VideoStream,
        source: Source,
        zero: int,
        began: Fraction | None = None,
        make_room: MakeRoom | None = None,
    ) -> None:
        info = source.info
        self.path = path
        self.frames = 0
        self.safe = 0
        self.closed = False
        self._own_warnings: list[str] = []
        self._zero = zero
        self._time_base = info.time_base
        self._end = Fraction(0)
        # Up to the end of the last whole fragment; None once the file is a plain MP4.
        self._whole_bytes: int | None = 0
        self._audio: AudioTracks | None = None
        self._side: SideTracks | None = None
        self._chapters = info.identity.chapters
        try:
            self._file = SyncedFile(path, make_room)
        except OSError as error:
            self.closed = True
            raise _unwritable(path, error) from error
        # Where a track begins is stored in the movie's time scale: make it that of the pictures.
        options = {**MUXER, "movie_timescale": str(_track_timescale(info.time_base))}
        self._output = av.open(self._file, "w", format="mp4", container_options=options)
        self._stream = self._output.add_stream_from_template(template)
        self._output.metadata.update(describe_output(info, began, zero))
        if info.location is not None:
            try:
                begin = (zero - info.origin) * info.time_base
                time = zero * info.time_base
                step = 1 / (info.fps or DEFAULT_FPS)
                reader = SoundReader(info.location, time, step, source.report.jumps > 0, info.track)
                self._audio = AudioTracks(reader, self._output, time, begin)
            except FFmpegError as error:
                self._own_warnings.append(f"{info.name}: audio cannot be read: {error.strerror}")
            except Exception as error:  # whatever is wrong with a sound costs no picture
                self._own_warnings.append(f"{info.name}: audio cannot be read: {error}")
        if info.location is not None and info.identity.side_tracks:
            time = zero * info.time_base
            try:
                self._side = SideTracks(info.location, info.path, self._output, time)
            except (FFmpegError, OSError) as error:
                reason = error.strerror or str(error)
                self._own_warnings.append(f"{info.name}: subtitles and data: {reason}")

    @property
    def warnings(self) -> list[str]:
        """One line for everything that could not be carried over."""
        tracks = (self._audio, self._side)
        return self._own_warnings + [w for t in tracks if t is not None for w in t.warnings]

    def write(self, picture: EncodedPicture) -> None:
        """Add a picture."""
        packet = av.Packet(picture.data)
        packet.stream = self._stream
        packet.pts = packet.dts = picture.pts - self._zero
        packet.duration = picture.duration
        packet.time_base = self._time_base
        packet.is_keyframe = picture.is_key
        self._end = (packet.pts + picture.duration) * self._time_base
        writes = self._file.writes
        try:
            if self._audio is not None:
                self._audio.write_until(self._end)
            if self._side is not None:
                self._side.write_until(self._end)
            self._output.mux(packet)
        except (OSError, FFmpegError) as error:
            raise self.abandon(error) from error
        if self._file.writes != writes and self.frames:  # not the header alone
            # A fragment ends before the picture that begins the next, and is written at once.
            self.safe = self.frames
            self._whole_bytes = self._file.tell()
        self.frames += 1

    def close(self) -> None:
        """Finish the file; does nothing if it is closed."""
        if self.closed:
            return
        try:
            if self._audio is not None:
                self._audio.finish(self._end)
            if self._side is not None:
                self._side.finish(self._end)
            zero = self._zero * self._time_base
            self._output.set_chapters(chapters_between(self._chapters, zero, self._end))
            self._output.close()
            if self._side is not None and self._side.kinds:
                rename_entries(self.path, self._side.kinds)
            self._whole_bytes = None
            self._file.sync()
            self._file.close()
        except (OSError, FFmpegError) as error:
            raise self.abandon(error) from error
        self.closed = True
        self.safe = self.frames

    def abandon(self, error: OSError | FFmpegError) -> SinkError:
        """Leave the file as it is on disk, and return what says why."""
        self.closed = True
        if self._whole_bytes:  # half of the first fragment is better than nothing
            self._file.cut(self._whole_bytes)  # players stumble over half of a later one
        # PyAV writes no trailer to a file that is closed already. A trailer that fails half way
        # would take what can be played with it.
        self._file.close()
        self._output.close()
        for tracks in (self._audio, self._side):
            if tracks is not None:
                tracks.close()
        return _unwritable(self.path, error)


def _unwritable(path: Path, error: OSError | FFmpegError) -> SinkError:
    reason = error.strerror or str(error)
    return SinkError(f"{path}: cannot be written: {reason}")


def _track_timescale(time_base: Fraction) -> int:
    """Return the time scale FFmpeg's MP4 muxer gives a track: a multiple, at least 10,000."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale
