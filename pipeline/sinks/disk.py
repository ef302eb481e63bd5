"""Writing to a disk that may be full, or lose its power."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT)
SYNC_SECONDS = 1.0
# A file system that stays full whatever is deleted must not cost all there is.
MAX_DELETIONS = 8

MakeRoom = Callable[[], bool]


def making_room(action: Callable[[], T], make_room: MakeRoom | None) -> T:
    """Return what `action` returns; while the disk is too full for it, make room and try again.

    Parameters
    ----------
    action : callable
        What needs room.
    make_room : callable or None
        Deletes something and returns True, or returns False if there is nothing left to delete.

    Raises
    ------
    OSError
        What `action` raises, if it is something else or there is no room to be made.
    """
    for _ in range(MAX_DELETIONS):
        try:
            return action()
        except OSError as error:
            if error.errno not in FULL or make_room is None or not make_room():
                raise
    return action()


def write_all(descriptor: int, data: bytes, make_room: MakeRoom | None = None) -> None:
    """Write all of the data to a file, making room for it if need be."""
    rest = memoryview(data)

    def write() -> int:
        return os.write(descriptor, rest)

    while rest:
        rest = rest[making_room(write, make_room) :]


class SyncedFile:
    """A file for the muxer, whose errors appear at once and whose contents survive a power cut.

    Parameters
    ----------
    path : Path
        The file; it is replaced if it exists.
    make_room : callable, optional
        Asked for room when the disk is full, see `making_room`.

    Attributes
    ----------
    writes : int
        How often something was written.
    """

    def __init__(self, path: Path, make_room: MakeRoom | None = None) -> None:
        self.name = str(path)
        self.closed = False
        self.writes = 0
        self._make_room = make_room
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = making_room(lambda: os.open(path, flags, 0o666), make_room)
        _sync_folder(path.parent)
        self._synced_at = time.monotonic()

    def write(self, data: bytes) -> int:
        """Write all of the data."""
        write_all(self._descriptor, data, self._make_room)
        self.writes += 1
        if time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()
        return len(data)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fdatasync(self._descriptor)
        self._synced_at = time.monotonic()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def cut(self, size: int) -> None:
        """Leave only the first `size` bytes, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut."""
    with contextlib.suppress(OSError):  # some file systems of memory cards know no such thing
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
