"""A text file that is there when it is finished, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.files.lines import LineFile


def check_regular(path: Path) -> None:
    """Refuse a pipe or device, which nothing can take the place of.

    Raises
    ------
    SinkError
        If there is one at the path.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SinkError(f"{path}: expected a regular file, which is put there when it is finished")


class WholeFile:
    """Text that takes the place of a file when it is finished.

    Until then it lies beside it, under the same name and ".tmp".

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists.

    Attributes
    ----------
    name : str
        The path.

    Raises
    ------
    SinkError
        From all methods, if the file cannot be written; what was there stays, and nothing else.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._path = Path(path)
        self._temporary = self._path.with_name(f"{self._path.name}.tmp")
        self._lines = LineFile(self._temporary)
        self._lines.name = self.name  # what errors are about

    @property
    def is_open(self) -> bool:
        """Whether something was appended that is not finished."""
        return self._lines.is_open

    def append(self, text: str) -> None:
        """Add text."""
        with self._dropped_on_error():
            self._lines.append(text)

    def finish(self, text: str) -> None:
        """Add the last text and put the file in its place."""
        with self._dropped_on_error():
            self._lines.append(text)
            self._lines.close()
            try:
                os.replace(self._temporary, self._path)
            except OSError as err:
                raise SinkError(f"{self.name}: cannot write: {err.strerror}") from err

    @contextlib.contextmanager
    def _dropped_on_error(self) -> Iterator[None]:
        try:
            yield
        except SinkError:
            with contextlib.suppress(SinkError):
                self._lines.close()
            with contextlib.suppress(OSError):  # never made
                self._temporary.unlink()
            raise
