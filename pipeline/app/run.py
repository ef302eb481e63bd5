"""Run a pipeline from start to end, with progress, signals and summary."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.program import printable_lines
from squeezedrive.engines.signals import on_signals
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.progress import OpenProgress, open_progress
from squeezedrive.pipeline.app.session import Session, open_session
from squeezedrive.pipeline.app.summary import format_summary, summarise
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import ProfileError, SinkError
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.profiling.figures import format_profile
from squeezedrive.pipeline.profiling.profiler import Profiler, profile_folder
from squeezedrive.pipeline.stages.pipeline import Pipeline

log = logging.getLogger("squeezedrive")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended."""

    summary: dict[str, Any]  # from `summarise`
    profile: dict[str, Any] | None  # from `collect_figures`, if there was something to measure
    failure: UserError | None  # the first error
    signals: tuple[int, ...]  # those received; the first one ended the run
    complete: bool  # whether the sources were read to their end, or as far as configured


def run_sources(
    sources: Sequence[str], config: Config, outputs: Outputs, progress: bool = True
) -> int:
    """Process sources, report on standard error, print the summary; return the exit code.

    With `outputs.profile`, the run is measured, and its profile is printed instead of the summary.
    For the parameters see `open_session`; `progress` is whether to show the progress.

    Raises
    ------
    UserError
        If something the user gave cannot be used, or fails on the way; outputs are finished.
    """
    with ExitStack() as stack:
        if outputs.profile is not None:
            stack.enter_context(profile_folder(outputs.profile, outputs.overwrite))
        session = stack.enter_context(open_session(sources, config, outputs))
        finished = run_session(session, outputs.profile, progress)
        failure, pipeline = finished.failure, session.pipeline
        if outputs.summary is not None:  # first: printing fails if nobody reads
            try:
                write_summary(outputs.summary, finished.summary)
            except SinkError as error:
                failure = failure or error
        text = format_summary(finished.summary)
        if finished.profile is not None and outputs.profile is not None:
            text = format_profile(finished.profile)
            if failure is None:
                text += f"\nwrote       {outputs.profile / 'report.html'}"
        if pipeline.processed or (pipeline.read and failure is None):
            print_report(text, outputs)
        if failure is not None:
            raise failure
        # A run with a camera always ends by a signal, which is not a failure.
        return 128 + finished.signals[0] if finished.signals and not session.live else 0


def print_report(text: str, outputs: Outputs) -> None:
    """Print lines for the user where they do not mix with an output on standard output."""
    stream = sys.stderr if STDOUT in outputs.sinks.values() else sys.stdout
    with suppress(OSError):  # nobody reads it any more
        print(printable_lines(text), file=stream, flush=True)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the figures of a run.

    Raises
    ------
    SinkError
        If it cannot be written.
    """
    text = json.dumps(summary, indent=2) + "\n"
    try:
        with on_signals(lambda _: None, once=True):  # writing takes only a moment
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path}: cannot write the summary: {error.strerror}") from error


def run_session(session: Session, profile: Path | None, progress: bool) -> RunOutcome:
    """Run a session to its end, or to a signal, and profile it into a folder if there is one.

    Raises
    ------
    ProfileError
        If the run would be too short for a profile.
    """
    received: list[int] = []
    with on_signals(received.append):
        return watch_session(session, profile, partial(open_progress, enabled=progress), received)


def watch_session(
    session: Session, profile: Path | None, open_bar: OpenProgress, received: Sequence[int]
) -> RunOutcome:
    """Run a session as `run_session` does, with the caller's progress line and signals.

    The caller adds signals to `received`: the first ends the run in order, the second at once.
    """
    pipeline = session.pipeline
    profiler = None if profile is None else Profiler(session)
    for feed in session.feeds:
        log.info("source %s: %s", feed.source.info.name, feed.source.info.describe())
    ended = "complete"
    failure: UserError | None = None
    figures = None
    cpu_before = time.process_time()
    with open_bar(session.expected_frames) as show:

        def tick(running: Pipeline) -> None:
            if len(received) > 1:
                running.give_up()
            elif received or any(sink.ended for sink in session.sinks):
                running.stop()
            show(running)
            if profiler is not None:
                profiler.tick()

        try:
            pipeline.run(tick)
        except UserError as error:
            failure, ended = error, str(error)
    cpu = time.process_time() - cpu_before
    if received:
        ended = signal.Signals(received[0]).name
    if failure is None and not received:
        failure = session.emptiness()
    for line in session.warnings:
        log.warning("%s", line)
    summary = summarise(session, cpu, len(os.sched_getaffinity(0)), ended)
    if len(received) > 1 and profile is not None:
        log.warning("no profile: the run was given up")
    elif profiler is not None and profile is not None:
        try:
            figures = profiler.finish(summary, lambda: len(received) > 1, failure is None)
            profiler.write(profile, figures)
        except ProfileError as error:
            if failure or received:  # it would have been longer
                log.warning("no profile: %s", error)
            else:
                failure = error
        except SinkError as error:
            failure = failure or error
    stopped = failure is not None or bool(received) or any(sink.ended for sink in session.sinks)
    return RunOutcome(summary, figures, failure, tuple(received), not stopped)
