"""Describe a kind of output: its option, its checks and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from squeezedrive.pipeline.core.sink import Sink

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config
    from squeezedrive.pipeline.core.source import Source, SourceInfo
    from squeezedrive.pipeline.sinks.recordings.parts import Split


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
    companion : str
        The suffix that its name has in place of the video's, where the user gives none; "" if it
        is only written when the user asks for it.
    accompanies : callable
        With a `companion`: whether it is written to such a name.
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
    companion: str = ""
    accompanies: Callable[[SourceInfo, Config], bool] = lambda info, config: False

    @property
    def ending_in_folder(self) -> str:
        """The ending that is added to a file's name in a folder with the outputs of many files.

        `0001.detected.mp4`, `0001.jsonl`, `0001.coco.json`; nothing for a folder.
        """
        if self.ending or self.kind == "folder":
            return self.ending
        suffix = PurePath(self.metavar).suffix
        return suffix if suffix == f".{self.option}" else f".{self.option}{suffix}"

    def is_written(self, paths: Mapping[str, Path], config: Config) -> bool:
        """Return whether it is one of the outputs of a source, whose names are `paths`."""
        return self.option in paths if self.wanted is None else self.wanted(config)
