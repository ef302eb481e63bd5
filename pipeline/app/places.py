"""Names the outputs of many files: beside each, or below a folder as the files lie themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from squeezedrive.pipeline.app.outputs import Outputs, numbered
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sinks.registry import sink_specs
from squeezedrive.pipeline.sinks.spec import SinkSpec
from squeezedrive.pipeline.sources.collect import SourceFile

SUMMARY = "summary"  # the option, and the name of the file of all in a folder of summaries


def place_outputs(outputs: Outputs, files: Sequence[SourceFile]) -> list[dict[str, Path]]:
    """Name the outputs of each file.

    An output that the user names by a folder lies below it, at the `place` of its file and with an
    ending of its own: out/DCIM/0001.jsonl. KITTI results have a folder for each file. One that is
    named by a file has that name, or of several ride.0.jsonl, ride.1.jsonl and so on. The video
    lies beside its source if it has no name.

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
    """Return whether outputs that are files are named by a folder that is there, or by a slash."""
    files = [spec.option for spec in sink_specs() if spec.kind == "file"]
    paths = {option: path for option, path in outputs.sinks.items() if option in files}
    if outputs.summary is not None:
        paths[SUMMARY] = outputs.summary
    return any(option in outputs.folders or path.is_dir() for option, path in paths.items())


def is_folder(outputs: Outputs, option: str, spec: SinkSpec | None = None) -> bool:
    """Return whether the path of an option names a folder for the outputs of many files.

    It does if there is one, if it ends with a slash, and if there is nothing and no suffix.
    """
    path = outputs.summary if spec is None else outputs.sinks[option]
    if path is None or (spec is not None and spec.kind == "folder"):
        return path is not None
    return option in outputs.folders or path.is_dir() or not (path.suffix or path.exists())


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")
