"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from squeezedrive.engines.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; if that fails, as on a full disk, what was there before stays.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):  # moved already, or never made
            temporary.unlink()
