"""Does the files of a fleet one after the other, with a network that stays loaded."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from squeezedrive.engines.errors import GpuLost
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.app.feeds import run_header
from squeezedrive.pipeline.app.inputs import source_options
from squeezedrive.pipeline.app.network import LoadedNetwork, describe_network, open_network
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.errors import SourceError, StageError
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.core.timing import thread_named
from squeezedrive.pipeline.fleet import tables
from squeezedrive.pipeline.fleet.job import FileRow, Job, kind_of
from squeezedrive.pipeline.fleet.scratch import Scratch
from squeezedrive.pipeline.fleet.storage import VIDEO, ResultFolder, fetch, is_remote, read_through
from squeezedrive.pipeline.sinks.files.parquet import ParquetSink
from squeezedrive.pipeline.sources.parts import plan_parts
from squeezedrive.pipeline.stages.pipeline import Pipeline

log = logging.getLogger("squeezedrive")

TRIES = 3  # of a file, where a disk, a network or a machine fails
RETRY_SECONDS = 2.0  # before the second try, twice as much before each later one
AT_ONCE = 2  # files: one is fetched or its results are written while the other is run


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker does with its files.

    Attributes
    ----------
    config : Config
        As the user has it.
    out : str
        Folder of the tables, a path or URL.
    video : bool
        Whether annotated videos are written.
    scratch : int
        Bytes of files it may have fetched at the same time.
    cores : int
        Threads for the network; half as many for the encoder. 0: as many as there are cores.
    split : float or None
        Seconds; recordings that are longer are divided into parts, see `plan_parts`.
    """

    config: Config
    out: str
    video: bool
    scratch: int
    cores: int = 0
    split: float | None = None


