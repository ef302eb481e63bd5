"""The pipeline with the CUDA runtime in its stages' threads, on a fake GPU that works late."""

import threading
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.errors import GpuLost, GpuMemoryError
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import StageError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source, SourceInfo
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.cuda_rig import SETTINGS, Rig, assert_same, picture
from tests.support.fake_cuda import on_the_processor
from tests.support.fake_driver import DriverError
from tests.support.fakes import feed_of

FRAMES = 24


class Pictures(Source):
    """A source of pictures; some of them have another size."""

    def __init__(self, frames: int = FRAMES, source_id: int = 0) -> None:
        self.info = SourceInfo("fake", "file", 120, 100, Fraction(25), frames, Fraction(1, 25))
        super().__init__()
        self._frames, self._next, self._source_id = frames, 0, source_id

    def picture(self, number: int) -> np.ndarray:
        size = (200, 160) if number % 7 == 3 else (120 + 20 * self._source_id, 100)
        return picture(number + 100 * self._source_id, *size)

    def read(self) -> Frame | None:
        number = self._next
        if number == self._frames:
            return None
        self._next += 1
        image = self.picture(number)
        return Frame(self._source_id, number, number, Fraction(1, 25), time.monotonic(), image)

    def close(self) -> None:
        pass


class Found(Sink):
    def __init__(self) -> None:
        self.name = "sink"
        self.found: list[Detections] = []
        self.frames: list[int] = []
        self.closed = 0

    def write(self, result: FrameResult) -> None:
        self.frames.append(result.frame.frame_id)
        self.found.append(result.detections)

    def close(self) -> None:
        self.closed += 1


def run(backend: Any, source: Pictures | None = None, slots: int = 4) -> Found:
    sink = Found()
    options = QueueOptions(depth=2, slots=slots)
    feed = feed_of(source or Pictures(), [sink], options)
    pipeline = Pipeline([feed], backend, options)
    try:
        pipeline.run()
    finally:
        backend.close()
        assert sink.closed == 1
    return sink


@pytest.mark.parametrize("slots", [1, 4])
def test_boxes_equal_those_of_the_processor(slots: int) -> None:
    expected = run(CpuBackend(SETTINGS, CpuOptions(precision="fp32"), "test"))
    rig = Rig()
    sink = run(rig.backend(), slots=slots)
    assert sink.frames == expected.frames == list(range(FRAMES))
    for found, wanted in zip(sink.found, expected.found, strict=True):
        assert len(wanted) > 0
        assert_same(found, wanted)
    assert rig.driver.clean
    assert rig.executor.closed == 1


def test_several_sources_share_the_gpu_in_batches() -> None:
    rig = Rig(max_batch=2)  # three sources take turns
    backend = rig.backend()
    sources = [Pictures(12, number) for number in range(3)]
    sinks = [Found() for _ in sources]
    changed = threading.Condition()
    feeds = [
        feed_of(*each, changed=changed) for each in zip(sources, [[s] for s in sinks], strict=True)
    ]
    pipeline = Pipeline(feeds, backend, QueueOptions(slots=2))
    times: list[Any] = []
    pipeline.postprocess.observe_device = times.append
    pipeline.run()
    backend.close()
    for source, sink in zip(sources, sinks, strict=True):
        assert sink.frames == list(range(12))
        for number, found in enumerate(sink.found):
            assert_same(found, on_the_processor(SETTINGS, source.picture(number)))
    assert set(times[-1]) == {"preprocess", "infer", "detect"}
    assert rig.driver.clean


def test_a_slot_is_not_reused_before_its_boxes_are_read() -> None:
    """Check that each stream finishes all steps of a picture, to the download, before the next."""
    rig = Rig()
    run(rig.backend())
    steps: dict[int, list[str]] = {}
    for name, stream in rig.driver.log:
        if name not in ("event", "time"):
            steps.setdefault(stream, []).append(name)
    assert len(steps) == 5  # four slots, and the slot of the warm-up
    once = ["h2d", "preprocess", "infer", "detect", "d2h"]
    for done in steps.values():
        assert done == once * (len(done) // 5)
    assert sum(len(done) for done in steps.values()) == 5 * (FRAMES + 1)


def test_two_pipelines_share_a_gpu() -> None:
    rig, other = Rig(), Rig()
    other.driver, other.gpu, other.kernels = rig.driver, rig.gpu, rig.kernels
    other.executor.driver = rig.driver
    sinks: list[Found] = []
    backends = [rig.backend(), other.backend()]
    threads = [threading.Thread(target=lambda b=b: sinks.append(run(b, slots=2))) for b in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sink.frames for sink in sinks] == [list(range(FRAMES))] * 2
    for one, two in zip(*(sink.found for sink in sinks), strict=True):
        assert_same(one, two)
    assert rig.driver.clean


@pytest.mark.parametrize(
    ("call", "stage"),
    [("h2d", "preprocess"), ("preprocess", "preprocess"), ("infer", "inference"),
     ("detect", "postprocess"), ("d2h", "postprocess"), ("query", "preprocess")],
)  # fmt: skip
def test_a_fault_in_a_stage_releases_everything(call: str, stage: str) -> None:
    rig = Rig()
    backend = rig.backend()

    class Failing(Pictures):
        def read(self) -> Frame | None:
            if self._next == 6:
                rig.driver.fail[call] = DriverError("invalid value")
            return super().read()

    with pytest.raises((StageError, DriverError)) as caught:
        run(backend, Failing())
    assert isinstance(caught.value, StageError)
    assert set(rig.driver.depths.values()) == {0}
    if call == "query":  # the GPU counts as lost: its memory is kept
        assert rig.gpu.lost
        assert rig.driver.leaked == 0
        return
    assert caught.value.stage == stage
    assert rig.driver.clean
    assert rig.executor.closed == 1


def test_a_lost_gpu_ends_the_run_with_finished_output() -> None:
    rig = Rig()
    backend = rig.backend()

    class Falling(Pictures):
        def read(self) -> Frame | None:
            if self._next == 6:
                rig.driver.crash["infer"] = "unknown error"
            return super().read()

    with pytest.raises(GpuLost, match="stopped working"):
        run(backend, Falling())  # `run` checks that the sink was closed


def test_slots_that_do_not_fit_into_gpu_memory_end_the_run_cleanly() -> None:
    rig = Rig()
    backend = rig.backend()
    alloc, left = rig.driver.mem_alloc, [7]

    def mem_alloc(size: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise DriverError("cuMemAlloc failed: out of memory")
        return alloc(size)

    rig.driver.mem_alloc = mem_alloc  # type: ignore[method-assign]
    with pytest.raises(GpuMemoryError, match=r"queue\.slots"):
        run(backend)
    assert rig.driver.clean
    assert rig.executor.closed == 1


def test_memory_is_constant_after_the_first_frames() -> None:
    rig = Rig()
    backend = rig.backend()
    sizes: list[int] = []

    class Watched(Pictures):
        def read(self) -> Frame | None:
            sizes.append(sum(memory.nbytes for memory in list(rig.driver.memory.values())))
            return super().read()

    run(backend, Watched(60), slots=3)
    assert sizes[-1] == max(sizes)
    assert np.ptp(sizes[-20:]) == 0
