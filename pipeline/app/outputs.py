"""Output paths, and the checks made before a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """The outputs that the user asks for.

    Raises
    ------
    SinkError
        If an output that cannot go to standard output is asked for there.
    """

    sinks: Mapping[str, Path] = field(default_factory=dict)  # by option; any path for a switch
    summary: Path | None = None  # the figures of the run as JSON
    profile: Path | None = None  # folder of the profile, see `pipeline.profiling`
    overwrite: bool = False  # whether outputs that exist may be replaced
    folders: frozenset[str] = frozenset()  # options, "summary" too, whose paths end with a slash
    replaceable: frozenset[Path] = frozenset()  # outputs replaced even without `overwrite`

    def __post_init__(self) -> None:
        for spec in sink_specs():
            if self.sinks.get(spec.option) == STDOUT and not spec.stdout and spec.kind != "switch":
                raise SinkError(
                    f"--{spec.option} -: cannot go to standard output; name a {spec.kind}"
                )
        if self.summary == STDOUT:
            raise SinkError("--summary -: cannot go to standard output; name a file")


def plan_outputs(
    outputs: Outputs, sources: Sequence[SourceInfo], config: Config
) -> list[dict[str, Path]]:
    """Name the outputs of each source, and check them as `check_outputs` does.

    Parameters
    ----------
    outputs : Outputs
        What the user asks for. Each of several sources has outputs of its own: ride.mp4 becomes
        ride.0.mp4, ride.1.mp4 and so on.
    sources : sequence of SourceInfo
        The sources; no output may replace their files, nor those of their positions.
    config : Config
        What is written, and how.

    Returns
    -------
    list of dict of str to Path
        For each source, paths by option. An output with a default name has one even if it is not
        written.

    Raises
    ------
    SinkError, ConfigError
        As `check_for_several` and `check_outputs`.
    """
    specs = sink_specs()
    several = len(sources) > 1
    if several:
        check_for_several(outputs)
    each = [
        _named(outputs, specs, info, number if several else None, config)
        for number, info in enumerate(sources)
    ]
    inputs = [path for info in sources for path in info.inputs]
    inputs += [Path(info.gps) for info in sources if info.gps]
    summaries = [] if outputs.summary is None else [outputs.summary]
    check_outputs(outputs, each, summaries, inputs, config)
    return each


def companions(paths: Mapping[str, Path]) -> list[Path]:
    """Return what may be written beside the video of a source, if it has what it takes."""
    return [
        paths["output"].with_suffix(spec.companion)
        for spec in sink_specs()
        if spec.companion and spec.option not in paths
    ]


def written_outputs(paths: Mapping[str, Path], config: Config) -> list[tuple[SinkSpec, Path]]:
    """Return the outputs of a source that are written; `paths` has all of them by option."""
    return [
        (spec, paths[spec.option])
        for spec in sink_specs()
        if spec.kind != "switch" and spec.is_written(paths, config)
    ]


def check_outputs(
    outputs: Outputs,
    each: Sequence[Mapping[str, Path]],
    summaries: Sequence[Path],
    inputs: Iterable[Path],
    config: Config,
    many: bool = False,
) -> None:
    """Reject outputs that cannot be written, or would replace something the user keeps.

    Parameters
    ----------
    outputs : Outputs
        What the user asks for.
    each : sequence of mapping of str to Path
        For each source, paths by option.
    summaries : sequence of Path
        Files with figures, which take the place of `outputs.summary`.
    inputs : iterable of Path
        Files that no output may replace.
    config : Config
        What is written, and how.
    many : bool
        Whether it is a run of many files, which makes folders that are missing and can be resumed.

    Raises
    ------
    SinkError
        With the first reason found.
    ConfigError
        If segments are asked for and nothing is written that could be split.
    """
    written = [entry for paths in each for entry in written_outputs(paths, config)]
    if config.record.segment is not None and not any(
        spec.in_series(config) and path != STDOUT for spec, path in written
    ):
        raise ConfigError(
            "record.segment: splits video and JSONL, and neither is written; give --jsonl OUT.jsonl"
            " or leave out --no-video"
        )
    sources = {_identity(path) for path in inputs if path.exists()}
    try:
        for spec, path in written:
            if spec.stdout and path == STDOUT:
                continue
            spec.check(path)
            if spec.kind == "folder":
                _check_folder(path, many)
            else:
                _check_file(path, sources, many)
            replaces = outputs.overwrite or path in outputs.replaceable
            if spec.exists(path) and not replaces and not spec.in_series(config):
                if spec.kind == "folder":
                    raise SinkError(
                        f"{path}: holds results already; --overwrite adds to them and replaces"
                        " those of the same frames"
                    )
                if many:
                    raise SinkError(
                        f"{path}: exists already; --resume skips what is finished,"
                        " --overwrite replaces it"
                    )
                check_free(path, outputs.overwrite, SinkError)
        others = [*summaries]
        for path in summaries:
            _check_file(path, sources, many)
            if path.is_file() and path not in outputs.replaceable:
                check_free(path, outputs.overwrite, SinkError)
        if outputs.profile is not None:
            others += [outputs.profile / name for name in PROFILE_FILES]
        _check_distinct([*(path for _, path in written), *others])
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{error.filename}: cannot be written: {error.strerror}") from None


def check_for_several(outputs: Outputs) -> None:
    """Reject outputs that only a single source can have.

    Raises
    ------
    SinkError
        With the first one found.
    """
    asked = [spec for spec in sink_specs() if spec.option in outputs.sinks]
    switches = [spec.option for spec in asked if spec.kind == "switch"]
    for option in ["profile"] * (outputs.profile is not None) + switches:
        raise SinkError(f"--{option}: expected one source, got several")
    for spec in asked:
        if spec.stdout and outputs.sinks[spec.option] == STDOUT:
            raise SinkError(
                f"--{spec.option} -: standard output is for one source, got several; name a file"
            )


def _named(
    outputs: Outputs,
    specs: Sequence[SinkSpec],
    info: SourceInfo,
    number: int | None,
    config: Config,
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
            # The number distinguishes sources that are not files.
            mark = "" if number is None or info.inputs else f".{number}"
            paths[spec.option] = stem.with_name(f"{stem.name}{mark}{spec.ending}")
    for spec in specs:
        if spec.option not in paths and spec.companion and spec.accompanies(info, config):
            paths[spec.option] = paths["output"].with_suffix(spec.companion)
    return paths


def numbered(path: Path, number: int) -> Path:
    """Return `path` with the number of one of several sources: ride.0.mp4."""
    path = path if path.name else path.resolve()  # the current folder has no name of its own
    return path.parent / f"{path.stem}.{number}{path.suffix}"


def _identity(path: Path) -> tuple[int, int]:
    """Return what identifies a file, whatever it is called."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _check_file(path: Path, sources: Collection[tuple[int, int]], many: bool) -> None:
    if path.is_dir():
        raise SinkError(f"{path}: is a folder, expected a file name")
    if path.is_file() and _identity(path) in sources:
        raise SinkError(f"{path}: is the source itself, choose another output")
    _check_writable(path, many)


def _check_folder(path: Path, many: bool) -> None:
    if path.exists() and not path.is_dir():
        raise SinkError(f"{path}: is a file, expected a folder")
    _check_writable(path, many)


def _check_writable(path: Path, many: bool) -> None:
    folder = path.absolute().parent
    while many and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise SinkError(f"{path}: the folder {folder} does not exist")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SinkError(f"{path}: no permission to write there")


def _check_distinct(paths: Sequence[Path]) -> None:
    """Reject two outputs in one file."""
    seen: set[Path] = set()
    for path in paths:
        real = path.resolve()
        if real in seen and (path.is_file() or not path.exists()):
            raise SinkError(f"{path}: is named for two outputs, they need a file each")
        seen.add(real)
