"""An input of the program: files, and the arguments that name them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import SupportsBytes

INPUT, OUTPUT = "in", "out"  # folders, from the folder in which the program runs
ARGUMENTS = "arguments.json"


Content = bytes | SupportsBytes
"""What a file holds: bytes, or what they are made of when they are needed."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    arguments : tuple of str
        Of the command line; what a target does with them is its own affair.
    files : mapping of str to Content
        By their paths below `in/`.
    """

    arguments: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Put it into a folder, of which nothing else is left but an empty `out/`."""
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
