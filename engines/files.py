"""Write files completely or not at all, and check paths before writing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from squeezedrive.engines.errors import UserError


@contextmanager
def replacing(path: Path, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Provide the path of a temporary file to write; afterwards it replaces `path`.

    If writing fails, for example on a full disk, the old file stays and the temporary file is
    removed.

    Parameters
    ----------
    sync : bool
        Whether the old or the new file must also survive a power cut.
    shared : bool
        Whether another process may be writing the same file.

    Raises
    ------
    OSError
        If the file cannot be written.
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
        with suppress(OSError):  # it was never created
            temporary.unlink()
        raise


def write_whole(path: Path, content: bytes | memoryview, sync: bool = False) -> None:
    """Write a file as `replacing` does.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    try:
        with replacing(path, sync) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def readable(name: str | Path) -> str:
    r"""Return a file's name as text that every program can read.

    Names may hold any byte. Python keeps bytes that are not valid characters as lone surrogates,
    which UTF-8, JSON and HTML do not allow; here such bytes become \x and two digits.
    """
    return str(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def without_hidden(paths: Iterable[Path]) -> list[Path]:
    """Leave out hidden files, above all `._NAME`, which Macs put beside NAME on memory cards.

    Such a file has the same suffix as the file beside it, but not its content.
    """
    return [path for path in paths if not path.name.startswith(".")]


def check_free(path: Path, overwrite: bool, error: type[UserError] = UserError) -> None:
    """Reject a path that exists, unless the user asked to overwrite it.

    Raises
    ------
    UserError
        If the path exists; `error` is the class that is raised.
    """
    if path.exists() and not overwrite:
        raise error(f"{path}: exists already; --overwrite replaces it")


def check_output(path: Path, overwrite: bool) -> None:
    """Check the path of an output before the work, not after minutes of it.

    Raises
    ------
    UserError
        If the folder does not exist, or the file exists and must not be overwritten.
    """
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")
    check_free(path, overwrite)
