"""Workers in processes of their own, which Ray starts, on this machine or on many."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.errors import BackendUnavailable, ConfigError, GpuLost
from squeezedrive.pipeline.fleet.job import FileRow, Job
from squeezedrive.pipeline.fleet.pool import Pool
from squeezedrive.pipeline.fleet.scratch import remove_abandoned
from squeezedrive.pipeline.fleet.storage import ResultFolder
from squeezedrive.pipeline.fleet.worker import AT_ONCE, FleetWorker, WorkerOptions

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

log = logging.getLogger("squeezedrive")

CORES = 4  # of a worker without a GPU, where a machine has so many
STARTS = 3  # tries to start Ray, which gives up after half a minute on a busy machine
DEATHS = 5  # of workers, after which the file that they had counts as failed


@dataclass(frozen=True)
class WorkerShare:
    """What Ray grants one worker, and how many of them there is room for."""

    cores: int
    gpus: int
    workers: int


@dataclass(eq=False)
class _Actor:
    """A worker; Ray starts it again where there is room if its process ends."""

    handle: ActorHandle
    starting: ObjectRef | None  # done when it is ready; None if it is
    jobs: dict[ObjectRef, Job] = field(default_factory=dict)


class RayPool(Pool):
    """One worker a GPU, or where there are none one in so many cores.

    Ray uses the cluster at `address`, or at RAY_ADDRESS; without both it is started on this machine
    and ended with the pool.

    Parameters
    ----------
    options : WorkerOptions
        What the workers do; `cores` is filled in.
    address : str or None
        Of a cluster.
    cores : int or None
        Of each worker; None for 4, or as many as the smallest machine has.
    workers : int or None
        How many; None for as many as there is room for. More than that start when there is.

    Raises
    ------
    ConfigError
        If the cluster does not answer or has no room for a worker.
    """

    def __init__(
        self, options: WorkerOptions, address: str | None, cores: int | None, workers: int | None
    ) -> None:
        import ray

        _start(ray, address)
        self._ray = ray
        # Ray prints what becomes of workers; the standard output is for results.
        self._redirected = ExitStack()
        self._redirected.enter_context(redirect_stdout(sys.stderr))
        self._options = options
        self._again: deque[Job] = deque()  # given to workers that have ended
        self._deaths: Counter[Job] = Counter()
        try:
            wants_gpu = options.config.backend != "cpu"
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            share = share_of(nodes, wants_gpu, cores, workers)
            worker = ray.remote(FleetWorker).options(
                num_cpus=share.cores,
                num_gpus=share.gpus,
                max_restarts=-1,
                max_concurrency=AT_ONCE,
            )
            options = replace(options, cores=share.cores)
            handles = [worker.remote(options) for _ in range(share.workers)]
            self._actors = [_Actor(one, one.__ray_ready__.remote()) for one in handles]
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many workers are ready."""
        return sum(actor.starting is None for actor in self._actors)

    @property
    def room(self) -> int:
        """How many more files the workers can be given now: none before those that came back."""
        return 0 if self._again else sum(map(self._free, self._actors))

    @property
    def under_way(self) -> int:
        """How many files they have, or had and have to be given again."""
        return len(self._again) + sum(len(actor.jobs) for actor in self._actors)

    def submit(self, job: Job) -> None:
        """Give a file to the worker that has most room."""
        self._give(max(self._actors, key=self._free), job)

    def wait(self, seconds: float) -> list[FileRow]:
        """Wait for files that are done; a worker that ends gives its files back.

        Raises
        ------
        BackendUnavailable
            If no worker can start.
        """
        rows = []
        for actor, ref in self._done(seconds):
            try:
                result = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                rows += self._end(actor, ref, error)
                continue
            if ref == actor.starting:
                actor.starting = None
            else:
                rows.append(result)
                self._deaths.pop(actor.jobs.pop(ref), None)
        for actor in self._actors:  # one of these files may be why the worker has ended
            if self._again and actor.starting is None and not actor.jobs:
                self._give(actor, self._again.popleft())
        return rows

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        self._ray.shutdown()
        self._redirected.close()
        remove_abandoned()

    def _free(self, actor: _Actor) -> int:
        """Return how many more files a worker takes: none beside one that came back."""
        suspect = any(job in self._deaths for job in actor.jobs.values())
        return 0 if suspect or actor.starting is not None else AT_ONCE - len(actor.jobs)

    def _give(self, actor: _Actor, job: Job) -> None:
        actor.jobs[actor.handle.process.remote(job, self._deaths[job])] = job

    def _done(self, seconds: float) -> list[tuple[_Actor, ObjectRef]]:
        """Wait for the first of all answers, and return all that are there."""
        owners = {ref: actor for actor in self._actors for ref in actor.jobs}
        owners |= {a.starting: a for a in self._actors if a.starting is not None}
        refs = list(owners)
        if not self._ray.wait(refs, timeout=seconds)[0]:
            return []
        done, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [(owners[ref], ref) for ref in done]

    def _end(self, actor: _Actor, ref: ObjectRef, error: Exception) -> list[FileRow]:
        """Take notice that a worker has ended; return the rows of files that it must not have."""
        errors = self._ray.exceptions
        if ref == actor.starting:
            if isinstance(error, errors.RayActorError) and not error.actor_init_failed:
                actor.starting = actor.handle.__ray_ready__.remote()  # killed: it starts again
            else:
                self._drop(actor, error)
            return []
        job = actor.jobs.pop(ref)
        if isinstance(error, errors.RayTaskError) and isinstance(error.cause, GpuLost):
            self._ray.kill(actor.handle, no_restart=False)
        if actor.starting is None:
            actor.starting = actor.handle.__ray_ready__.remote()
        self._deaths[job] += 1
        log.info("%s: its worker has ended", job.place)
        if self._deaths[job] < DEATHS:
            self._again.append(job)
            return []
        row = job.row(self._deaths.pop(job))
        reason = str(error).strip().splitlines()[0]
        row.fail("infrastructure", "worker", f"its process has ended {DEATHS} times: {reason}")
        row.finished = time.time()
        header = {
            "config": self._options.config.model_dump(mode="json"),
            "source": {"name": job.shown},
        }
        try:
            with tempfile.TemporaryDirectory() as folder:
                ResultFolder(self._options.out).commit(Path(folder), row, header)
        except OSError as failure:
            log.warning("%s: its row cannot be written: %s", row.shown, failure)
        return [row]

    def _drop(self, actor: _Actor, error: Exception) -> None:
        """Do without a worker that cannot start, if there are others."""
        self._actors.remove(actor)
        self._again.extend(actor.jobs.values())
        reason = str(error).strip().splitlines()[-1]
        if not self._actors:
            raise BackendUnavailable(f"no worker can start: {reason}")
        log.warning("a worker cannot start, %d are left: %s", len(self._actors), reason)


