"""A recording of a fleet, or a part of one: what is to be done, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from squeezedrive.engines.errors import GpuLost, GpuMemoryError, UserError
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.errors import SinkError, SourceTimeout, StageError, Stuck
from squeezedrive.pipeline.core.source import VideoPart

ExitKind = Literal["done", "bad file", "fault", "infrastructure"]
"""How a file ended: done; it cannot be read; a fault of the program; or one of disk, network,
memory or machine, with which the same file may well succeed another time."""


@dataclass(frozen=True)
class Job:
    """A recording or a part of one, and when its results are out of date.

    Attributes
    ----------
    name : str
        Its path or URL.
    size : int
        Bytes.
    key : str
        Changes if its results may, see `run_key`.
    part : VideoPart or None
        Which part; None for the whole, or for what has yet to be divided.
    """

    name: str
    size: int
    key: str
    part: VideoPart | None = None

    @property
    def shown(self) -> str:
        """What the recording is called in tables and messages."""
        return readable(self.name)

    @property
    def place(self) -> str:
        """As `FileRow.place`."""
        return place_of(self.shown, None if self.part is None else self.part.number)

    def row(self, tries: int) -> FileRow:
        """Return its row before anything came of it; `tries` is how often it was begun."""
        row = FileRow(self.shown, self.key, self.size, tries=tries)
        row.take(self.part)
        return row

    def others(self, parts: Iterable[VideoPart]) -> list[Job]:
        """Return parts of the same recording."""
        return [replace(self, part=part) for part in parts]


@dataclass
class FileRow:
    """A row of the table of files; `tries` and what follows it differ from run to run.

    Attributes
    ----------
    source : str
        As `Job.shown`.
    key : str
        As `Job.key`.
    size : int
        Bytes of the whole recording.
    part : int or None
        Which part of the recording it is about, from 1; None for the whole.
    parts : int
        Into how many parts the recording is divided.
    exit_kind : str
        How it ended, see `ExitKind`.
    stage, message : str or None
        Where it failed, and how, in one line: "fetch", "open", a stage of the pipeline, "commit",
        or "worker", whose process ended. None if it did not.
    width, height : int
        Of the picture, in pixels; 0 if it could not be opened.
    frames : int
        Frames in the results.
    skipped : int
        Frames that were damaged.
    video_seconds : float
        From the first to the last frame.
    detections, events : int
        Rows of the other tables.
    warnings : list of str
        What was not as it should be.
    tries : int
        How often it was begun.
    seconds : float
        Spent on the last try.
    finished : float
        When it ended, in seconds since 1970.
    host : str
        Which machine did it.
    following : list of Job
        The other parts of the recording, if this is the first; in no column of the table.
    """

    source: str
    key: str
    size: int
    part: int | None = None
    parts: int = 1
    exit_kind: ExitKind = "done"
    stage: str | None = None
    message: str | None = None
    width: int = 0
    height: int = 0
    frames: int = 0
    skipped: int = 0
    video_seconds: float = 0.0
    detections: int = 0
    events: int = 0
    warnings: list[str] = field(default_factory=list)
    tries: int = 1
    seconds: float = 0.0
    finished: float = 0.0
    host: str = ""
    following: list[Job] = field(default_factory=list)

    @property
    def place(self) -> str:
        """What its part of each table is called below the table's folder, without ".parquet".

        That is its whole path, which neither depends on other files nor is that of another one. A
        part of a recording is in a folder of that name.
        """
        return place_of(self.source, self.part)

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return self.source if self.part is None else f"{self.source}, part {self.part}"

    @property
    def is_final(self) -> bool:
        """Whether doing it again would give the same."""
        return self.exit_kind != "infrastructure"

    def take(self, part: VideoPart | None) -> None:
        """Note which part of the recording it is about."""
        if part is not None:
            self.part, self.parts = part.number, part.count

    def fail(self, kind: ExitKind, stage: str, message: str) -> None:
        """Note a failure; its message becomes one line, without the file's name before it."""
        line = " ".join(message.split()).removeprefix(f"{self.source}: ")
        self.exit_kind, self.stage, self.message = kind, stage, line


def place_of(shown: str, part: int | None = None) -> str:
    """Return what the rows of a recording or a part of it are called, see `FileRow.place`."""
    scheme, mark, path = shown.partition("://")
    place = f"{scheme}/{path}" if mark else f"file/{shown.lstrip('/')}"
    return place if part is None else f"{place}/part-{part:05}"


def kind_of(error: BaseException) -> ExitKind:
    """Say what is to blame for an error while a file was read or its results were written."""
    if isinstance(error, StageError) and error.__cause__ is not None:
        return kind_of(error.__cause__)
    if isinstance(error, SourceTimeout | SinkError | Stuck | GpuLost | GpuMemoryError):
        return "infrastructure"
    if isinstance(error, UserError):
        return "bad file"
    return "infrastructure" if isinstance(error, OSError | MemoryError) else "fault"
