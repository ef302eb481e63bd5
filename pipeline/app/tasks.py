"""Plan a run of many files: which files, the names of their outputs, and which are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.feeds import OwnSinks
from squeezedrive.pipeline.app.finished import config_hash, file_version, run_key, weights_hash
from squeezedrive.pipeline.app.journal import Journal, is_intact
from squeezedrive.pipeline.app.network import LoadedNetwork, NetworkDescription
from squeezedrive.pipeline.app.outputs import (
    Outputs,
    check_for_several,
    check_outputs,
    companions,
    written_outputs,
)
from squeezedrive.pipeline.app.page import LivePage
from squeezedrive.pipeline.app.places import (
    names_folders,
    place_outputs,
    summary_place,
    total_summary,
)
from squeezedrive.pipeline.app.session import Session, open_session
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SinkError, SourceError
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sources.collect import (
    Collection,
    SourceFile,
    collect,
    is_recorded,
    split_tracks,
)
from squeezedrive.pipeline.stages.feed import Draw


@dataclass(frozen=True)
class FileTask:
    """A file of a run, its outputs, and whether it is done.

    Attributes
    ----------
    file : SourceFile
        The file.
    paths : dict of str to Path
        Its outputs, by option.
    written : list of Path
        Those that are written.
    companions : list of Path
        Those that are written as well if the file has what it takes, such as positions.
    replaceable : frozenset of Path
        Those that may be replaced.
    summary : Path or None
        Where its figures go.
    key : str or None
        From `run_key`; None if the file cannot be looked up.
    size : int
        Bytes.
    is_done : bool
        Whether an earlier run has finished it.
    """

    file: SourceFile
    paths: dict[str, Path]
    written: list[Path]
    companions: list[Path]
    replaceable: frozenset[Path]
    summary: Path | None
    key: str | None
    size: int
    is_done: bool

    def open(
        self,
        config: Config,
        loaded: LoadedNetwork,
        sinks: OwnSinks = (),
        draw: Draw | None = None,
        number: int = 0,
        page: LivePage | None = None,
    ) -> Session:
        """Open the file and its outputs, and make missing folders.

        `config` is that of `plan_files`, `number` the `source_id` of its frames; for the rest see
        `open_session`.

        Raises
        ------
        UserError
            As `open_session`.
        """
        for path in [*self.written, *([] if self.summary is None else [self.summary])]:
            make_folder(path.parent)
        source = config.source
        if source.track_index == "all":
            source = source.model_copy(update={"track_index": self.file.track})
        config = config.model_copy(update={"source": source})
        asked = Outputs(self.paths, replaceable=self.replaceable)
        return open_session([self.file.spec], config, asked, sinks, draw, loaded, number, page)


def find_files(
    specs: Sequence[str], config: Config, outputs: Outputs, resume: bool = False
) -> Collection | None:
    """Return the files to process one after the other.

    Returns None for a single source whose outputs are not folders, and for live sources.

    Raises
    ------
    SourceError
        As `collect`.
    ConfigError
        If --resume is given with sources that are not files.
    """
    if not all(map(is_recorded, specs)):
        if resume:
            raise ConfigError("--resume: expected files, which can be read again")
        return None
    found = collect(specs)
    each_track = config.source.track_index == "all"
    alone = [file.spec for file in found.files] == list(specs) and len(specs) == 1
    if alone and not (resume or each_track or names_folders(outputs)):
        return None
    if each_track:
        from squeezedrive.pipeline.sources.tracks import count_tracks

        return Collection(split_tracks(found.files, count_tracks), found.notes)
    return found


def plan_files(
    files: Sequence[SourceFile],
    config: Config,
    outputs: Outputs,
    network: NetworkDescription,
    journal: Journal | None = None,
) -> list[FileTask]:
    """Name all outputs and check them; with a journal, find out which files are done.

    Raises
    ------
    UserError
        As `check_outputs`, or if an output is finished that this run would write otherwise.
    """
    if outputs.profile is not None:
        raise ConfigError("--profile: expected a single source, without --resume")
    if len(files) > 1:
        check_for_several(outputs)
        if config.record.keep is not None:
            raise ConfigError(f"record.keep: limits one recording, got {len(files)} files")
    weights, settings = weights_hash(network), config_hash(config)
    tasks = []
    replaceable: set[Path] = set()
    for file, paths in zip(files, place_outputs(outputs, files), strict=True):
        try:
            version = file_version(file, config)
        except SourceError:  # opening it will report why
            key, size = None, 0
        else:
            key, size = run_key(version, weights, settings), version.size
        written = [path for _, path in written_outputs(paths, config) if path != STDOUT]
        others = companions(paths)
        own = set(written)  # which are checked below
        if outputs.overwrite:
            own.update(others)
        is_done = False
        if journal is not None:
            if not written:
                raise ConfigError("--resume: expected outputs in files, got none")
            states = [_state(journal, path, key, config) for path in written]
            known = {path: _state(journal, path, key, config) for path in others}
            own.update(path for path, state in known.items() if state != "unknown")
            noted = [state for state in known.values() if state != "unknown"]
            is_done = all(state == "done" for state in [*states, *noted])
            for path, state in zip(written, states, strict=True):
                if state == "unknown" and path.is_file() and not outputs.overwrite:
                    raise SinkError(
                        f"{path}: exists already, but no run of files has begun it; --overwrite"
                        " replaces what is not finished"
                    )
                if state == "other" and not outputs.overwrite:
                    raise SinkError(
                        f"{path}: was finished with other settings, weights or another source, or"
                        " has changed since; --overwrite replaces what differs"
                    )
                if state != "unknown":
                    replaceable.add(path)
        summary = summary_place(outputs, file)
        tasks.append(
            FileTask(file, paths, written, others, frozenset(own), summary, key, size, is_done)
        )
    pending = [task for task in tasks if not task.is_done]
    total = total_summary(outputs)
    summaries = [task.summary for task in pending if task.summary is not None]
    summaries += [] if total is None else [total]
    if journal is not None:
        replaceable.update(summaries)
    outputs = replace(outputs, replaceable=frozenset(replaceable))
    inputs = [Path(file.spec) for file in files]
    _check_folders(outputs)
    check_outputs(outputs, [task.paths for task in pending], summaries, inputs, config, True)
    return tasks


def _state(journal: Journal, path: Path, key: str | None, config: Config) -> str:
    """Return the state of an output: "unknown", "unfinished", "done", or of an "other" run."""
    record = journal.find(path)
    if record is None:
        return "unknown"
    if record.size is None:
        return "unfinished"
    # A recording with a size limit deletes its oldest files.
    intact = config.record.keep is not None or is_intact(path, record.size)
    if record.key == key and intact:
        return "done"
    return "other" if path.exists() else "unfinished"


def _check_folders(outputs: Outputs) -> None:
    """Reject output folders whose parent folder does not exist: probably a typing error."""
    for path in [*outputs.sinks.values(), outputs.summary]:
        if path is not None and not path.absolute().parent.is_dir():
            raise SinkError(f"{path}: the folder {path.absolute().parent} does not exist")


def make_folder(folder: Path) -> None:
    """Make a folder for outputs.

    Raises
    ------
    SinkError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be made: {error.strerror}") from error
