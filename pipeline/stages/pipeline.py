"""The pipeline: six stages, the queues between them, and an orderly end."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from squeezedrive.engines.backends.base import Backend, Slot
from squeezedrive.engines.errors import UserError
from squeezedrive.pipeline.core.batch import Batch, Results
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.queues import Cancelled, Merge, Policy, StageQueue
from squeezedrive.pipeline.core.timing import Durations, thread_named
from squeezedrive.pipeline.core.worker import Steps, Worker
from squeezedrive.pipeline.stages.feed import Feed, close_all
from squeezedrive.pipeline.stages.work import Work

log = logging.getLogger("squeezedrive")

_TICK = 0.1  # seconds between looks at the threads
_CAPTURE_GRACE = 0.5  # seconds a source may take to notice that the run is stopping
_GIVE_UP_GRACE = 3.0  # seconds all stages may take to notice that the run is given up


class StageError(RuntimeError):
    """A stage failed in a way that is not the user's doing."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"stage {stage} failed: {type(error).__name__}: {error}")
        self.stage = stage


class Stuck(UserError):
    """A stage does not come back from the system, so the run ends without it."""


@dataclass(frozen=True)
class QueueOptions:
    """How frames wait for each other.

    Attributes
    ----------
    policy : str
        What happens when frames come faster than they are processed; "auto": "latest" for sources
        that have no end of their own, "lossless" for the others.
    depth : int
        Frames between two stages; between a source and the network, of each source.
    max_age : float
        Seconds, for the policy "bounded_age".
    slots : int
        Batches of frames between preprocess and postprocess.
    batch : int
        Frames that the network takes at once, if so many wait, of whatever source; 0: one of each
        source if the back end is faster that way, else one.
    """

    policy: Policy | Literal["auto"] = "auto"
    depth: int = 2
    max_age: float = 0.15
    slots: int = 3
    batch: int = 0


