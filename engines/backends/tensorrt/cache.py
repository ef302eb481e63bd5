"""Engines on disk, each under a key that holds everything that changes it.

An engine is two files in the user's cache folder: `NAME.engine`, what TensorRT made and its
SHA-256, and `NAME.json`, the key. NAME ends with a hash of the key, so all processes that write a
file write the same key and an equivalent engine. Each file appears as a whole or not at all: two
processes that build the same engine at once replace each other's, and a process that is killed
leaves at most a temporary file, which is removed with the oldest engines.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeezedrive.engines.backends.tensorrt.progress import Say
from squeezedrive.engines.files import replacing
from squeezedrive.kernels.cache_folder import cache_folder

SCHEMA = 1
"""Changes with everything that makes old files unusable and is not part of the key."""

LIMIT = 2**30
"""Bytes that the cache may take: more than 100 engines of SqueezeDet."""

_DIGEST = hashlib.sha256().digest_size
_SHOWN = 3  # differing fields that a message names


@dataclass(frozen=True)
class EngineKey:
    """Everything that changes an engine.

    Attributes
    ----------
    model : str
        Name of the weights' profile, for people.
    graph : str
        SHA-256 of the ONNX model.
    precision : str
        "fp16", "fp32" or "int8".
    input : str
        Size in pixels, as "1248x384".
    max_batch, optimum_batch, workspace_mib : int
        See `engines.backends.tensorrt.builder`.
    tensorrt : str
        Version.
    gpu, compute_capability : str
        Name as the driver gives it, and as "9.0".
    schema : int
        Of these files.
    """

    model: str
    graph: str
    precision: str
    input: str
    max_batch: int
    optimum_batch: int
    workspace_mib: int
    tensorrt: str
    gpu: str
    compute_capability: str
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """Name of the files, without ending."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        return f"{self.precision}-{self.input}-b{self.max_batch}-{digest.hexdigest()[:16]}"

    @property
    def timings(self) -> str:
        """Name of the file of timings, which all engines of a GPU and TensorRT version share."""
        digest = hashlib.sha256(f"{self.tensorrt}/{self.gpu}/{self.compute_capability}".encode())
        return f"{digest.hexdigest()[:16]}.timings"


@dataclass(frozen=True)
class Entry:
    """An engine in the cache: its file, bytes, seconds since its last use, and its key's fields."""

    path: Path
    size: int
    idle: float
    fields: dict[str, Any]


class EngineCache:
    """The engines in a folder. Problems with files are reported in a line and never end a run.

    Parameters
    ----------
    folder : Path or None
        The folder; with None, nothing is kept.
    limit : int
        Most bytes of all files together; those not used for longest are removed first.
    """

    def __init__(self, folder: Path | None, say: Say, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._say = say

    def load(self, key: EngineKey) -> bytes | None:
        """Return the engine of this key; None if there is none, after reporting what differs."""
        if self.folder is None:
            return None
        path = self.folder / f"{key.name}.engine"
        fields = _read_fields(path)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            self._say_what_differs(key)
            return None
        except OSError as error:
            self._say(f"{path}: cannot be read: {error.strerror}; built anew")
            return None
        if fields != asdict(key):
            what = _differences(fields, key) if fields else "its key cannot be read"
            self._say(f"{path}: damaged, {what}; built anew")
            return None
        plan, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(plan).digest() != digest:
            self._say(f"{path}: damaged; built anew")
            return None
        with suppress(OSError):  # in a folder of someone else
            os.utime(path)
        return plan

    def store(self, key: EngineKey, plan: bytes) -> None:
        """Keep an engine; remove older ones if all together are too large."""
        fields = json.dumps(asdict(key), indent=2).encode() + b"\n"
        self._write(f"{key.name}.json", fields)
        self._write(f"{key.name}.engine", plan + hashlib.sha256(plan).digest(), say=True)
        self._shrink(keep=key.name)

    def load_timings(self, key: EngineKey) -> bytes:
        """Return what builds for this GPU have measured so far; b"" if nothing."""
        if self.folder is None:
            return b""
        try:
            return (self.folder / key.timings).read_bytes()
        except OSError:
            return b""

    def store_timings(self, key: EngineKey, timings: bytes) -> None:
        """Keep what a build has measured."""
        self._write(key.timings, timings)

    def entries(self) -> list[Entry]:
        """List the engines, last used first."""
        now = time.time()
        found = []
        for path, size, used in self._files():
            if path.suffix == ".engine":
                found.append(Entry(path, size, now - used, _read_fields(path)))
        return sorted(found, key=lambda entry: entry.idle)

    def clear(self) -> tuple[list[Path], int]:
        """Remove every file; return the removed ones, and their bytes."""
        return self._remove([path for path, _, _ in self._files()])

    def _say_what_differs(self, key: EngineKey) -> None:
        nearest = min(
            (entry for entry in self.entries() if entry.fields),
            key=lambda entry: len(_differing(entry.fields, key)),
            default=None,
        )
        if nearest is not None:
            differences = _differences(nearest.fields, key)
            self._say(f"the nearest engine in the cache does not fit: {differences}")

    def _write(self, name: str, content: bytes, say: bool = False) -> None:
        if self.folder is None:
            if say:
                self._say("no home directory: the engine is not kept, the next start builds again")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / name, shared=True) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if say:
                self._say(
                    f"{self.folder}: cannot be written: {error.strerror}; the engine is not kept,"
                    " the next start builds again"
                )

    def _shrink(self, keep: str) -> None:
        """Remove what was not used for longest until the rest is within the limit."""
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, _, _ in files:
            if total <= self.limit:
                return
            if path.stem == keep or path.suffix == ".json":
                continue
            sidecar = path.with_suffix(".json")
            removed, freed = self._remove([path, sidecar] if path.suffix == ".engine" else [path])
            total -= freed
            if removed:
                self._say(f"{path.name}: removed, the cache is over {self.limit / 2**20:.0f} MiB")

    def _files(self) -> list[tuple[Path, int, float]]:
        """List path, bytes and time of the last use of every file of the cache."""
        found = []
        if self.folder is not None:
            for suffix in ("engine", "json", "timings", "tmp"):
                for path in self.folder.glob(f"*.{suffix}"):
                    with suppress(OSError):  # gone since
                        status = path.stat()
                        found.append((path, status.st_size, status.st_mtime))
        return found

    def _remove(self, paths: list[Path]) -> tuple[list[Path], int]:
        removed, freed = [], 0
        for path in paths:
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                self._say(f"{path}: cannot be removed: {error.strerror}")
                continue
            removed.append(path)
            freed += size
        return removed, freed


def open_user_cache(say: Say) -> EngineCache:
    """Return the engines in the user's cache folder."""
    return EngineCache(cache_folder("engines"), say)


def _read_fields(engine: Path) -> dict[str, Any]:
    """Return the key's fields of an engine; none if they cannot be read."""
    try:
        fields = json.loads(engine.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _differing(fields: dict[str, Any], key: EngineKey) -> list[str]:
    return [name for name, value in asdict(key).items() if fields.get(name) != value]


def _differences(fields: dict[str, Any], key: EngineKey) -> str:
    """Name the fields in which a stored key differs, with its value and the one wanted."""
    wanted = asdict(key)
    names = _differing(fields, key)
    parts = [
        f"{name} {_short(fields.get(name))} instead of {_short(wanted[name])}"
        for name in names[:_SHOWN]
    ]
    if len(names) > _SHOWN:
        parts.append(f"and {len(names) - _SHOWN} more")
    return ", ".join(parts)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:8]}..."
