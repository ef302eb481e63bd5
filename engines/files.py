"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from squeezedrive.engines.errors import UserError


@contextmanager
def replacing(path: Path, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Give a temporary file to write, which then takes the place of `path`.

    If writing fails, as on a full disk, what was there before stays and the temporary file goes.

    Parameters
    ----------
    path : Path
        What is to be written.
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