class Pipeline:
    """Takes every frame of one or more sources through the network and into their outputs.

    Parameters
    ----------
    feeds : sequence of Feed
        Sources, left open, with their outputs, which are closed when the run ends, however it
        ends. A frame's `source_id` is the index of its feed.
    backend : Backend
        What runs the network; left open.
    options : QueueOptions
        Policy and depth of the queues.
    controls : Controls or None
        Which detections are kept where no tracker decides; None for all that the back end gives.

    Attributes
    ----------
    read, processed : int
        Frames taken from the sources, and frames that reached every sink.
    began_at, seconds : float
        `time.monotonic()` when the run began, and how long it took.
    stages : list of Stage
        In the order in which a frame passes them, each with its timing; each source has a capture
        stage of its own.
    queues : dict of str to StageQueue
        By the name of the stage that reads from it; with several sources, "preprocess 0" and so
        on.
    work : Work
        What the stages do.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        backend: Backend,
        options: QueueOptions,
        controls: Controls | None = None,
    ) -> None:
        self.feeds = list(feeds)
        self.began_at = time.monotonic()
        self.seconds = 0.0
        self._backend = backend
        usual = len(feeds) if backend.batch_pays else 1
        self._batch = min(options.batch or usual, backend.max_batch)
        self._stop = threading.Event()
        self._given_up = False
        self._failure: tuple[str, BaseException] | None = None
        self._failed = threading.Lock()

        depth = options.depth
        changed = threading.Condition()
        for feed in self.feeds:
            policy: Policy = "latest" if feed.source.info.live else "lossless"
            if options.policy != "auto":
                policy = options.policy
            feed.queue = StageQueue(
                max(depth, options.batch),
                policy,
                options.max_age,
                lambda frame: frame.captured_at,
                changed,
            )
        captured = Merge([feed.queue for feed in self.feeds], changed)
        prepared: StageQueue[Batch] = StageQueue(depth)
        inferred: StageQueue[Batch] = StageQueue(depth)
        found: StageQueue[Results] = StageQueue(depth)
        drawn: StageQueue[Results] = StageQueue(depth)
        self._free: StageQueue[Slot] = StageQueue(options.slots)
        self.queues: dict[str, StageQueue[Any]] = {
            **{f"preprocess{self._number(i)}": f.queue for i, f in enumerate(self.feeds)},
            "inference": prepared,
            "postprocess": inferred,
            "render": found,
            "sinks": drawn,
        }
        self.work = work = Work(
            self.feeds,
            lambda: captured.get(self._batch, options.batch or 1),
            self._free,
            controls,
            options.max_age if options.policy == "bounded_age" else None,
            partial(self._lose, "sinks"),
        )
        self._captures = [self._capture_stage(i, feed) for i, feed in enumerate(self.feeds)]
        self._others: list[Worker[Any, Any]] = [
            self._stage("preprocess", work.take, work.preprocess, prepared.put, prepared.close),
            self._stage(
                "inference",
                prepared.get,
                work.infer,
                inferred.put,
                inferred.close,
                backend.parallel,
            ),
            self._stage("postprocess", inferred.get, work.detect, found.put, found.close),
            self._stage("render", found.get, work.draw, drawn.put, drawn.close),
            self._stage("sinks", drawn.get, work.write, lambda done: None, self._close_feeds),
        ]
        self.stages = [*self._captures, *self._others]

    @property
    def latency(self) -> Durations:
        """From the moment a picture was there to the moment all its sinks had it."""
        return self.work.latency

    @property
    def read(self) -> int:
        """Frames taken from the sources."""
        return sum(feed.read for feed in self.feeds)

    @property
    def processed(self) -> int:
        """Frames that reached every sink."""
        return sum(feed.processed for feed in self.feeds)

    @property
    def detected(self) -> int:
        """Frames that reached every sink and that the network has seen."""
        return sum(feed.detected for feed in self.feeds)

    @property
    def found(self) -> Counter[int]:
        """Detections by class index."""
        return sum((feed.found for feed in self.feeds), Counter())

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were read but not shown, by reason."""
        return sum((feed.dropped for feed in self.feeds), Counter())

    def run(self, on_tick: Callable[[Pipeline], None] | None = None) -> None:
        """Process the sources to their end; `on_tick` is called about ten times a second.

        A source or an output that fails ends its feed, and the others go on.

        Raises
        ------
        UserError
            What a source or sink raised first, when all has ended. Frames read before a source
            failed have been processed.
        StageError
            If a stage failed otherwise; its cause is the original exception.
        Stuck
            If the run is given up, and a stage is held by a device or file that does not answer.
        """
        slots: list[Slot] = []
        try:
            for _ in range(self._free.depth):
                # A network compiled for batches has threads of its own, which inherit the name.
                with thread_named("inference"):
                    slots.append(self._backend.new_slot(self._batch))
                self._free.put(slots[-1])
        except BaseException as refusal:  # a GPU may have no room for so many
            for slot in slots:
                slot.close()
            self._close_feeds()
            if isinstance(refusal, Cancelled):  # given up before it began
                return
            raise
        self.began_at = time.monotonic()
        for stage in self.stages:
            stage.start()
        try:
            self._watch(on_tick)
        except Stuck:
            raise
        except BaseException:
            self.give_up()
            self._watch(None)
            raise
        finally:
            self.seconds = time.monotonic() - self.began_at
        # Only a source that does not return from the system can still be running here, and it
        # holds no slot.
        for slot in slots:
            slot.close()
        if self._failure is not None:
            stage_name, error = self._failure
            raise (
                error if isinstance(error, UserError) else StageError(stage_name, error)
            ) from error

    def stop(self) -> None:
        """End the run in order: read no further frame, finish those on their way."""
        self._stop.set()
        for feed in self.feeds:
            feed.interrupt()

    def give_up(self) -> None:
        """End the run now: finish the outputs, leave out the frames on their way."""
        self.stop()
        self._given_up = True
        self._free.cancel()
        for queue in self.queues.values():
            queue.cancel()

    def capturing(self, feed: Feed) -> bool:
        """Whether a source is still being read."""
        return self._captures[self.feeds.index(feed)].is_alive()

    def _watch(self, on_tick: Callable[[Pipeline], None] | None) -> None:
        stopping_since: float | None = None
        given_up_since: float | None = None
        while alive := [stage for stage in self._others if stage.is_alive()]:
            alive[-1].join(_TICK)
            if on_tick is not None:
                on_tick(self)
            now = time.monotonic()
            if all(feed.broken for feed in self.feeds):
                self.stop()
            if self._stop.is_set():
                stopping_since = stopping_since or now
                if now - stopping_since > _CAPTURE_GRACE:
                    for feed in self.feeds:
                        feed.queue.close()
            if self._given_up:
                given_up_since = given_up_since or now
                if now - given_up_since > _GIVE_UP_GRACE:
                    names = ", ".join(stage.name for stage in alive)
                    raise Stuck(f"{names}: a file or device does not answer; ended without it")
        # Reads end by themselves after the source's own time-out.
        deadline = time.monotonic() + _CAPTURE_GRACE
        for capture in self._captures:
            capture.join(max(deadline - time.monotonic(), 0))

    def _number(self, index: int) -> str:
        return f" {index}" if len(self.feeds) > 1 else ""

    def _capture_stage(self, index: int, feed: Feed) -> Worker[Any, Any]:
        def wanted() -> bool | None:
            return True if feed.wanted and not self._stop.is_set() else None

        name = f"capture{self._number(index)}"
        return self._stage(
            name,
            wanted,
            lambda _: feed.take(),
            feed.queue.put,
            feed.queue.close,
            waits=feed.source.info.live,
        )

    def _stage(
        self,
        name: str,
        take: Any,
        work: Any,
        give: Any,
        finish: Any,
        workers: int = 1,
        waits: bool = False,
    ) -> Worker[Any, Any]:
        return Worker(name, Steps(take, work, give, finish), self._on_error, workers, waits)

    def _on_error(self, stage: str, error: BaseException) -> None:
        # A source that fails ends like one that is over: what it gave is finished.
        if isinstance(error, SourceError):
            self._lose(stage, error)
        else:
            self._note(stage, error)
            self.give_up()

    def _lose(self, stage: str, error: UserError) -> None:
        """Take notice that a source or an output has failed, which is the end of its feed only."""
        self._note(stage, error)
        if len(self.feeds) > 1:
            log.warning("%s; the other sources go on", error)

    def _note(self, stage: str, error: BaseException) -> None:
        with self._failed:
            if self._failure is None:
                self._failure = (stage, error)

    def _close_feeds(self) -> None:
        close_all(self.feeds)
