"""The interface of all sources of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from squeezedrive.engines.backends.video_decoder import DecoderRefused, OpenDecoder
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.gps import GpsTrack
from squeezedrive.pipeline.core.identity import Identity

DEFAULT_FPS = Fraction(25)  # where neither source nor user give a rate

NEARLY_SQUARE = Fraction(1, 50)  # pixels that differ less from a square count as one

SourceKind = Literal["file", "images", "camera", "stream", "demo"]
ConnectionState = Literal["connecting", "connected", "stalled", "reconnecting", "given up"]


@dataclass(frozen=True)
class SourceInfo:
    """What is known about a source before its first frame.

    Attributes
    ----------
    name : str
        How the user named it, without passwords; safe to log.
    kind : str
        What sort of source it is.
    width, height : int
        Size of the upright picture in pixels; 0 where it is not known before the first frame.
    fps : Fraction or None
        Nominal frame rate; None where the source does not say.
    frames : int or None
        How many frames to expect, for progress only; None where it is not known.
    time_base : Fraction
        Seconds per unit of pts.
    origin : int
        The pts, in `time_base` units, that is 0:00 in an output made from this source: where the
        container starts, or where `--start` asked to start.
    path : Path or None
        The media file behind the source; None where there is none.
    location : str or None
        What FFmpeg opens to read the source once more, for its audio tracks: "file:" and a path,
        or a URL, which may hold a password; None for what can be read once only.
    track : int or None
        Place of the video track among all tracks of the file, for whoever reads it once more; None
        for the one that players show.
    inputs : tuple of Path
        The files that are read, which no output may replace.
    stem : Path
        Where an output lies if the user does not say, without its suffix.
    sample_aspect : Fraction
        Width of a pixel over its height, when the upright picture is shown. Pictures and boxes
        are in pixels as they are stored, whatever their shape; see `pixel_aspect`.
    primaries, transfer : int
        Colour primaries and transfer characteristics of the pixels, code points of
        ISO/IEC 23091-2; 1 is BT.709 for both.
    identity : Identity
        What a file holds about its recording.
    gps : str
        What its positions were read from; "" where there are none.
    """

    name: str
    kind: SourceKind
    width: int
    height: int
    fps: Fraction | None
    frames: int | None
    time_base: Fraction
    origin: int = 0
    path: Path | None = None
    location: str | None = field(default=None, repr=False)
    track: int | None = None
    inputs: tuple[Path, ...] = ()
    stem: Path = Path("output")
    sample_aspect: Fraction = Fraction(1)
    primaries: int = 1
    transfer: int = 1
    identity: Identity = field(default=Identity(), repr=False)
    gps: str = ""

    @property
    def pixel_aspect(self) -> Fraction:
        """`sample_aspect`, or 1 if it is so near that the difference is invisible.

        Programs that scale videos leave such ratios behind when they round to whole pixels.
        """
        return Fraction(1) if abs(self.sample_aspect - 1) < NEARLY_SQUARE else self.sample_aspect

    @property
    def live(self) -> bool:
        """Whether frames come at the source's own pace and are lost if not read in time."""
        return self.kind in ("camera", "stream")

    def describe(self) -> str:
        """Return kind, size, frame rate and length as text."""
        parts: list[str] = [self.kind]
        if self.width and self.height:
            parts.append(f"{self.width}x{self.height}")
        if self.fps is not None:
            parts.append(f"{float(self.fps):.4g} fps")
        if self.frames is not None:
            parts.append(f"{self.frames} frames")
        return ", ".join(parts)


@dataclass
class SourceReport:
    """The events in a source, noted while it is read.

    Attributes
    ----------
    skipped : Counter
        Frames that were in the source but could not be passed on, by reason ("corrupt").
    warnings : list of str
        One line each, for the user, in the order they came up; every line only once.
    jumps : int
        How often a file's clock has jumped so far.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    jumps: int = 0

    def warn(self, line: str) -> None:
        """Add a line unless it is there already."""
        if line not in self.warnings:
            self.warnings.append(line)


@dataclass(frozen=True)
class SourceState:
    """The state of a live source at one moment; immutable, so that any thread may read it.

    Attributes
    ----------
    condition : str
        "connecting" until there was a picture, "connected" while they come, "stalled" when none
        comes though the connection stands, "reconnecting" while it is opened again, "given up".
    since : float
        When that began, in seconds of `time.monotonic`.
    last_picture : float or None
        When the last picture came, in seconds of `time.monotonic`.
    reconnects : int
        How often pictures came again over a new connection.
    last_error : str or None
        The error of the last attempt or connection, without passwords.
    """

    condition: ConnectionState
    since: float
    last_picture: float | None = None
    reconnects: int = 0
    last_error: str | None = None


class Source(ABC):
    """A sequence of frames that is read once, by one thread.

    Attributes
    ----------
    info : SourceInfo
        What is known of it.
    gps : GpsTrack or None
        Its positions, if they are known.
    """

    info: SourceInfo
    gps: GpsTrack | None = None

    def __init__(self) -> None:
        self._report = SourceReport()

    def follow(self, track: GpsTrack) -> None:
        """Set the track of positions of this source."""
        self.gps = track
        self.info = replace(self.info, gps=track.origin)

    @property
    def report(self) -> SourceReport:
        """The events so far."""
        return self._report

    @property
    def state(self) -> SourceState | None:
        """The state of a live source, for any thread; None for one that is not reconnected."""
        return None

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame, or None at the end.

        Never blocks for longer than the read time-out given when the source was opened, unless
        `interrupt` ends every wait at once.

        Raises
        ------
        SourceError
            If the source fails for good.
        SourceTimeout
            If it stops answering.
        """

    def interrupt(self) -> None:
        """End every wait now and for good; may be called from any thread.

        By default nothing happens: a wait ends with its time-out.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Release files, devices and connections; may be called more than once."""

    def on_device(self, open_decoder: OpenDecoder) -> Source:
        """Return this source, which nothing was read from yet, with a decoder on the device.

        This one is closed then.

        Raises
        ------
        DecoderRefused
            If there is no decoder for this source, which can still be read.
        """
        raise DecoderRefused("it is not a video file")

    def stem(self, frame_id: int) -> str:
        """Return the name, without suffix, of a file that belongs to a frame."""
        return f"{frame_id:06d}"


@dataclass(frozen=True)
class VideoPart:
    """A part of a video file that is read alone, with the same frames as in a run of the whole.

    Attributes
    ----------
    number, count : int
        Which part it is, from 1, and of how many.
    begin, end : int
        The pts of its first frame, and that of the first frame after it, in the units of the file;
        `end` is None for the last part.
    first : int
        Number of its first frame, counted from the beginning of the file.
    frames : int
        How many frames it has.
    """

    number: int
    count: int
    begin: int
    end: int | None
    first: int
    frames: int


@dataclass(frozen=True)
class SourceOptions:
    """How to open a source.

    Attributes
    ----------
    source_id : int
        Written into every frame.
    fps : Fraction or None
        Frame rate of images and of files without timestamps; None for 25.
    start : float
        Seconds to skip at the beginning.
    open_timeout, read_timeout : float
        Seconds after which a device or connection that does not answer is given up.
    track_index : int or None
        Which of several video tracks, counted from 0; None for the one that players show.
    part : VideoPart or None
        Which part of a video file, with `start` 0; None for the whole.
    """

    source_id: int = 0
    fps: Fraction | None = None
    start: float = 0.0
    open_timeout: float = 10.0
    read_timeout: float = 5.0
    track_index: int | None = None
    part: VideoPart | None = None
