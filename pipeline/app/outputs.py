"""Output paths, and the checks made before a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.files import check_free
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sinks.registry import sink_specs
from squeezedrive.pipeline.sinks.spec import SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config
    from squeezedrive.pipeline.core.source import SourceInfo

PROFILE_FILES = ("report.html", "summary.json", "trace.json")
PROFILE_VIDEO = "video.mp4"


@dataclass(frozen=True)
class Outputs:
    """What the user asks for."""

    sinks: Mapping[str, Path] = field(default_factory=dict)  # by option; any path for a switch
    summary: Path | None = None  # the figures of the run as JSON
    folders: frozenset[str] = frozenset()  # options, "summary" too, whose paths end with a slash
    profile: Path | None = None  # folder for where the time went, see `pipeline.profiling`
    overwrite: bool = False  # whether outputs that exist may be replaced


def plan_outputs(
    outputs: Outputs, sources: Sequence[SourceInfo], config: Config
) -> list[dict[str, Path]]:
    """Name the outputs of each source, and refuse what would cost the user something.

    Parameters
    ----------
    outputs : Outputs
        What the user asks for. Each of several sources has outputs of its own: ride.mp4 becomes
        ride.0.mp4, ride.1.mp4 and so on.
    sources : sequence of SourceInfo
        The sources; no output may replace their files.
    config : Config
        What is written, and how.

    Returns
    -------
    list of dict of str to Path
        For each source, paths by option. An output with a default name has one even if it is not
        written.

    Raises
    ------
    SinkError
        With the first reason found.
    ConfigError
        If segments are asked for and nothing is written that could be split.
    """
    specs = sink_specs()
    several = len(sources) > 1
    if several:
        _check_for_several(outputs, specs)
    each = [
        _named(outputs, specs, info, number if several else None)
        for number, info in enumerate(sources)
    ]
    written = [
        (spec, paths[spec.option])
        for paths in each
        for spec in specs
        if spec.kind != "switch" and spec.is_written(paths, config)
    ]
    if config.record.segment is not None and not any(
        spec.in_series(config) and path != STDOUT for spec, path in written
    ):
        raise ConfigError(
            "record.segment: splits video and JSONL, and neither is written; give --jsonl OUT.jsonl"
            " or leave out --no-video"
        )
    inputs = [path for info in sources for path in info.inputs]
    try:
        for spec, path in written:
            if spec.stdout and path == STDOUT:
                continue
            spec.check(path)
            if spec.kind == "folder":
                _check_folder(path)
            else:
                _check_file(path, inputs)
            if spec.exists(path) and not outputs.overwrite and not spec.in_series(config):
                if spec.kind == "folder":
                    raise SinkError(
                        f"{path}: holds results already; --overwrite adds to them and replaces"
                        " those of the same frames"
                    )
                check_free(path, outputs.overwrite, SinkError)
        others = []
        if outputs.summary is not None:
            others.append(outputs.summary)
            _check_file(outputs.summary, inputs)
            if outputs.summary.is_file():
                check_free(outputs.summary, outputs.overwrite, SinkError)
        if outputs.profile is not None:
            others += [outputs.profile / name for name in PROFILE_FILES]
        _check_distinct([*(path for _, path in written), *others])
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return each


def _check_for_several(outputs: Outputs, specs: Sequence[SinkSpec]) -> None:
    """Refuse what cannot be had once for each source."""
    asked = [spec for spec in specs if spec.option in outputs.sinks]
    switches = [spec.option for spec in asked if spec.kind == "switch"]
    for option in ["profile"] * (outputs.profile is not None) + switches:
        raise SinkError(f"--{option}: expected one source, got several")
    for spec in asked:
        if spec.stdout and outputs.sinks[spec.option] == STDOUT:
            raise SinkError(
                f"--{spec.option} -: standard output is for one source, got several; name a file"
            )


def _named(
    outputs: Outputs, specs: Sequence[SinkSpec], info: SourceInfo, number: int | None
) -> dict[str, Path]:
    """Return the paths of one source by option; `number` is its place among several."""
    paths = {}
    for spec in specs:
        path = outputs.sinks.get(spec.option)
        if path is not None:
            paths[spec.option] = path if number is None else numbered(path, number)
        elif spec.ending and outputs.profile is not None:
            paths[spec.option] = outputs.profile / PROFILE_VIDEO
        elif spec.ending:
            stem = info.stem if info.stem.name else info.stem.resolve()
            # The number tells those apart that are not files.
            mark = "" if number is None or info.inputs else f".{number}"
            paths[spec.option] = stem.with_name(f"{stem.name}{mark}{spec.ending}")
    return paths


def numbered(path: Path, number: int) -> Path:
    """Return the name that one of several sources has in place of `path`: ride.0.mp4."""
    path = path if path.name else path.resolve()  # the current folder has no name of its own
    return path.parent / f"{path.stem}.{number}{path.suffix}"


def _check_file(path: Path, inputs: Collection[Path]) -> None:
    if path.is_dir():
        raise SinkError(f"{path}: is a folder, expected a file name")
    if path.is_file() and any(path.samefile(source) for source in inputs):
        raise SinkError(f"{path}: is the source itself, choose another output")
    _check_writable(path)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SinkError(f"{path}: is a file, expected a folder")
    _check_writable(path)


def _check_writable(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SinkError(f"{path}: the folder {folder} does not exist")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SinkError(f"{path}: no permission to write there")


def _check_distinct(paths: Sequence[Path]) -> None:
    """Refuse two outputs in one file."""
    seen: set[Path] = set()
    for path in paths:
        real = path.resolve()
        if real in seen and (path.is_file() or not path.exists()):
            raise SinkError(f"{path}: is named for two outputs, they need a file each")
        seen.add(real)
