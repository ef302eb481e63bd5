"""Runs a fleet: which files are left, who does them, how far it is, how it ends."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.progress import Progress
from squeezedrive.engines.signals import on_signals
from squeezedrive.pipeline.app.finished import FileVersion, config_hash, run_key, weights_hash
from squeezedrive.pipeline.app.network import describe_network
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.fleet.job import Job, place_of
from squeezedrive.pipeline.fleet.pool import Pool
from squeezedrive.pipeline.fleet.resume import left_of, remove_rows, unfinished
from squeezedrive.pipeline.fleet.sources import Listed
from squeezedrive.pipeline.fleet.storage import ResultFolder
from squeezedrive.pipeline.fleet.tally import FleetTally
from squeezedrive.pipeline.fleet.worker import WorkerOptions
from squeezedrive.pipeline.sinks.recordings.events import check_events

log = logging.getLogger("squeezedrive")

WAIT_SECONDS = 0.2
PLAIN_SECONDS = 10.0  # between lines of progress where there is no terminal


def run_fleet(
    listed: list[Listed],
    options: WorkerOptions,
    open_pool: Callable[[], Pool],
    progress: bool = True,
    metrics_port: int | None = None,
) -> int:
    """Do all files that are not finished, and print what was done; return the exit code.

    The first signal ends the run when the files under way are done, the second gives them up.

    Returns
    -------
    int
        0; 1 if a file failed, in this run or before; 130 or 143 if the run was interrupted.

    Raises
    ------
    UserError
        If the network, the workers or the folder of the tables cannot be used.
    """
    track = options.config.source.track_index
    if track == "all":
        raise ConfigError(
            "source.track_index: a fleet reads one video track of each recording: expected its"
            " number, got all; run it once a track, each with an --out of its own"
        )
    network = describe_network(options.config)
    check_events(options.config.record.model_copy(update={"keep": None}), network.class_names)
    # Whole and in parts, a recording has different rows.
    split = "" if options.split is None else f" split {options.split:g}"
    settings = weights_hash(network), config_hash(options.config) + split
    versions = (FileVersion(one.name, one.size, str(one.modified), track) for one in listed)
    jobs = [Job(version.name, version.size, run_key(version, *settings)) for version in versions]
    folder = ResultFolder(options.out)
    tally = FleetTally(len(jobs), sum(job.size for job in jobs))
    received: list[int] = []
    with ExitStack() as stack:
        stack.enter_context(on_signals(received.append))
        _write_settings(folder, options, network.weights.profile.name)
        if metrics_port is not None:
            _serve(tally, metrics_port, stack)
        left = stack.enter_context(closing(unfinished(jobs, folder, tally)))
        first = next(left, None)
        if first is not None and not received:
            pool = stack.enter_context(closing(open_pool()))
            shown = stack.enter_context(Progress(PLAIN_SECONDS, enabled=progress))
            _work(_chain(first, left), pool, folder, tally, received, shown)
    with suppress(OSError):  # who has closed our output does not want to read it
        print(tally.summary(folder.url), flush=True)
    if received:
        return 128 + received[0]
    return 1 if tally.failed else 0


def _work(
    jobs: Iterator[Job],
    pool: Pool,
    folder: ResultFolder,
    tally: FleetTally,
    received: list[int],
    progress: Progress,
) -> None:
    noticed = False
    parts: deque[Job] = deque()  # of recordings that are begun
    while len(received) < 2:
        while not received and pool.room:
            job = parts.popleft() if parts else next(jobs, None)
            if job is None:
                break
            pool.submit(job)
        if received and not noticed:
            noticed = True
            progress.close()
            log.warning(
                "interrupted: %d files are finished first; a second time gives them up",
                pool.under_way,
            )
        if not pool.under_way and (received or pool.room):
            return
        rows = pool.wait(WAIT_SECONDS)
        tally.workers = pool.workers
        for row in rows:
            tally.add(row)
            if row.exit_kind != "done":
                progress.close()
                log.warning("%s: %s: %s", row.shown, row.stage, row.message)
            if row.following:
                remove_rows(folder, [place_of(row.source)])  # of before it was divided
                parts.extend(left_of(row.following, folder, tally))
        if progress.due():
            progress.show(*tally.line())


def _chain(first: Job, others: Iterator[Job]) -> Iterator[Job]:
    yield first
    yield from others


def _write_settings(folder: ResultFolder, options: WorkerOptions, model: str) -> None:
    """Write run.json, which also shows whether the folder can be written."""
    content = {"model": model, "config": options.config.model_dump(mode="json")}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "run.json"
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            folder.put(path, "run.json")
    except OSError as error:
        raise SinkError(f"{folder.url}: cannot be written: {error}") from None


def _serve(tally: FleetTally, port: int, stack: ExitStack) -> None:
    """Answer Prometheus at a port of this machine."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(tally)
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise ConfigError(f"--metrics: port {port} cannot be had: {error.strerror}") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    stack.callback(stop)
    print(f"metrics: http://127.0.0.1:{port}/metrics", file=sys.stderr)
