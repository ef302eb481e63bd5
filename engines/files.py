"""Files that are there whole or not at all, and the checks before they are written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from squeezedrive.engines.errors import UserError


@contextmanager
def replacing(path: Path, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Give a temporary file to write, which then takes the place of `path`.

    If writing fails, as on a full disk, what was there before stays and the temporary file goes.

    Parameters
    ----------
    sync : bool
        Whether a power cut, too, is to leave the old file or the new one.
    shared : bool
        Whether another process may be writing the same file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    mark = f".{secrets.token_hex(4)}" if shared else ""
    temporary = path.with_name(f"{path.name}{mark}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # never made
            temporary.unlink()
        raise


def write_whole(path: Path, content: bytes | memoryview, sync: bool = False) -> None:
    """Write a file as `replacing` does.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    try:
        with replacing(path, sync) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def readable(name: str | Path) -> str:
    r"""Return a file's name as a text that is one for every program.

    Names may hold any byte. Python keeps those that are no characters as lone surrogates, which
    UTF-8, JSON and HTML do not have; here they become \x and two digits.
    """
    return str(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def without_hidden(paths: Iterable[Path]) -> list[Path]:
    """Leave out files that a system hides, above all `._NAME`, which Macs put beside NAME on cards.

    They have the same ending as the file beside which they are, but nothing of its content.
    """
    return [path for path in paths if not path.name.startswith(".")]


def check_free(path: Path, overwrite: bool, error: type[UserError] = UserError) -> None:
    """Refuse to replace what the user has not asked to replace.

    Raises
    ------
    UserError
        If it exists; of the class `error`.
    """
    if path.exists() and not overwrite:
        raise error(f"{path}: exists already; --overwrite replaces it")


def check_output(path: Path, overwrite: bool) -> None:
    """Complain about an output before, not after minutes of work.

    Raises
    ------
    UserError
        If its folder does not exist, or it exists and is not to be replaced.
    """
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")
    check_free(path, overwrite)
