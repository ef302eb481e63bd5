"""Helpers of the verbs that manage TensorRT engines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from squeezedrive.engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from squeezedrive.engines.backends.tensorrt.cache import EngineCache


def check_machine() -> None:
    """Raise BackendUnavailable, with all reasons, if TensorRT cannot run on this machine."""
    from squeezedrive.engines.backends.tensorrt.entry import tensorrt_obstacles

    if found := tensorrt_obstacles():
        raise BackendUnavailable("TensorRT cannot run here: " + "; ".join(found))


def open_cache() -> EngineCache:
    """Open the cache of engines in the user's cache folder."""
    from squeezedrive.engines.backends.tensorrt.cache import open_user_cache

    return open_user_cache(say)


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def mib(size: int) -> str:
    """Format a number of bytes in MiB."""
    return f"{size / 2**20:.1f} MiB"
