"""Find the pictures of a folder or a pattern, and sort them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from squeezedrive.engines.files import without_hidden
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.sources.names import IMAGE_SUFFIXES


def find_pictures(spec: str) -> list[Path]:
    """Return the files of a folder, a pattern or a single picture, in their order.

    Raises
    ------
    SourceError
        If there are none.
    OSError
        If the folder cannot be read.
    """
    path = Path(spec)
    if path.is_file():
        return [path]
    if path.exists() and not path.is_dir():
        raise SourceError(f"{spec}: expected a video, an image or a folder, got a special file")
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(spec, recursive=True))
    names = without_hidden(found) if path.is_dir() else found
    files = [p for p in names if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not files:
        where = "folder holds no images" if path.is_dir() else "pattern matches no images"
        if "[" in spec and not path.is_dir():
            where += " ([ begins a set of characters; a bracket in a name is written [[])"
        raise SourceError(f"{spec}: {where}, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(files, key=natural_key)


def pictures_stem(spec: Path, files: list[Path]) -> Path:
    """Return where outputs lie: beside a single image, or beside the folder that holds all."""
    if spec.is_file():
        return spec.with_suffix("")
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    try:  # as short as the user wrote it
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts paths by the numbers in them: 2 before 10, and 1 before 01."""
    # Digits sort as numbers; the text itself decides between 1 and 01.
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]
