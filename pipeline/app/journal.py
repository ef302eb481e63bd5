"""Note in a file beside the outputs which of them are finished, so that a run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezedrive.engines.files import readable, without_hidden
from squeezedrive.pipeline.core.errors import SinkError

JOURNAL = ".squeezedrive.jsonl"

# Bytes of a file, number of files in a folder, or bytes of each file of a series, by name.
Size = int | dict[str, int]


@dataclass(frozen=True)
class OutputRecord:
    """The journal's note on an output.

    Attributes
    ----------
    key : str
        Of the run that wrote it, see `run_key`.
    size : int, dict of str to int, or None
        How large it was when it was finished; None if it was only begun.
    """

    key: str
    size: Size | None


class Journal:
    """Notes which outputs are begun and finished, in one file in each folder with outputs.

    Each line is on the disk before the next file is begun; a line that a power cut has cut off is
    ignored. An output that was begun and not finished comes from a run that was interrupted or
    failed.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, OutputRecord]] = {}

    def find(self, output: Path) -> OutputRecord | None:
        """Return the note on an output, or None.

        Raises
        ------
        SinkError
            If the file of notes cannot be read.
        """
        return self._folder(output.parent).get(readable(output.name))

    def begin(self, key: str, outputs: Iterable[Path]) -> None:
        """Note that outputs are about to be written.

        Raises
        ------
        SinkError
            If it cannot be noted.
        """
        self._note("begun", key, dict.fromkeys(outputs))

    def finish(self, key: str, outputs: Iterable[Path]) -> None:
        """Sync outputs that are files to the disk, then note that outputs are complete.

        Raises
        ------
        SinkError
            If it cannot be noted.
        """
        sizes = {output: measure(output) for output in outputs}
        for output in sizes:
            if output.is_file():
                _sync(output)
        self._note("finished", key, sizes)

    def _note(self, state: str, key: str, sizes: Mapping[Path, Size | None]) -> None:
        for folder in dict.fromkeys(output.parent for output in sizes):
            own = {readable(o.name): size for o, size in sizes.items() if o.parent == folder}
            line = json.dumps({"state": state, "key": key, "outputs": own}, separators=(",", ":"))
            _append(folder / JOURNAL, line)
            records = {name: OutputRecord(key, size) for name, size in own.items()}
            self._folder(folder).update(records)

    def _folder(self, folder: Path) -> dict[str, OutputRecord]:
        if folder not in self._folders:
            self._folders[folder] = _read(folder / JOURNAL)
        return self._folders[folder]


def measure(output: Path) -> Size:
    """Return the size of an output, see `Size`; {} for a series without files."""
    if output.is_file():
        return output.stat().st_size
    if output.is_dir():
        return len(without_hidden(output.iterdir()))
    return {
        readable(path.name): path.stat().st_size
        for path in without_hidden(output.parent.glob("*"))
        if path.name.startswith(f"{output.stem}.") and path.suffix == output.suffix
    }


def is_intact(output: Path, size: Size) -> bool:
    """Return whether an output still has its size; to a series, files may have been added."""
    now = measure(output)
    if isinstance(size, dict) and isinstance(now, dict):
        return size.items() <= now.items()
    return now == size


def _read(path: Path) -> dict[str, OutputRecord]:
    records: dict[str, OutputRecord] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    content: Any = json.loads(line)
                    begun = content["state"] != "finished"
                    for name, size in content["outputs"].items():
                        records[name] = OutputRecord(content["key"], None if begun else size)
                except (ValueError, LookupError, TypeError, AttributeError):
                    continue  # cut off, or not written by this program
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SinkError(f"{path}: cannot be read: {error.strerror}") from error
    return records


def _append(path: Path, line: str) -> None:
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SinkError(f"{path}: cannot write: {error.strerror}") from error


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SinkError(f"{path}: cannot write: {error.strerror}") from error
