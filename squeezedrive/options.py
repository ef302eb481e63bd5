"""Make a configuration from keyword arguments, as the command line does from options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from squeezedrive.pipeline.config import Config, load_config

_KEYS = {
    "threshold": "detect.threshold",
    "classes": "detect.classes",
    "fit": "fit.mode",
    "backend": "backend",
    "track": "track.enabled",
    "detect_every": "track.every",
    "start": "source.start",
    "frames": "source.frames",
    "fps": "source.fps",
    "write": "video.write",
}


def configure(
    config: str | Path | None, settings: Mapping[str, Any] | None, **arguments: Any
) -> Config:
    """Load the configuration that keyword arguments ask for.

    Parameters
    ----------
    config : str, Path or None
        A file that changes some keys of configs/file.yaml.
    settings : mapping or None
        Values by dotted key, such as ``{"queue.depth": 4}``.
    **arguments
        Those of `_KEYS`; None leaves the configured value.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown, or a value does not fit its key.
    """
    chosen = [(f"settings[{key!r}]", key, _plain(value)) for key, value in (settings or {}).items()]
    chosen += [
        (name, _KEYS[name], _plain(value)) for name, value in arguments.items() if value is not None
    ]
    return load_config(None if config is None else Path(config), chosen)


def _plain(value: Any) -> Any:
    """Return a value in a type that YAML has."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Collection) and not isinstance(value, str | Mapping):
        return list(value)
    return str(value) if isinstance(value, Path) else value
