"""An input of the program: files, and the arguments that name them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import SupportsBytes

INPUT, OUTPUT = "in", "out"  # subfolders of the program's current folder
ARGUMENTS = "arguments.json"


Content = bytes | SupportsBytes
"""The content of a file: bytes, or an object that makes them when they are needed."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    arguments : tuple of str
        Arguments of the command line; each target decides how to use them.
    files : mapping of str to Content
        Contents of files, by their paths below `in/`.
    """

    arguments: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the input into a folder, which is emptied first and gets an empty `out/`."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / OUTPUT).mkdir(parents=True)
        (folder / INPUT).mkdir()
        (folder / ARGUMENTS).write_text(json.dumps(self.arguments))
        for name, content in self.files.items():
            path = folder / INPUT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(content))


def read_case(folder: Path) -> Case:
    """Return the input that was written into a folder."""
    files = sorted(path for path in (folder / INPUT).rglob("*") if path.is_file())
    return Case(
        tuple(json.loads((folder / ARGUMENTS).read_text())),
        {str(path.relative_to(folder / INPUT)): path.read_bytes() for path in files},
    )
