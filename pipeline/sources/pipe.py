"""Video that comes through a pipe: standard input, or a FIFO."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

from squeezedrive.pipeline.sources.names import STDIN

POLL_MS = 100  # until an interrupt is seen


def is_pipe(spec: str) -> bool:
    """Return whether a source is a pipe, which can be read once, from its beginning to its end.

    Standard input that is redirected from a file is not.
    """
    try:
        if spec == STDIN:
            return not stat.S_ISREG(os.fstat(0).st_mode)
        return Path(spec).is_fifo()
    except OSError:  # there is no standard input, or no such name: opening it fails with the reason
        return False


class Pipe:
    """The bytes of a pipe, as FFmpeg reads them.

    A pipe may pause for as long as it likes: it ends when its last writer closes it.

    Parameters
    ----------
    spec : str
        "-" for standard input, or the path of a FIFO.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, spec: str) -> None:
        # Otherwise a FIFO could not even be opened before somebody writes to it.
        self._fd = os.dup(0) if spec == STDIN else os.open(spec, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._interrupted = False

    def read(self, size: int) -> bytes:
        """Wait for bytes, so many at most; none at the end, and after `interrupt`."""
        while not self._interrupted:
            if self._poll.poll(POLL_MS):
                return os.read(self._fd, size)
        return b""

    def interrupt(self) -> None:
        """End every wait now and for good; may be called from any thread."""
        self._interrupted = True

    def close(self) -> None:
        """Close this end of the pipe; may be called more than once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