def _start(ray: ModuleType, address: str | None) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises
    ------
    ConfigError
        If neither can be had.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports to nobody
    before = signal.getsignal(signal.SIGTERM)
    try:
        for left in reversed(range(STARTS)):
            try:
                ray.init(
                    # Without a name Ray would join whatever cluster this machine last belonged to.
                    address=address or os.environ.get("RAY_ADDRESS") or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
                return
            except Exception as error:  # Ray has no class for what may go wrong here
                ray.shutdown()
                if not left or isinstance(error, ConnectionError | ValueError):
                    where = f"the cluster at {address}" if address else "Ray"
                    raise ConfigError(f"{where} cannot be used: {error}") from None
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray takes it


def share_of(
    nodes: Sequence[Mapping[str, Any]], wants_gpu: bool, cores: int | None, workers: int | None
) -> WorkerShare:
    """Divide machines among workers.

    Parameters
    ----------
    nodes : sequence of mapping
        What each machine has: "CPU" cores, "GPU" devices.
    wants_gpu : bool
        Whether a worker is to have a GPU, if there is one.
    cores, workers : int or None
        As for `RayPool`.

    Raises
    ------
    ConfigError
        If no machine has so many cores.
    """
    gpus = {int(node.get("GPU", 0)) for node in nodes} - {0}
    if wants_gpu and gpus:
        having = [node for node in nodes if node.get("GPU", 0) >= 1]
        least = min(int(node.get("CPU", 0) // node["GPU"]) for node in having)
        each = cores or max(min(CORES, least), 1)
        room = sum(min(int(n["GPU"]), int(n.get("CPU", 0) // each)) for n in having)
        gpu = 1
    else:
        having = [node for node in nodes if node.get("CPU", 0) >= 1]
        least = min((int(node["CPU"]) for node in having), default=1)
        each = cores or min(CORES, least)
        room = sum(int(node["CPU"] // each) for node in having)
        gpu = 0
    if not room and workers is None:
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        raise ConfigError(f"--cores: expected as many as a machine has, {most} at most, got {each}")
    return WorkerShare(each, gpu, workers or room)
