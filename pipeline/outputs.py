"""Where the results of a run go, and whether they may."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SinkError
from pipeline.sources.base import SourceInfo

PROFILE_FILES = ("report.html", "summary.json", "trace.json")


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes
    ----------
    video : Path or None
        The annotated video; None for `NAME.detected.mp4` beside the source.
    jsonl : Path or None
        Detections, a line a frame; "-" for standard output.
    kitti : Path or None
        Folder of KITTI result files.
    summary : Path or None
        The figures of the run as JSON.
    profile : Path or None
        Folder for where the time went, see `pipeline.profiling`.
    show : bool
        Whether to open a window.
    overwrite : bool
        Whether outputs that exist may be replaced.
    """

    video: Path | None = None
    jsonl: Path | None = None
    kitti: Path | None = None
    summary: Path | None = None
    profile: Path | None = None
    show: bool = False
    overwrite: bool = False


def default_output(info: SourceInfo) -> Path:
    """Return where the annotated video goes if the user does not say: beside the source."""
    stem = info.stem if info.stem.name else info.stem.resolve()
    return stem.with_name(f"{stem.name}.detected.mp4")


def check_outputs(outputs: Outputs, video: Path | None, info: SourceInfo) -> None:
    """Refuse outputs that cannot be written, or that would cost the user something.

    Parameters
    ----------
    outputs : Outputs
        What the user asked for.
    video : Path or None
        Where the annotated video really goes, if one is written.
    info : SourceInfo
        The source, whose files no output may replace.

    Raises
    ------
    SinkError
        With the first reason found.
    """
    jsonl = None if outputs.jsonl == Path("-") else outputs.jsonl
    files = [path for path in (video, jsonl, outputs.summary) if path is not None]
    folders = [] if outputs.kitti is None else [outputs.kitti]
    try:
        if video is not None:
            _check_video(video)
        for path in files:
            _check_file(path, info, outputs.overwrite)
        profile = [] if outputs.profile is None else [outputs.profile / n for n in PROFILE_FILES]
        _check_distinct(files + profile)
        for path in folders:
            _check_results_folder(path, outputs.overwrite)
        for path in files + folders:
            folder = path.absolute().parent
            if not folder.is_dir():
                raise SinkError(f"{path}: the folder {folder} does not exist")
            if not os.access(path if path.exists() else folder, os.W_OK):
                raise SinkError(f"{path}: no permission to write there")
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{error.filename}: cannot be written: {error.strerror}") from None


def _check_video(path: Path) -> None:
    if path.suffix.lower() != ".mp4":
        raise SinkError(f"{path}: expected a name that ends in .mp4, the video is H.264 in MP4")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SinkError(f"{path}: expected a regular file, an MP4 is rewound while it is written")


def _check_file(path: Path, info: SourceInfo, overwrite: bool) -> None:
    if path.is_dir():
        raise SinkError(f"{path}: is a folder, expected a file name")
    if not path.is_file():
        return
    if any(path.samefile(source) for source in info.inputs):
        raise SinkError(f"{path}: is the source itself, choose another output")
    if not overwrite:
        raise SinkError(f"{path}: exists already; --overwrite replaces it")


def _check_distinct(files: list[Path]) -> None:
    seen: set[Path] = set()
    for path in files:
        real = path.resolve()
        if real in seen and (path.is_file() or not path.exists()):
            raise SinkError(f"{path}: is named for two outputs, they need a file each")
        seen.add(real)


def _check_results_folder(path: Path, overwrite: bool) -> None:
    from pipeline.sinks.kitti import has_results

    if path.exists() and not path.is_dir():
        raise SinkError(f"{path}: is a file, expected a folder for KITTI results")
    if path.is_dir() and has_results(path) and not overwrite:
        raise SinkError(
            f"{path}: holds results already; --overwrite adds to them and replaces those of the"
            " same frames"
        )
