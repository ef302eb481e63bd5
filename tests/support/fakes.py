"""Fake sources, networks and sinks for tests of the pipeline."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from threading import Condition
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import Backend, BackendInfo, Slot
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import HostPicture
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source, SourceInfo, SourceKind
from squeezedrive.pipeline.stages.feed import Feed, QueueOptions

ONE_CAR = Detections(
    np.array([[1, 2, 3, 4]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
)


def feed_of(
    source: Source,
    sinks: Sequence[Sink],
    options: QueueOptions = QueueOptions(),  # noqa: B008 (frozen)
    changed: Condition | None = None,
    **rest: Any,
) -> Feed:
    """Return a feed with the queue that a pipeline with these options has."""
    return Feed(source, options.new_queue(source.info, changed), sinks, **rest)


class FakeSource(Source):
    """A source of frames 0, 1, 2, ...; `script` maps a frame number to a call before that frame."""

    def __init__(
        self,
        frames: int,
        script: dict[int, Callable[[], Any]] | None = None,
        size: tuple[int, int] = (8, 6),
        kind: SourceKind = "file",
    ) -> None:
        super().__init__()
        self.info = SourceInfo("fake", kind, *size, Fraction(25), frames, Fraction(1, 25))
        self._size = size
        self.closed = False
        self._frames = frames
        self._next = 0
        self._script = script or {}

    def read(self) -> Frame | None:
        number = self._next
        if number >= self._frames:
            return None
        self._next += 1
        if number in self._script:
            self._script[number]()
        width, height = self._size
        image = np.full((height, width, 3), number % 256, np.uint8)
        return Frame(0, number, number, Fraction(1, 25), time.monotonic(), image)

    def close(self) -> None:
        self.closed = True


class FakeSlot(Slot):
    """A slot that finds one car in each frame; the car's left edge is the frame number."""

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        self.closed = False
        self.seen: list[int] = []

    def preprocess(self, images: Sequence[HostPicture]) -> None:
        self.backend.call("preprocess")
        pixels = [i if isinstance(i, np.ndarray) else i.rows(0, 2) for i in images]
        self.seen = [int(image[0, 0, 0]) for image in pixels]

    def infer(self) -> None:
        self.backend.call("infer")

    def detect(self) -> list[Detections]:
        self.backend.call("detect")
        return [
            Detections(np.array([[left, 0, 300, 4]], np.float32), ONE_CAR.scores, ONE_CAR.classes)
            for left in self.seen
        ]

    def close(self) -> None:
        self.closed = True


class FakeBackend(Backend):
    """A back end that counts calls; `script` maps a step to a function that the step calls."""

    info = BackendInfo("fake", "none", "none", "fp32", "test")
    parallel = 1
    max_batch = 8
    batch_pays = True

    def __init__(self, script: dict[str, Callable[[], Any]] | None = None) -> None:
        self.slots: list[FakeSlot] = []
        self.calls: Counter[str] = Counter()
        self._script = script or {}

    def call(self, step: str) -> None:
        self.calls[step] += 1
        self._script.get(step, lambda: None)()

    def new_slot(self, batch: int = 1) -> FakeSlot:
        self.batch = batch
        self.slots.append(FakeSlot(self))
        return self.slots[-1]

    def close(self) -> None:
        pass


class FakeSink(Sink):
    """A sink that keeps all results; it calls `on_write` and `on_close`, which may fail."""

    def __init__(
        self,
        on_write: Callable[[], Any] = lambda: None,
        on_close: Callable[[], Any] = lambda: None,
    ) -> None:
        self.name = "fake"
        self.results: list[FrameResult] = []
        self.closed = 0
        self._on_write, self._on_close = on_write, on_close

    def write(self, result: FrameResult) -> None:
        self._on_write()
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1
        self._on_close()


class FakeRows:
    """A picture that converts rows to BGR on request, and records which rows were requested."""

    def __init__(self, image: Image) -> None:
        self.shape = image.shape
        self.asked: list[tuple[int, int]] = []
        self._image = image

    def rows(self, top: int, bottom: int) -> Image:
        self.asked.append((top, bottom))
        return self._image[top:bottom].copy()


def fail(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


class Camera(FakeSource):
    """A fake source with a number, which its pictures show."""

    def __init__(
        self, number: int, frames: int, script: dict[int, Callable[[], Any]] | None = None
    ) -> None:
        super().__init__(frames, script)
        self.number = number

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        image = np.full((6, 8, 3), 100 * self.number + frame.frame_id % 100, np.uint8)
        return Frame(
            self.number, frame.frame_id, frame.pts, Fraction(1, 25), time.monotonic(), image
        )
