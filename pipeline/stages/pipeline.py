"""The pipeline: six stages, the queues between them, and an orderly end."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from squeezedrive.engines.backends.base import Backend, Slot
from squeezedrive.engines.errors import UserError
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.errors import SourceError, StageError, Stuck
from squeezedrive.pipeline.core.queues import Cancelled, Merge, StageQueue
from squeezedrive.pipeline.core.timing import Durations, thread_named
from squeezedrive.pipeline.core.worker import Worker
from squeezedrive.pipeline.stages.batch import Batch, Results
from squeezedrive.pipeline.stages.capture import Capture
from squeezedrive.pipeline.stages.deliver import Deliver
from squeezedrive.pipeline.stages.feed import Captured, Feed, QueueOptions
from squeezedrive.pipeline.stages.inference import Inference
from squeezedrive.pipeline.stages.postprocess import Postprocess
from squeezedrive.pipeline.stages.preprocess import Preprocess
from squeezedrive.pipeline.stages.render import Render

AnyQueue = StageQueue[Captured] | StageQueue[Batch] | StageQueue[Results]
AnyWorker = (
    Worker[Feed, Captured]
    | Worker[Batch, Batch]
    | Worker[Batch, Results]
    | Worker[Results, Results]
)

log = logging.getLogger("squeezedrive")

_TICK = 0.1  # seconds between looks at the threads
_CAPTURE_GRACE = 0.5  # seconds a source may take to notice that the run is stopping
_GIVE_UP_GRACE = 3.0  # seconds all stages may take to notice that the run is given up


class Pipeline:
    """Takes every frame of one or more sources through the network and into their outputs.

    It may run in any thread; `stop` and `give_up` may be called from any other.

    Parameters
    ----------
    feeds : sequence of Feed
        Sources, left open, with their outputs, which are closed when the run ends, however it
        ends. Their queues are made with the same `changed`.
    backend : Backend
        What runs the network; left open.
    options : QueueOptions
        Policy and depth of the queues.
    controls : Controls or None
        Which detections are kept where no tracker decides; None for all that the back end gives.

    Attributes
    ----------
    began_at, seconds : float
        `time.monotonic()` when the run began, and how long it took.
    stages : list of Worker
        In the order in which a frame passes them, each with its timing; each source has a capture
        stage of its own.
    queues : dict of str to StageQueue
        By the name of the stage that reads from it; with several sources, "preprocess 0" and so
        on.
    postprocess : Postprocess
        The stage that reads the accelerator's own clock.
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
        self._batch = batch = min(options.batch or usual, backend.max_batch)
        self._stop = threading.Event()
        self._given_up = False
        self._failure: tuple[str, BaseException] | None = None
        self._failed = threading.Lock()

        captured = Merge([feed.queue for feed in feeds])
        prepared: StageQueue[Batch] = StageQueue(options.depth)
        inferred: StageQueue[Batch] = StageQueue(options.depth)
        found: StageQueue[Results] = StageQueue(options.depth)
        drawn: StageQueue[Results] = StageQueue(options.depth)
        self._free: StageQueue[Slot] = StageQueue(options.slots)
        marks = [f" {number}" for number in range(len(feeds))] if len(feeds) > 1 else [""]
        self.queues: dict[str, AnyQueue] = {
            **{f"preprocess{mark}": f.queue for mark, f in zip(marks, feeds, strict=True)},
            "inference": prepared,
            "postprocess": inferred,
            "render": found,
            "sinks": drawn,
        }

        preprocess = Preprocess(feeds, lambda: captured.get(batch, options.batch or 1), self._free)
        inference = Inference()
        self.postprocess = postprocess = Postprocess(self._free, controls)
        render = Render()
        max_age = options.max_age if options.policy == "bounded_age" else None
        self._deliver = deliver = Deliver(feeds, max_age, partial(self._lose, Deliver.name))
        self._captures = {
            feed: self._capture(feed, mark) for mark, feed in zip(marks, feeds, strict=True)
        }
        fail = self._on_error
        self._others: list[AnyWorker] = [
            Worker(
                preprocess.name,
                preprocess.take, preprocess.work, prepared.put, prepared.close, fail,
            ),
            Worker(
                inference.name,
                prepared.get, inference.work, inferred.put, inferred.close, fail,
                workers=backend.parallel,
            ),
            Worker(
                postprocess.name,
                inferred.get, postprocess.work, found.put, found.close, fail,
            ),
            Worker(render.name, found.get, render.work, drawn.put, drawn.close, fail),
            Worker(
                deliver.name,
                drawn.get, deliver.work, lambda delivered: None, deliver.finish, fail,
            ),
        ]  # fmt: skip
        self.stages: list[AnyWorker] = [*self._captures.values(), *self._others]

    @property
    def latency(self) -> Durations:
        """From the arrival of a picture until all its sinks had it."""
        return self._deliver.latency

    @property
    def read(self) -> int:
        """Frames taken from the sources."""
        return sum(feed.read for feed in self.feeds)

    @property
    def processed(self) -> int:
        """Frames that reached every sink."""
        return sum(feed.processed for feed in self.feeds)

    @property
    def found(self) -> Counter[int]:
        """Detections by class index."""
        return sum((feed.found for feed in self.feeds), Counter())

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were read but not shown, by reason."""
        return sum((feed.dropped for feed in self.feeds), Counter())

    @property
    def source_failed(self) -> bool:
        """Whether the first failure was that of a source."""
        return self._failure is not None and self._failure[0] == Capture.name

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
            self._deliver.finish()
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
            name, error = self._failure
            if isinstance(error, UserError):
                raise error
            raise StageError(name, error) from error

    def stop(self) -> None:
        """End the run in order: read no further frame, finish those on their way."""
        self._stop.set()
        for feed in self.feeds:
            feed.source.interrupt()

    def give_up(self) -> None:
        """End the run now: finish the outputs, leave out the frames on their way."""
        self.stop()
        self._given_up = True
        self._free.cancel()
        for queue in self.queues.values():
            queue.cancel()

    def is_inside(self) -> bool:
        """Return whether the caller is a thread of the run, which may not wait for its end."""
        return any(stage.is_inside() for stage in self.stages)

    def capturing(self, feed: Feed) -> bool:
        """Return whether a source is still being read."""
        return self._captures[feed].is_alive()

    def close_sources(self) -> None:
        """Close the sources, except one that hangs in the system while it is being read."""
        for feed in self.feeds:
            if not self.capturing(feed):
                feed.source.close()

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
        for capture in self._captures.values():
            capture.join(max(deadline - time.monotonic(), 0))

    def _capture(self, feed: Feed, mark: str) -> Worker[Feed, Captured]:
        capture = Capture(feed, self._stop)
        return Worker(
            capture.name,
            capture.take,
            capture.work,
            feed.queue.put,
            feed.queue.close,
            self._on_capture_error,
            waits=feed.source.info.live,
            mark=mark,
        )

    def _on_capture_error(self, stage: str, error: BaseException) -> None:
        # A source that fails ends like any other: the frames it gave are processed.
        if isinstance(error, SourceError):
            self._lose(stage, error)
        else:
            self._on_error(stage, error)

    def _on_error(self, stage: str, error: BaseException) -> None:
        self._note(stage, error)
        self.give_up()

    def _lose(self, stage: str, error: UserError) -> None:
        """Note that a source or an output has failed, which ends only its feed."""
        self._note(stage, error)
        if len(self.feeds) > 1:
            log.warning("%s; the other sources go on", error)

    def _note(self, stage: str, error: BaseException) -> None:
        with self._failed:
            if self._failure is None:
                self._failure = (stage, error)
