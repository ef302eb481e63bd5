"""Finds the recordings of a fleet, on disks and in object stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pyarrow as pa
from pyarrow import csv, fs
from pyarrow import parquet as pq

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.fleet.storage import filesystem_of, is_remote
from squeezedrive.pipeline.sources.collect import VIDEO_SUFFIXES, collect

MANIFEST_SUFFIXES = (".csv", ".parquet")
COLUMN = "source"  # of a manifest
PATTERN = "*?["
LOOKED_UP = 1000  # files at a time


@dataclass(frozen=True)
class Listed:
    """A recording as its file system lists it.

    Attributes
    ----------
    name : str
        Its path or URL.
    size : int
        Bytes; 0 if it is not there.
    modified : int
        Nanoseconds since 1970; 0 if it is not known.
    """

    name: str
    size: int
    modified: int


def list_sources(specs: Sequence[str]) -> list[Listed]:
    """Find all recordings behind the names of sources, each once, in a fixed order.

    A folder of an object store, s3://bucket/folder, stands for the videos in it and below, a
    pattern for those that it matches, with `*` for any characters, "/" as well. What is local is
    found as `collect` does. A manifest is a table, .csv or .parquet, with a column "source".

    Raises
    ------
    UserError
        If there are none, or a name cannot be looked up.
    """
    found: dict[str, Listed] = {}
    for spec in specs:
        names = _manifest(spec) if spec.lower().endswith(MANIFEST_SUFFIXES) else None
        for one in _expand(spec) if names is None else _look_up(names):
            found.setdefault(one.name, one)
    return list(found.values())


def _expand(spec: str) -> Iterator[Listed]:
    if not is_remote(spec):
        files = collect([spec.removeprefix("file://")]).files
        yield from _look_up([file.spec for file in files])
        return
    scheme = spec.partition("://")[0]
    filesystem, path = filesystem_of(spec)
    if any(character in path for character in PATTERN):
        fixed = path[: min(path.find(c) for c in PATTERN if c in path)].rpartition("/")[0]
        infos = _below(filesystem, fixed, spec)
        wanted = [info for info in infos if fnmatchcase(info.path, path)]
    else:
        (info,) = _infos(filesystem, [path], spec)
        is_file = info.type == fs.FileType.File
        wanted = [info] if is_file else _below(filesystem, path.rstrip("/"), spec)
    videos = [i for i in wanted if PurePosixPath(i.path).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise SourceError(f"{spec}: expected videos, found none")
    for info in sorted(videos, key=lambda info: str(info.path)):
        yield Listed(f"{scheme}://{info.path}", info.size, info.mtime_ns or 0)


def _below(filesystem: fs.FileSystem, folder: str, spec: str) -> list[fs.FileInfo]:
    try:
        infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    except FileNotFoundError:
        raise SourceError(f"{spec}: there is no such folder") from None
    except OSError as error:
        raise SourceError(f"{spec}: cannot be listed: {error}") from None
    visible = (i for i in infos if not PurePosixPath(i.path).name.startswith("."))
    return [info for info in visible if info.type == fs.FileType.File]


def _look_up(names: Sequence[str]) -> Iterator[Listed]:
    """Yield what is known of files, also of those that are not there: they become failures."""
    for first in range(0, len(names), LOOKED_UP):
        group = names[first : first + LOOKED_UP]
        known: dict[str, fs.FileInfo] = {}
        by_system: dict[str, list[str]] = {}
        for name in group:
            root = "/".join(name.split("/")[:3]) if is_remote(name) else ""
            by_system.setdefault(root, []).append(name)
        for some in by_system.values():
            systems = [filesystem_of(name) for name in some]
            infos = _infos(systems[0][0], [path for _, path in systems], some[0])
            known.update(zip(some, infos, strict=True))
        for name in group:
            info = known[name]
            shown = name if is_remote(name) else info.path
            yield Listed(shown, info.size or 0, info.mtime_ns or 0)


def _infos(filesystem: fs.FileSystem, paths: list[str], spec: str) -> list[fs.FileInfo]:
    try:
        return list(filesystem.get_file_info(paths))
    except OSError as error:
        raise SourceError(f"{spec}: cannot be looked up: {error}") from None


def _manifest(spec: str) -> list[str]:
    """Return the names in a table."""
    filesystem, path = filesystem_of(spec)
    try:
        with filesystem.open_input_file(path) as file:
            if spec.lower().endswith(".parquet"):
                table = pq.read_table(file, columns=[COLUMN])
            else:
                table = csv.read_csv(file, convert_options=_text_only())
        return [str(name) for name in table[COLUMN].to_pylist() if name]
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise ConfigError(
            f"{readable(spec)}: expected a table with a column {COLUMN!r}: {error}"
        ) from None
    except OSError as error:
        raise SourceError(f"{readable(spec)}: cannot be read: {error}") from None


def _text_only() -> csv.ConvertOptions:
    return csv.ConvertOptions(include_columns=[COLUMN], column_types={COLUMN: pa.string()})
