"""Read text files of a data set."""

from __future__ import annotations

from pathlib import Path

from squeezedrive.engines.errors import DatasetError


def read_text(path: Path, missing: str = "no such file") -> str:
    """Return a file's content, without the mark (BOM) that some editors write before UTF-8.

    Raises
    ------
    DatasetError
        If the file does not exist (the message is `missing`), cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path}: {missing}") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text: {error}") from None
