"""Who does the files: workers, in this process or in others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from squeezedrive.pipeline.fleet.job import FileRow, Job
from squeezedrive.pipeline.fleet.worker import AT_ONCE, FleetWorker, WorkerOptions


class Pool(ABC):
    """Workers that take files and give their rows back."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many workers are ready."""

    @property
    @abstractmethod
    def room(self) -> int:
        """How many more files the workers can be given now."""

    @property
    @abstractmethod
    def under_way(self) -> int:
        """How many files they have."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Give a file to a worker; only while there is room."""

    @abstractmethod
    def wait(self, seconds: float) -> list[FileRow]:
        """Wait for files that are done, so long at most, and return their rows.

        Raises
        ------
        UserError
            If no worker can do anything.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers; files under way are given up."""


class LocalPool(Pool):
    """One worker in this process.

    Raises
    ------
    UserError
        As `FleetWorker`.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._worker = FleetWorker(options)
        self._threads = ThreadPoolExecutor(AT_ONCE, "fleet")
        self._under_way: set[Future[FileRow]] = set()

    @property
    def workers(self) -> int:
        """One."""
        return 1

    @property
    def room(self) -> int:
        """How many more files the worker can be given now."""
        return AT_ONCE - len(self._under_way)

    @property
    def under_way(self) -> int:
        """How many files it has."""
        return len(self._under_way)

    def submit(self, job: Job) -> None:
        """Give the worker a file."""
        self._under_way.add(self._threads.submit(self._worker.process, job))

    def wait(self, seconds: float) -> list[FileRow]:
        """Wait for files that are done; raises what ends the worker."""
        done, self._under_way = wait(self._under_way, seconds, FIRST_COMPLETED)
        return [future.result() for future in done]

    def close(self) -> None:
        """End the worker."""
        self._worker.give_up()
        self._threads.shutdown()
        self._worker.close()
