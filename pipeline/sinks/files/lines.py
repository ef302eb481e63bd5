"""A text file that grows line by line and holds whole lines whatever happens."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.disk import MakeRoom, making_room, write_all


class LineFile:
    """Lines appended to a file, or to standard output.

    What is appended reaches the operating system whole and at once, so that another program can
    follow the file and a crash leaves nothing but complete lines. When the disk fills up, what
    found no room is taken back.

    Parameters
    ----------
    path : str or Path
        File to write, created by the first `append`, replaced if it exists; "-" for standard
        output.
    make_room : callable, optional
        Asked for room when the disk is full, see `making_room`.

    Attributes
    ----------
    name : str
        The path, or "standard output".

    Raises
    ------
    SinkError
        From `append` and `close`, if the file cannot be created or written.
    """

    def __init__(self, path: str | Path, make_room: MakeRoom | None = None) -> None:
        self._path = None if str(path) == "-" else Path(path)
        self.name = "standard output" if self._path is None else str(path)
        self._make_room = make_room
        self._fd: int | None = None
        self._size = 0  # bytes of whole lines

    @property
    def is_open(self) -> bool:
        """Whether anything was appended since the beginning or `close`."""
        return self._fd is not None

    def append(self, text: str) -> None:
        """Add lines, each with its line break."""
        if self._fd is None:
            self._fd = self._open()
            self._size = 0
        # No buffer: one system call per frame is cheaper than a flush that comes too late.
        data = text.encode()
        try:
            write_all(self._fd, data, self._make_room)
        except OSError as err:
            if self._path is not None:
                with contextlib.suppress(OSError):  # not a regular file: nothing to take back
                    os.ftruncate(self._fd, self._size)
            raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err
        self._size += len(data)

    def close(self) -> None:
        """Close the file; standard output stays open."""
        fd, self._fd = self._fd, None
        if fd is not None and self._path is not None:
            try:
                os.close(fd)
            except OSError as err:
                raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err

    def _open(self) -> int:
        try:
            if self._path is None:
                sys.stdout.flush()
                return sys.stdout.fileno()
            path, flags = self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            return making_room(lambda: os.open(path, flags, 0o666), self._make_room)
        except FileNotFoundError as err:
            folder = self._path.parent if self._path else ""
            raise SinkError(f"{self.name}: the folder {folder} does not exist") from err
        except OSError as err:
            raise SinkError(f"{self.name}: cannot write: {err.strerror or err}") from err
