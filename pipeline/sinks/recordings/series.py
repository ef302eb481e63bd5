"""Write files one after another; a file that cannot be written does not end the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.recordings.archive import Archive, SegmentLabel, utc

log = logging.getLogger("squeezedrive")

RETRY_SECONDS = 5.0

Item = TypeVar("Item", contravariant=True)


class SeriesFile(Protocol[Item]):
    """One of the files.

    Attributes
    ----------
    frames, safe : int
        Frames taken, and how many of them can be read even if the file ends here.
    """

    frames: int

    @property
    def warnings(self) -> list[str]:
        """One line for everything that is not as it should be in the file."""

    @property
    def safe(self) -> int:
        """How many frames can be read even if the file ends here."""

    def write(self, item: Item) -> None:
        """Add a frame."""

    def close(self) -> None:
        """Finish the file; does nothing if it has failed."""


class Series(Generic[Item]):
    """Write frames to files, one for each label.

    A file that cannot be written stays as it is, and a new one is tried every few seconds; frames
    that come meanwhile are counted.

    Parameters
    ----------
    what : str
        What the files are, for messages.
    archive : Archive
        Names the files and deletes old ones.
    open_file : callable
        Opens a file that begins with the frame given; both this and the file raise `SinkError`.
    name : callable
        Names the file of a label.
    numbers : iterator of int
        Of files that go on where another has failed.
    taken_at : callable
        Dates the first frame of such a file, in seconds since 1970.

    Attributes
    ----------
    lost : int
        Frames that are in no file.
    path : Path or None
        The first file written for the last label.
    """

    def __init__(
        self,
        what: str,
        archive: Archive,
        open_file: Callable[[Path, Item], SeriesFile[Item]],
        name: Callable[[SegmentLabel], Path],
        numbers: Iterator[int],
        taken_at: Callable[[Item], float],
    ) -> None:
        self.lost = 0
        self.path: Path | None = None
        self._problem = "they came before a key frame"
        self._failing = False
        self._what = what
        self._archive = archive
        self._open_file = open_file
        self._name = name
        self._numbers = numbers
        self._taken_at = taken_at
        self._label: SegmentLabel | None = None
        self._number: int | None = None  # of the file that goes on where one has failed
        self._file: SeriesFile[Item] | None = None
        self._current: Path | None = None
        self._retry_at = 0.0
        self._warnings: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """What was not as it should be in the files; every line only once."""
        if not self.lost:
            return self._warnings
        return [*self._warnings, f"{self._what}: {self.lost} frames are not in it: {self._problem}"]

    def write(self, item: Item, label: SegmentLabel, is_start: bool = True) -> None:
        """Add a frame.

        Parameters
        ----------
        item
            The frame.
        label : SegmentLabel
            Of the file it belongs to; another label than before ends the last file.
        is_start : bool
            Whether a file can begin with it.
        """
        if label is not self._label:
            self.close()
            self._label, self._number = label, None
            self._retry_at = 0.0
            self.path = None
        if self._file is None and (not is_start or time.monotonic() < self._retry_at):
            self.lost += 1
            return
        try:
            if self._file is None:
                self._file = self._open(item, label)
            self._file.write(item)
        except SinkError as error:
            self.lost += 1
            self._fail(error)

    def close(self) -> None:
        """Finish the file."""
        if self._file is None:
            return
        try:
            self._file.close()
        except SinkError as error:
            self._fail(error)
        else:
            if self._failing:
                log.info("%s: can be written again", self._current)
            self._failing = False
            self._forget_file()
            self._archive.tidy()

    def _open(self, item: Item, label: SegmentLabel) -> SeriesFile[Item]:
        if self._current is not None:  # until now the newest file, whatever the limit
            self._archive.release(self._current)
        self._archive.tidy()
        if self._retry_at:  # it begins later than planned
            number = label.number if self._number is None else self._number
            label = replace(label, number=number, time=utc(self._taken_at(item)))
        path = self._name(label)
        self._archive.protect(path)
        self._current = path
        file = self._open_file(path, item)
        self.path = self.path or path
        return file

    def _fail(self, error: SinkError) -> None:
        if not self._failing:  # a disk that stays full is worth one line
            log.warning("%s; tried again every %.0f s", error, RETRY_SECONDS)
        self._failing = True
        self._problem = str(error)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        file = self._file
        if file is not None:
            self.lost += file.frames - file.safe
            with suppress(SinkError):
                file.close()
        if self._current is not None and (file is None or file.safe == 0):
            with suppress(OSError):  # nothing can be read in it
                self._current.unlink()
            if self.path == self._current:
                self.path = None
        else:
            self._number = next(self._numbers)
        self._forget_file()

    def _forget_file(self) -> None:
        if self._file is not None:
            self._warnings += [w for w in self._file.warnings if w not in self._warnings]
        self._file = None