class FleetWorker:
    """Runs files through a network that it loads when it is made.

    Parameters
    ----------
    options : WorkerOptions
        What to do with them.

    Raises
    ------
    UserError
        If the network cannot be loaded, or the folder of the tables not be used.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._config = _session_config(options)
        if options.cores:
            cv2.setNumThreads(options.cores)
        self._folder = ResultFolder(options.out)
        network = describe_network(self._config)
        with thread_named("inference"):
            self._loaded = LoadedNetwork(network, open_network(self._config, network))
        self._scratch = Scratch(options.scratch)
        self._turn = threading.Lock()  # at the network
        self._given_up = threading.Event()

    def process(self, job: Job, before: int = 0) -> FileRow:
        """Do a file and commit its results; from `AT_ONCE` threads at most.

        Whatever goes wrong is in the row. A file that was given up has no results. Of one that has
        to be divided the first part is done; the others are in the row. `before` is how often other
        workers have begun it.

        Raises
        ------
        GpuLost
            If this worker can do nothing more.
        """
        for tries in range(1, TRIES + 1):
            row = job.row(before + tries)
            self._try(job, row, last=tries == TRIES)
            if row.is_final or self._given_up.is_set():
                break
            if tries < TRIES:
                log.info("%s: tried again: %s: %s", row.shown, row.stage, row.message)
                self._given_up.wait(RETRY_SECONDS * 2 ** (tries - 1))
        return row

    def give_up(self) -> None:
        """End what is being done, now and for good; may be called from any thread."""
        self._given_up.set()

    def close(self) -> None:
        """Release the network and the temporary files."""
        self._loaded.backend.close()
        self._scratch.close()

    def _try(self, job: Job, row: FileRow, last: bool) -> None:
        """Process a file and fill in its row; commit the row if there is no further try."""
        row.host = socket.gethostname()
        header: dict[str, Any] = {
            "config": self._options.config.model_dump(mode="json"),
            "source": {"name": job.shown},
        }
        begun = time.monotonic()
        given_up = self._given_up.is_set
        remote = is_remote(job.name)
        try:
            with self._scratch.folder(job.size if remote else 0, given_up) as folder:
                path = Path(job.name)
                if remote:
                    path = folder / f"source{path.suffix}"
                    self._fetch(job, path, row)
                note = ""
                if row.message is None and job.part is None and self._options.split is not None:
                    job, note = self._divide(job, path, row)
                with self._turn:
                    if row.message is None and not given_up():
                        self._run(job, path, folder, row, header)
                row.warnings += [note] if note else []
                row.seconds, row.finished = time.monotonic() - begun, time.time()
                if not given_up() and (row.is_final or last):
                    self._folder.commit(folder, row, header)
        except Exception as error:
            _note(row, "commit", error)
        if given_up():
            row.fail("infrastructure", "worker", "was given up")

    def _fetch(self, job: Job, path: Path, row: FileRow) -> None:
        try:
            self._scratch.check(job.size)
            fetch(job.name, job.size, path, self._given_up.is_set)
        except Exception as error:
            _note(row, "fetch", error)

    def _divide(self, job: Job, path: Path, row: FileRow) -> tuple[Job, str]:
        """Return the first part of a file, the others are for the row; or all, and why."""
        assert self._options.split is not None
        options = source_options(self._config.source)
        try:
            plan = plan_parts(str(path), options, self._options.split)
        except SourceError:
            return job, ""  # whoever opens it will see why
        except Exception as error:
            _note(row, "split", error)
            return job, ""
        if not plan.parts:
            return job, f"was not split: {plan.reason}" if plan.reason else ""
        first, *row.following = job.others(plan.parts)
        row.take(first.part)
        return first, ""

    def _run(
        self, job: Job, path: Path, folder: Path, row: FileRow, header: dict[str, Any]
    ) -> None:
        """Write what is in a file into a folder, and complete what heads its tables."""
        config, loaded, name = self._options.config, self._loaded, job.shown
        names = loaded.description.class_names
        events = tables.EventTable(name, config.record, names)
        tally = _Tally()

        def sinks_of(source: Source) -> Sequence[Sink]:
            header.update(run_header(source, config, loaded.description, loaded.backend))
            header["source"]["name"] = name
            if job.part is not None:
                header["source"]["part"] = asdict(job.part)
            detections = ParquetSink(folder / "detections", name, names, lambda: header)
            return [detections, events, tally]

        def shown(line: str) -> str:  # not what it is called here
            return line.replace(readable(path), name)

        def tick(running: Pipeline) -> None:
            if self._given_up.is_set():
                running.give_up()

        stage = "open"
        try:
            outputs = Outputs({"output": folder / VIDEO} if self._options.video else {})
            with open_session(
                [str(path)], self._config, outputs, sinks_of, loaded=loaded, part=job.part
            ) as session:
                stage = "run"
                try:
                    session.pipeline.run(tick)
                    failure = session.emptiness()
                    if failure is not None:
                        raise failure
                finally:
                    feed = session.feeds[0]
                    row.width, row.height = feed.source.info.width, feed.source.info.height
                    row.frames, row.detections = feed.processed, feed.found.total()
                    row.skipped = feed.source.report.skipped.total()
                    row.video_seconds, row.events = tally.seconds, len(events.rows)
                    row.warnings = [shown(line) for line in session.warnings]
        except Exception as error:
            _note(row, stage, error, shown)
            if row.exit_kind == "bad file":
                _blame_disk(row, path)
        tables.write_events(folder / "events", events.rows, header)


class _Tally(Sink):
    """Notes from when to when there are frames."""

    def __init__(self) -> None:
        self.name = "tally"
        self._first: FrameResult | None = None
        self.seconds = 0.0

    def write(self, result: FrameResult) -> None:
        """Take one frame."""
        if self._first is None:
            self._first = result
        self.seconds = result.frame.seconds - self._first.frame.seconds

    def close(self) -> None:
        """Do nothing."""


def _session_config(options: WorkerOptions) -> Config:
    """Return how files are run: threads within what the worker may use, and tables alone."""
    config, cores = options.config, options.cores
    cpu, video = config.cpu, config.video.model_copy(update={"write": options.video})
    if cores and not cpu.threads:
        cpu = cpu.model_copy(update={"threads": cores})
    if cores and not video.threads:
        video = video.model_copy(update={"threads": max(cores // 2, 1)})
    return config.model_copy(
        update={
            "cpu": cpu,
            "video": video,
            "queue": config.queue.model_copy(update={"policy": "lossless"}),
            "record": config.record.model_copy(
                update={"events": [], "segment": None, "keep": None}
            ),
            "preview": config.preview.model_copy(update={"address": None}),
        }
    )


def _blame_disk(row: FileRow, path: Path) -> None:
    """Make a bad file a failure of the infrastructure if its disk does not give all its bytes.

    FFmpeg gives the same error for both. What a missing file or permission is, the row has already.
    """
    try:
        read_through(path)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        pass
    except OSError as error:
        row.fail("infrastructure", row.stage or "run", f"cannot be read: {error.strerror}")


def _note(row: FileRow, stage: str, error: Exception, shown: Callable[[str], str] = str) -> None:
    """Put a failure into the row; a fault of the program into the log as well, with its place."""
    if isinstance(error, GpuLost):
        raise error
    kind = kind_of(error)
    if kind == "fault":
        log.error("%s\n%s", row.source, "".join(traceback.format_exception(error)).rstrip())
    where = error.stage if isinstance(error, StageError) else stage
    row.fail(kind, where, shown(str(error)) or type(error).__name__)
