"""One recording of a fleet: what is to be done, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from squeezedrive.engines.errors import GpuLost, GpuMemoryError, UserError
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.errors import SinkError, SourceTimeout, StageError, Stuck

ExitKind = Literal["done", "bad file", "fault", "infrastructure"]
"""How a file ended: done; it cannot be read; a fault of the program; or one of disk, network,
memory or machine, with which the same file may well succeed another time."""


@dataclass(frozen=True)
class Job:
    """A recording, and when its results are out of date.

    Attributes
    ----------
    name : str
        Its path or URL.
    size : int
        Bytes.
    key : str
        Changes if its results may, see `run_key`.
    """

    name: str
    size: int
    key: str

    @property
    def shown(self) -> str:
        """What it is called in tables and messages."""
        return readable(self.name)


@dataclass
class FileRow:
    """A row of the table of files; the last four differ from run to run.

    Attributes
    ----------
    source : str
        As `Job.shown`.
    key : str
        As `Job.key`.
    size : int
        Bytes.
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
    """

    source: str
    key: str
    size: int
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

    @property
    def place(self) -> str:
        """What its parts are called below the folder of each table, without ".parquet".

        That is its whole path, which neither depends on other files nor is that of another one.
        """
        return place_of(self.source)

    @property
    def is_final(self) -> bool:
        """Whether doing it again would give the same."""
        return self.exit_kind != "infrastructure"

    def fail(self, kind: ExitKind, stage: str, message: str) -> None:
        """Note a failure; its message becomes one line, without the file's name before it."""
        line = " ".join(message.split()).removeprefix(f"{self.source}: ")
        self.exit_kind, self.stage, self.message = kind, stage, line


def place_of(shown: str) -> str:
    """Return what the parts of a file are called, see `FileRow.place`."""
    scheme, mark, path = shown.partition("://")
    return f"{scheme}/{path}" if mark else f"file/{shown.lstrip('/')}"


def kind_of(error: BaseException) -> ExitKind:
    """Say what is to blame for an error while a file was read or its results were written."""
    if isinstance(error, StageError) and error.__cause__ is not None:
        return kind_of(error.__cause__)
    if isinstance(error, SourceTimeout | SinkError | Stuck | GpuLost | GpuMemoryError):
        return "infrastructure"
    if isinstance(error, UserError):
        return "bad file"
    return "infrastructure" if isinstance(error, OSError | MemoryError) else "fault"
