"""The work of a library's run in its thread: one session, or one for each of many files."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.app.network import LoadedNetwork, describe_network, open_network
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import Session, open_session
from squeezedrive.pipeline.app.tasks import FileTask, find_files, plan_files
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.recordings.events import check_events
from squeezedrive.pipeline.stages.feed import Draw

log = logging.getLogger("squeezedrive")


class Work(ABC):
    """Sources, a network and outputs, opened together; `run` closes them.

    Attributes
    ----------
    class_names : tuple of str
        In the order of the class indices.
    sources : tuple of str
        Names of the sources, in the order of their numbers.
    failed : dict of str to UserError
        The errors of files that could not be read, or not to their end; by name.
    """

    class_names: tuple[str, ...]
    sources: tuple[str, ...]

    def __init__(self) -> None:
        self.failed: dict[str, UserError] = {}

    @abstractmethod
    def run(self) -> None:
        """Process all sources. Raises the error that ends it."""

    @abstractmethod
    def stop(self) -> None:
        """End the run in order; may be called from any thread, also before it begins."""

    @abstractmethod
    def give_up(self) -> None:
        """End the run now; may be called from any thread, also before it begins."""

    @abstractmethod
    def is_inside(self) -> bool:
        """Return whether the caller is a thread of the run."""


class SessionWork(Work):
    """Sources that are read at the same time."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.class_names = session.class_names
        self.sources = tuple(feed.source.info.name for feed in session.feeds)
        self._session = session

    def run(self) -> None:
        """Run the session to its end."""
        with self._session as session:
            session.pipeline.run()
            failure = session.emptiness()
            for line in session.warnings:
                log.warning("%s", line)
            if failure is not None:
                raise failure

    def stop(self) -> None:
        """Read no further frame."""
        self._session.pipeline.stop()

    def give_up(self) -> None:
        """End without the frames under way."""
        self._session.pipeline.give_up()

    def is_inside(self) -> bool:
        """Return whether the caller is a thread of the pipeline."""
        return self._session.pipeline.is_inside()


class FilesWork(Work):
    """Files that are read one after the other; a broken file does not end the others.

    Parameters
    ----------
    tasks : sequence of FileTask
        The files.
    config : Config
        The configuration of the tasks.
    loaded : LoadedNetwork
        The network, which is closed at the end.
    sinks : sequence of Sink
        The caller's own, which get the results of all files and are closed in the end.
    draw : callable or None
        See `open_session`.
    """

    def __init__(
        self,
        tasks: Sequence[FileTask],
        config: Config,
        loaded: LoadedNetwork,
        sinks: Sequence[Sink],
        draw: Draw | None,
    ) -> None:
        super().__init__()
        self.class_names = loaded.description.class_names
        self.sources = tuple(readable(task.file.spec) for task in tasks)
        self._tasks = tasks
        self._config = config
        self._loaded = loaded
        self._sinks = sinks
        self._draw = draw
        self._stopped = self._given_up = False
        self._session: Session | None = None
        self._changing = threading.Lock()  # the session, or whether to go on

    def run(self) -> None:
        """Run through all files."""
        with ExitStack() as stack:
            stack.callback(self._loaded.backend.close)
            for sink in self._sinks:
                stack.callback(sink.close)
            for number in range(len(self._tasks)):
                if not self._stopped:
                    self._run_file(number)

    def stop(self) -> None:
        """Read no further frame, and no further file."""
        with self._changing:
            self._stopped = True
            if self._session is not None:
                self._session.pipeline.stop()

    def give_up(self) -> None:
        """End without the frames under way."""
        with self._changing:
            self._stopped = self._given_up = True
            if self._session is not None:
                self._session.pipeline.give_up()

    def is_inside(self) -> bool:
        """Return whether the caller is a thread of the pipeline at work."""
        session = self._session
        return session is not None and session.pipeline.is_inside()

    def _run_file(self, number: int) -> None:
        sinks = [_Shared(sink) for sink in self._sinks]
        try:
            session = self._tasks[number].open(
                self._config, self._loaded, sinks, self._draw, number
            )
        except SourceError as error:
            self._fail(number, error)
            return
        with session:
            with self._changing:
                self._session = session
                if self._stopped:
                    session.pipeline.stop()
                if self._given_up:
                    session.pipeline.give_up()
            try:
                session.pipeline.run()
            except SourceError as error:
                if not session.pipeline.source_failed:  # the user's own sink raised it
                    raise
                self._fail(number, error)
            else:
                failure = session.emptiness()
                if failure is not None and not self._stopped:
                    self._fail(number, failure)
            for line in session.warnings:
                log.warning("%s", line)

    def _fail(self, number: int, error: SourceError) -> None:
        self.failed.setdefault(self.sources[number], error)
        log.warning("%s; the other files go on", error)


class _Shared(Sink):
    """A sink that stays open for the next file."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self.draws = sink.draws
        self._sink = sink

    def write(self, result: FrameResult) -> None:
        """Pass a result on."""
        self._sink.write(result)

    def close(self) -> None:
        """Do nothing: other files follow."""


def open_work(
    names: Sequence[str],
    config: Config,
    outputs: Outputs,
    sinks: Sequence[Sink],
    draw: Draw | None,
) -> Work:
    """Open sources: files of a folder, pattern or list in turn, all others at the same time.

    Raises
    ------
    UserError
        If something the user gave cannot be used.
    """
    found = find_files(names, config, outputs)
    if found is None:
        return SessionWork(open_session(names, config, outputs, sinks, draw))
    for note in found.notes:
        log.info("%s", note)
    network = describe_network(config)
    check_events(config.record, network.class_names)
    tasks = plan_files(found.files, config, outputs, network)
    loaded = LoadedNetwork(network, open_network(config, network))
    return FilesWork(tasks, config, loaded, sinks, draw)
