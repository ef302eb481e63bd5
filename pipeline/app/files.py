"""Process many files in their order with one network; a broken file does not end the others."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import readable
from squeezedrive.engines.signals import on_signals
from squeezedrive.pipeline.app.journal import Journal
from squeezedrive.pipeline.app.network import LoadedNetwork, describe_network, open_network
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.page import LivePage, open_page
from squeezedrive.pipeline.app.places import total_summary
from squeezedrive.pipeline.app.progress import FilesProgress, OpenProgress
from squeezedrive.pipeline.app.run import RunOutcome, print_report, watch_session, write_summary
from squeezedrive.pipeline.app.tally import Tally, format_tally
from squeezedrive.pipeline.app.tasks import FileTask, make_folder, plan_files
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SinkError, SourceError, StageError
from squeezedrive.pipeline.sinks.recordings.events import check_events
from squeezedrive.pipeline.sources.collect import Collection

log = logging.getLogger("squeezedrive")

# After one of these, the disk cannot take the outputs of the other files either.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def run_files(
    collection: Collection,
    config: Config,
    outputs: Outputs,
    resume: bool = False,
    progress: bool = True,
) -> int:
    """Process files one after the other, print the totals; return the exit code.

    The code is 0, 1 if a file failed, or 128 plus the number of the signal that ended the run. A
    file that cannot be read is reported, and the next one is read. A journal beside the outputs
    notes what is begun and finished, see `Journal`.

    Parameters
    ----------
    collection : Collection
        The files.
    config : Config
        Validated configuration.
    outputs : Outputs
        Where results go; see `place_outputs`.
    resume : bool
        Whether to skip files whose outputs are finished and are what this run would write, and to
        replace outputs that a run has begun and not finished.
    progress : bool
        Whether to show the progress.

    Raises
    ------
    UserError
        If something the user gave cannot be used, which is known before the first frame, or if
        something that all files need is lost, such as the GPU; outputs are finished.
    """
    for note in collection.notes:
        log.info("%s", note)
    network = describe_network(config)
    check_events(config.record, network.class_names)
    journal = Journal()
    tasks = plan_files(collection.files, config, outputs, network, journal if resume else None)
    tally = Tally(network.class_names)
    start = time.monotonic()
    received: list[int] = []
    failure: UserError | None = None
    with ExitStack() as stack:
        loaded = page = None
        if not all(task.is_done for task in tasks):
            page = open_page(config, network, 1)  # first: its port may be in use
            if page is not None:
                stack.enter_context(page)
            loaded = LoadedNetwork(network, open_network(config, network))
            stack.callback(loaded.backend.close)
        stack.enter_context(on_signals(received.append))
        names = [readable(task.file.place) for task in tasks if not task.is_done]
        sizes = [task.size for task in tasks if not task.is_done]
        bar = stack.enter_context(FilesProgress(names, sizes, progress))
        number = 0  # of those that are not done
        for task in tasks:
            if task.is_done:
                tally.add(task.file, "done before")
            elif received or failure is not None or loaded is None:
                tally.add(task.file, "left")
            else:
                open_bar = partial(bar.file, number)
                run = _Run(task, config, loaded, page, journal, open_bar, received)
                failure = run.into(tally)
                number += 1
    return _conclude(tally, outputs, time.monotonic() - start, received, failure)


@dataclass(frozen=True)
class _Run:
    """One file, and what its run needs."""

    task: FileTask
    config: Config
    loaded: LoadedNetwork
    page: LivePage | None
    journal: Journal
    open_bar: OpenProgress
    received: list[int]

    def into(self, tally: Tally) -> UserError | None:
        """Run the file and add its outcome; return the error that ends the whole run, or None."""
        file = self.task.file
        outcome = None
        error: Exception | None = None
        try:
            outcome = self._run()
            error = outcome.failure if outcome is not None else None
        except UserError as caught:
            error = caught
        except StageError as caught:
            log.error("%s: %s", readable(file.spec), caught, exc_info=caught)
            error = caught
        summary = None if outcome is None else outcome.summary
        if error is not None:
            tally.add(file, "failed", error, summary)
            if isinstance(error, UserError) and _ends_all(error):
                return error
            log.warning("%s; the other files go on", error)
        elif outcome is None:
            tally.add(file, "left")
        elif not outcome.complete:
            tally.add(file, "interrupted", None, summary)
        else:
            tally.add(file, "done", None, summary)
        return None

    def _run(self) -> RunOutcome | None:
        """Return how the run ended; None if a signal came before it began."""
        task = self.task
        with task.open(self.config, self.loaded, page=self.page) as session:
            if self.received:
                return None
            written = task.written + [p for p in task.companions if str(p) in session.files]
            if task.key is not None:
                self.journal.begin(task.key, written)
            outcome = watch_session(session, None, self.open_bar, self.received)
        if task.summary is not None:
            write_summary(task.summary, outcome.summary)
        if outcome.complete and task.key is not None:
            self.journal.finish(task.key, written)
        return outcome


def _ends_all(error: UserError) -> bool:
    """Return whether the remaining files would fail in the same way."""
    if isinstance(error, SourceError):
        return False
    if not isinstance(error, SinkError):
        return True
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DISK_ERRORS


def _conclude(
    tally: Tally,
    outputs: Outputs,
    seconds: float,
    received: Sequence[int],
    failure: UserError | None,
) -> int:
    """Write and print the totals of all files; return the exit code."""
    ended = "complete" if failure is None else str(failure)
    if received:
        ended = signal.Signals(received[0]).name
    summary = tally.summarise(seconds, len(os.sched_getaffinity(0)), ended)
    path = total_summary(outputs)
    if path is not None:
        try:
            make_folder(path.parent)
            write_summary(path, summary)
        except SinkError as error:
            failure = failure or error
    print_report(format_tally(summary), outputs)
    if received or failure is not None:
        log.warning("repeat the command with --resume to process the remaining files")
    if failure is not None:
        raise failure
    if received:
        return 128 + received[0]
    return 1 if tally.count("failed") else 0
