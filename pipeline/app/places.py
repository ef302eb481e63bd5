"""Name the outputs of many files: beside each file, or in a folder with the same subfolders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from squeezedrive.pipeline.app.outputs import Outputs, numbered
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sinks.registry import sink_specs
from squeezedrive.pipeline.sinks.spec import SinkSpec
from squeezedrive.pipeline.sources.collect import SourceFile

SUMMARY = "summary"  # the option, and the name of the file of totals in a folder of summaries


def place_outputs(outputs: Outputs, files: Sequence[SourceFile]) -> list[dict[str, Path]]:
    """Name the outputs of each file.

    If the user gives a folder, the output lies in it at the `place` of its file, with an ending of
    its own: out/DCIM/0001.jsonl. KITTI results have a folder for each file. If the user gives a
    file, the output has that name, with several files ride.0.jsonl, ride.1.jsonl and so on. A
    video without a name lies beside its source.

    Parameters
    ----------
    outputs : Outputs
        What the user asks for.
    files : sequence of SourceFile
        The sources, from `collect`.

    Returns
    -------
    list of dict of str to Path
        For each file, paths by option. An output with a default name has one even if it is not
        written.
    """
    specs = sink_specs()
    places = []
    for number, file in enumerate(files):
        paths = {}
        for spec in specs:
            path = outputs.sinks.get(spec.option)
            if path is None:
                if spec.ending:
                    beside = file.beside if file.beside.name else file.beside.resolve()
                    paths[spec.option] = _with_ending(beside, spec.ending)
            elif spec.kind == "switch" or (spec.stdout and path == STDOUT):
                paths[spec.option] = path
            elif is_folder(outputs, spec.option, spec):
                paths[spec.option] = _with_ending(path / file.place, spec.ending_in_folder)
            else:
                paths[spec.option] = path if len(files) == 1 else numbered(path, number)
        places.append(paths)
    return places


def summary_place(outputs: Outputs, file: SourceFile) -> Path | None:
    """Return where the summary of one of several files goes; None if they share one."""
    if outputs.summary is None or not is_folder(outputs, SUMMARY):
        return None
    return _with_ending(outputs.summary / file.place, ".summary.json")


def total_summary(outputs: Outputs) -> Path | None:
    """Return where the summary of all files goes, if it was asked for."""
    if outputs.summary is None or not is_folder(outputs, SUMMARY):
        return outputs.summary
    return outputs.summary / f"{SUMMARY}.json"


def names_folders(outputs: Outputs) -> bool:
    """Return whether a folder is given for outputs that are files: one that exists, or NAME/."""
    files = [spec.option for spec in sink_specs() if spec.kind == "file"]
    paths = {option: path for option, path in outputs.sinks.items() if option in files}
    if outputs.summary is not None:
        paths[SUMMARY] = outputs.summary
    return any(option in outputs.folders or path.is_dir() for option, path in paths.items())


def is_folder(outputs: Outputs, option: str, spec: SinkSpec | None = None) -> bool:
    """Return whether the path of an option names a folder for the outputs of many files.

    It does if the folder exists, if a slash ends the path, and if nothing exists and the path has
    no suffix.
    """
    path = outputs.summary if spec is None else outputs.sinks[option]
    if path is None or (spec is not None and spec.kind == "folder"):
        return path is not None
    return option in outputs.folders or path.is_dir() or not (path.suffix or path.exists())


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")
