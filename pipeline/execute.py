"""One run from start to end, with progress, signals and summary."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from engines.errors import UserError
from pipeline.config import Config
from pipeline.errors import SinkError, SourceError
from pipeline.outputs import STDOUT, Outputs
from pipeline.profiling.figures import render as render_profile
from pipeline.profiling.profiler import Profiler, prepare_folder
from pipeline.progress import open_progress
from pipeline.run import Pipeline
from pipeline.session import Session
from pipeline.summary import render, summarise

log = logging.getLogger("squeezedrive")


def execute(
    sources: Sequence[str],
    config: Config,
    outputs: Outputs,
    progress: bool = True,
    report: bool = True,
) -> int:
    """Process sources, report on standard error, print the summary; return the exit code.

    With `outputs.profile`, the run is watched, and its profile is printed in place of the summary.

    Parameters
    ----------
    sources : sequence of str
        As for `Session`.
    config : Config
        Validated configuration.
    outputs : Outputs
        Where results go.
    progress : bool
        Whether to show how far the run is.
    report : bool
        Whether to print what the run did.

    Raises
    ------
    UserError
        If something the user gave cannot be used, or fails on the way; outputs are finished.
    """
    if outputs.profile is not None:
        prepare_folder(outputs.profile, outputs.overwrite)
    with Session(sources, config, outputs) as session:
        pipeline = session.pipeline
        profiler = None if outputs.profile is None else Profiler(session)
        for feed in session.feeds:
            log.info("source %s: %s", feed.source.info.name, feed.source.info.describe())
        ended = "complete"
        failure: UserError | None = None
        cpu_before = _cpu_seconds()
        with (
            _signals() as received,
            open_progress(session.expected_frames, progress) as show,
        ):

            def tick(running: Pipeline) -> None:
                if len(received) > 1:
                    running.give_up()
                elif received or (session.window is not None and session.window.closed):
                    running.stop()
                show(running)
                if profiler is not None:
                    profiler.tick()

            try:
                pipeline.run(tick)
            except UserError as error:
                failure, ended = error, str(error)
        cpu = _cpu_seconds() - cpu_before
        if received:
            ended = signal.Signals(received[0]).name
        if pipeline.read == 0 and failure is None and not received:
            failure = SourceError(f"{session.name}: has no frames that can be shown")
        for line in session.warnings:
            log.warning("%s", line)
        summary = summarise(session, cpu, len(os.sched_getaffinity(0)), ended)
        text = render(summary)
        given_up = len(received) > 1
        if profiler is not None and outputs.profile is not None and not (failure or given_up):
            try:
                figures = profiler.finish(summary)
                profiler.write(outputs.profile, figures)
                text = f"{render_profile(figures)}\nwrote       {outputs.profile / 'report.html'}"
            except UserError as error:
                failure = error
        if report and (pipeline.processed or (pipeline.read and failure is None)):
            stdout_taken = STDOUT in (outputs.jsonl, outputs.mot)
            # Who has closed our output does not want to read it.
            with suppress(OSError):
                print(text, file=sys.stderr if stdout_taken else sys.stdout, flush=True)
        if outputs.summary is not None:
            try:
                outputs.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                reason = f"{outputs.summary}: cannot write the summary: {error.strerror}"
                failure = failure or SinkError(reason)
        if failure is not None:
            raise failure
        # A camera is always ended by a signal: that is no failure.
        return 128 + received[0] if received and not session.live else 0


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM: the first is to end the run in order, the second at once."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
