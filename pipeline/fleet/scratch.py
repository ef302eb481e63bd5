"""A worker's temporary files: within a budget, and gone when the worker is, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.queues import POLL_SECONDS

PREFIX = "squeezedrive-fleet-"


class Scratch:
    """A folder below that of the system's temporary files, which others see is in use by its lock.

    Folders of workers that were killed are removed when the next one begins.

    Parameters
    ----------
    budget : int
        Bytes that the files fetched into it may have together.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._used = 0
        self._changed = threading.Condition()
        remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        # It has the name under which it is looked for when it is locked.
        unnamed = self.path / "lock.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / "lock")

    def check(self, size: int) -> None:
        """Refuse a file that there is never room for.

        Raises
        ------
        SinkError
            If it is more than the budget.
        """
        if size > self._budget:
            raise SinkError(
                f"has {size / 1e9:.1f} GB, more than the {self._budget / 1e9:.1f} GB of temporary"
                " files that a worker may have: --scratch"
            )

    @contextmanager
    def folder(self, size: int, given_up: Callable[[], bool]) -> Iterator[Path]:
        """Wait for room and give an empty folder, which goes with all that is in it.

        Parameters
        ----------
        size : int
            Bytes that will be fetched into it.
        given_up : callable
            Ends the wait when it returns true.
        """
        size = min(size, self._budget)
        with self._changed:
            while self._used + size > self._budget and not given_up():
                self._changed.wait(POLL_SECONDS)
            self._used += size
        folder = Path(tempfile.mkdtemp(dir=self.path))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_abandoned() -> None:
    """Remove the folders of workers that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # has no lock yet, is in use, is somebody else's
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
