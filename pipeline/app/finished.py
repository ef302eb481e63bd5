"""Hash what the results of a file depend on: the file itself, the network, the settings.

Two runs with the same key give the same results, so a finished one need not be repeated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeezedrive.engines.files import readable
from squeezedrive.engines.model.weights import int8_model
from squeezedrive.pipeline.app.network import NetworkDescription
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.sources.collect import SourceFile
from squeezedrive.pipeline.sources.pictures import find_pictures

SCHEMA = 1  # raise it when the same settings come to mean something else

# Settings that change the speed or the display, but not the results. The name of the network is
# among them because `weights_hash` covers its content.
_IMMATERIAL_GROUPS = ("network", "preview", "profile")
_IMMATERIAL_KEYS = {
    "cpu": {"threads", "streams"},
    "queue": {"depth", "slots", "batch"},
    "source": {"open_timeout", "read_timeout", "reconnect", "track_index"},
    "video": {"threads"},
}


@dataclass(frozen=True)
class FileVersion:
    """The version of a file, to notice that another one has taken its place.

    Attributes
    ----------
    name : str
        Its name, as the caller chooses: a path, a URL.
    size : int
        Bytes.
    changed : str
        When it was written, or something else that changes with its content, such as an ETag.
    track : int or None
        Which of its video tracks, see `SourceFile`.
    """

    name: str
    size: int
    changed: str
    track: int | None = None


def file_version(file: SourceFile, config: Config) -> FileVersion:
    """Return the current version of a file, named without its folder.

    So a card may be mounted somewhere else. A sequence of pictures changes with each of them.

    Raises
    ------
    SourceError
        If the file cannot be looked up.
    """
    named = config.source.track_index
    track = file.track if named == "all" else named
    path = Path(file.spec)
    try:
        if path.is_file():
            status = path.stat()
            return FileVersion(readable(path.name), status.st_size, str(status.st_mtime_ns), track)
        pictures = [(path.name, path.stat()) for path in find_pictures(file.spec)]
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{readable(file.spec)}: cannot be read: {error.strerror}") from None
    listed = [[readable(name), status.st_size, status.st_mtime_ns] for name, status in pictures]
    size = sum(status.st_size for _, status in pictures)
    return FileVersion(readable(file.place.name), size, _hash(listed), track)


def weights_hash(network: NetworkDescription) -> str:
    """Return the SHA-256 of a network in hexadecimal.

    It covers the parameters, their profile, the size of the input, and the int8 model if there is
    one.
    """
    int8 = int8_model(Path(network.config.weights))
    return _hash(
        {
            "arrays": network.weights.digest(),
            "profile": network.weights.profile.model_dump(mode="json"),
            "input": network.config.input.model_dump(),
            "int8": None if int8 is None else hashlib.sha256(int8.read_bytes()).hexdigest(),
        }
    )


def config_hash(config: Config) -> str:
    """Return the SHA-256 of the settings that results depend on, in hexadecimal."""
    values = config.model_dump(mode="json", exclude=set(_IMMATERIAL_GROUPS))
    for group, keys in _IMMATERIAL_KEYS.items():
        for key in keys:
            del values[group][key]
    return _hash(values)


def run_key(version: FileVersion, weights: str, config: str) -> str:
    """Return a hash that two runs share only if they give the same results, in hexadecimal.

    Parameters
    ----------
    version : FileVersion
        The source.
    weights, config : str
        From `weights_hash` and `config_hash`.
    """
    return _hash({"schema": SCHEMA, "file": asdict(version), "weights": weights, "config": config})


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
