"""The kinds of outputs there are: a module of this package that defines `SPEC` adds one.

Every module of `pipeline.sinks` and `pipeline.sinks.files` is imported for the help of the command
line, so none of them imports a large package at once: NumPy, OpenCV and PyAV wait for `open`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from squeezedrive.pipeline import sinks
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.sinks import files

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config
    from squeezedrive.pipeline.core.source import Source
    from squeezedrive.pipeline.sinks.recordings.parts import Split

STDOUT = Path("-")  # the name for standard output


@dataclass(frozen=True)
class SinkContext:
    """What a sink is opened with.

    Attributes
    ----------
    path : Path
        Where it writes; meaningless for a switch.
    source : Source
        What it is fed with.
    class_names : sequence of str
        Names in the order of the class indices.
    config : Config
        How to write.
    header : callable
        Returns what there is to know about the run, a mapping of anything `json` can write; asked
        for when the first frame is there.
    split : Split or None
        Segments and events, the same for all sinks of the source; None if there are none.
    """

    path: Path
    source: Source
    class_names: Sequence[str]
    config: Config
    header: Callable[[], Mapping[str, Any]]
    split: Split | None


@dataclass(frozen=True)
class SinkSpec:
    """A kind of output: its option, what is checked before a run, and how it is opened.

    Attributes
    ----------
    option : str
        Name of its option, without dashes.
    help : str
        What the option does.
    open : callable
        Returns the sink, which writes nothing before its first result.
    metavar : str
        What the value of the option is called.
    short : str
        The option in short, "-o".
    kind : str
        What the user names: a file, a folder, or nothing, if the option is a switch.
    stdout : bool
        Whether "-" means standard output.
    turns_on : tuple of str
        Configuration keys that become true when the user asks for it.
    check : callable
        Raises `SinkError` for a path that it cannot write to for reasons of its own.
    exists : callable
        Whether there are results at a path already, which only --overwrite may replace.
    in_series : callable
        Whether it goes on in files with numbers of their own, which replace none.
    ending : str
        Makes the name beside the source, where the user gives none; "" if it is only written when
        the user asks for it.
    wanted : callable or None
        With an `ending`: whether it is written.
    """

    option: str
    help: str
    open: Callable[[SinkContext], Sink]
    metavar: str = ""
    short: str = ""
    kind: Literal["file", "folder", "switch"] = "file"
    stdout: bool = False
    turns_on: tuple[str, ...] = ()
    check: Callable[[Path], None] = lambda path: None
    exists: Callable[[Path], bool] = Path.is_file
    in_series: Callable[[Config], bool] = lambda config: False
    ending: str = ""
    wanted: Callable[[Config], bool] | None = None

    def is_written(self, paths: Mapping[str, Path], config: Config) -> bool:
        """Return whether it is one of the outputs of a source, whose names are `paths`."""
        return self.option in paths if self.wanted is None else self.wanted(config)


def sink_specs() -> list[SinkSpec]:
    """Find all kinds of outputs, in the order of the help."""
    specs = []
    for package in (sinks, files):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.ispkg:
                spec = vars(importlib.import_module(module.name)).get("SPEC")
                specs += [spec] if isinstance(spec, SinkSpec) else []
    return specs


def open_sinks(
    paths: Mapping[str, Path],
    source: Source,
    class_names: Sequence[str],
    config: Config,
    header: Callable[[], Mapping[str, Any]],
    share: float = 1.0,
) -> list[Sink]:
    """Return the sinks of one source, in the order in which they are to be written.

    Parameters
    ----------
    paths : mapping of str to Path
        The name of each output by its option, from `plan_outputs`.
    source, class_names, config, header
        As in `SinkContext`.
    share : float
        Part of `record.keep` that this source may take.
    """
    split = None
    if config.record.segment is not None or config.record.events:
        from squeezedrive.pipeline.sinks.recordings.parts import open_split

        split = open_split(config.record, class_names, paths, share)
    opened = [
        spec.open(SinkContext(paths[spec.option], source, class_names, config, header, split))
        for spec in sink_specs()
        if spec.is_written(paths, config)
    ]
    # First what leaves nothing behind: without a display nothing is written. Last what encodes
    # pictures: what is quick does not wait for it.
    return sorted(opened, key=lambda sink: (not sink.is_display, sink.draws))
