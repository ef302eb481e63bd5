"""Where the results of a run go, and whether they may."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.source import SourceInfo

STDOUT = Path("-")  # the name for standard output
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
    mot : Path or None
        Followed objects, a line each, in the format of the MOT Challenge; "-" likewise.
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
    mot: Path | None = None
    summary: Path | None = None
    profile: Path | None = None
    show: bool = False
    overwrite: bool = False


def numbered(outputs: Outputs, number: int) -> Outputs:
    """Return the outputs of one of several sources: ride.mp4 becomes ride.0.mp4, and so on.

    Raises
    ------
    SinkError
        If an output cannot be had once for each source.
    """
    for given, option in ((outputs.profile, "--profile"), (outputs.show, "--show")):
        if given:
            raise SinkError(f"{option}: expected one source, got several")
    for path, option in ((outputs.jsonl, "--jsonl"), (outputs.mot, "--mot")):
        if path == STDOUT:
            raise SinkError(
                f"{option} -: standard output is for one source, got several; name a file"
            )

    def of(path: Path | None) -> Path | None:
        if path is None:
            return None
        path = path if path.name else path.resolve()  # the current folder has no name of its own
        return path.parent / f"{path.stem}.{number}{path.suffix}"

    return replace(
        outputs,
        video=of(outputs.video),
        jsonl=of(outputs.jsonl),
        kitti=of(outputs.kitti),
        mot=of(outputs.mot),
        summary=None,
    )


def default_output(info: SourceInfo, number: int | None = None) -> Path:
    """Return where the annotated video goes if the user does not say: beside the source.

    The `number` of one of several sources tells those apart that are no files.
    """
    stem = info.stem if info.stem.name else info.stem.resolve()
    mark = "" if number is None or info.inputs else f".{number}"
    return stem.with_name(f"{stem.name}{mark}.detected.mp4")


def check_outputs(
    outputs: Outputs,
    video: Path | None,
    inputs: Collection[Path],
    many_videos: bool = False,
    many_jsonl: bool = False,
) -> None:
    """Refuse outputs that cannot be written, or that would cost the user something.

    Parameters
    ----------
    outputs : Outputs
        What the user asked for.
    video : Path or None
        Where the annotated video really goes, if one is written.
    inputs : collection of Path
        The files of all sources, which no output may replace.
    many_videos, many_jsonl : bool
        Whether video and detections go into files with numbers of their own, which replace none.

    Raises
    ------
    SinkError
        With the first reason found.
    """
    jsonl = outputs.jsonl
    named = (video, jsonl, outputs.mot, outputs.summary)
    files = [path for path in named if path is not None and path != STDOUT]
    folders = [] if outputs.kitti is None else [outputs.kitti]
    try:
        if video is not None:
            _check_video(video)
        for path in files:
            many = (many_videos and path == video) or (many_jsonl and path == jsonl)
            _check_file(path, inputs, outputs.overwrite or many)
        profile = [] if outputs.profile is None else [outputs.profile / n for n in PROFILE_FILES]
        check_distinct(files + profile)
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


def _check_file(path: Path, inputs: Collection[Path], overwrite: bool) -> None:
    if path.is_dir():
        raise SinkError(f"{path}: is a folder, expected a file name")
    if not path.is_file():
        return
    if any(path.samefile(source) for source in inputs):
        raise SinkError(f"{path}: is the source itself, choose another output")
    if not overwrite:
        raise SinkError(f"{path}: exists already; --overwrite replaces it")


def check_distinct(files: Sequence[Path]) -> None:
    """Refuse two outputs in one file.

    Raises
    ------
    SinkError
        If there are.
    """
    seen: set[Path] = set()
    for path in files:
        real = path.resolve()
        if real in seen and (path.is_file() or not path.exists()):
            raise SinkError(f"{path}: is named for two outputs, they need a file each")
        seen.add(real)


def _check_results_folder(path: Path, overwrite: bool) -> None:
    from squeezedrive.pipeline.sinks.files.kitti import has_results

    if path.exists() and not path.is_dir():
        raise SinkError(f"{path}: is a file, expected a folder for KITTI results")
    if path.is_dir() and has_results(path) and not overwrite:
        raise SinkError(
            f"{path}: holds results already; --overwrite adds to them and replaces those of the"
            " same frames"
        )
