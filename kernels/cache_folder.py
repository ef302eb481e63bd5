"""The folder for files that this program makes once and loads at later starts."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """Return the folder `name` in the user's cache; None without a home directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the default of the XDG specification if unset, empty or relative
        base = os.path.expanduser("~/.cache")
    return Path(base, "squeezedrive", name) if os.path.isabs(base) else None
