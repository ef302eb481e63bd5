"""Several pictures in a slot, graphs, and pictures that are on the GPU already: on a fake of it."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.cuda import input_batch
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.graph import RepeatedWork
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.engines.backends.cuda.slot import CudaSlot
from squeezedrive.engines.backends.cuda.stream import MarkedStream
from squeezedrive.engines.errors import GpuMemoryError
from tests.support.cuda_rig import SETTINGS, Rig, assert_same, picture, run, run_all
from tests.support.fake_cuda import FakeExecution, on_the_processor
from tests.support.fake_driver import DriverError, FakeGraphs


@pytest.fixture
def rig() -> Rig:
    return Rig()


SIZES = [(120, 100), (200, 180), (90, 60)]


def test_a_batch_finds_in_each_picture_what_it_finds_alone() -> None:
    """In any number and order, of any size, and with nothing left of the batch before."""
    rig = Rig(max_batch=3)
    slot = rig.slot(3)
    a, b, c = (picture(seed, *size) for seed, size in enumerate(SIZES, 1))
    expected = {id(image): on_the_processor(SETTINGS, image) for image in (a, b, c)}
    assert len({len(found) for found in expected.values()} - {0}) > 1
    for images in ([a, b, c], [c, a, b], [b], [b, b], [], [a, a, c], [c], [a, c]):
        if not images:
            with pytest.raises(ValueError, match=r"expected 1 to 3 pictures .*, got none"):
                slot.preprocess([])
            continue
        rig.driver.log.clear()
        found = run_all(slot, images)
        for one, image in zip(found, images, strict=True):
            assert_same(one, expected[id(image)])
        steps = [name for name, _ in rig.driver.log if name not in ("event", "time")]
        sizes = sum(1 for _ in itertools.groupby(images, lambda image: image.shape))
        assert steps == ["h2d"] + ["preprocess"] * sizes + ["infer", "detect", "d2h"]
    slot.close()
    assert rig.driver.clean


def test_only_the_pictures_given_are_computed() -> None:
    rig = Rig(max_batch=3)
    bound: list[int] = []
    bind = FakeExecution.bind

    def count(self: FakeExecution, source: int, target: int, batch: int) -> None:
        bound.append(batch)
        bind(self, source, target, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeExecution, "bind", count)
        slot = rig.slot(3)
        for number in (2, 2, 1, 3, 3):
            run_all(slot, [picture(1)] * number)
    assert bound == [3, 2, 1, 3]
    slot.close()


def test_a_network_that_could_not_be_bound_is_bound_again() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    run_all(slot, [picture(1), picture(2)])

    def refuse(*arguments: Any) -> None:
        raise DriverError("refuses a batch of 1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeExecution, "bind", refuse)
        with pytest.raises(DriverError, match="a batch of 1"):
            slot.preprocess([picture(1)])
        with pytest.raises(RuntimeError, match="before load"):
            slot.infer()
        with pytest.raises(DriverError, match="a batch of 1"):  # also as many as before
            slot.preprocess([picture(1), picture(2)])
    for found, seed in zip(run_all(slot, [picture(1), picture(2)]), (1, 2), strict=True):
        assert_same(found, on_the_processor(SETTINGS, picture(seed)))
    slot.close()
    assert rig.driver.clean


def test_a_batch_that_is_refused_leaves_nothing_to_go_on_with() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    run_all(slot, [picture(1)])
    for wrong in ([picture(1)] * 3, [picture(1), picture(1)[:, :, 0]], [picture(1) / 2]):
        with pytest.raises(ValueError, match="expected 1 to 2 pictures"):
            slot.preprocess(wrong)
    rig.driver.fail["mem_alloc"] = DriverError("out of memory")
    with pytest.raises(GpuMemoryError):  # for the second of two
        slot.preprocess([picture(1), picture(2)])
    with pytest.raises(RuntimeError, match="before load"):
        slot.infer()
    rig.driver.fail.clear()
    for found, seed in zip(run_all(slot, [picture(1), picture(2)]), (1, 2), strict=True):
        assert_same(found, on_the_processor(SETTINGS, picture(seed)))
    slot.close()
    assert rig.driver.clean


def test_sizes_that_come_again_need_no_new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_batch, "_PATHS", 3)
    rig = Rig(max_batch=2)
    made: list[Any] = []
    kernels = replace(
        rig.kernels,
        preprocessor=lambda *given: made.append(given) or rig.kernels.preprocessor(*given),
    )
    slot = CudaSlot(rig.gpu, lambda: BatchRunner(rig.gpu, rig.executor, kernels, 2))
    a, b, c = (picture(seed, *size) for seed, size in enumerate(SIZES, 1))
    for images in ([a, b], [b], [b, a], [c, b], [a]):
        run_all(slot, images)
    assert len(made) == 3
    # A fourth: the others are forgotten, also while a batch that was given up is on its way.
    slot.preprocess([a, b])
    d = picture(4, 60, 60)
    for image, found in zip((d, a), run_all(slot, [d, a]), strict=True):
        assert_same(found, on_the_processor(SETTINGS, image))
    assert len(made) == 5
    slot.close()
    assert rig.driver.clean


def test_a_slot_is_made_for_at_most_what_the_network_takes() -> None:
    backend = Rig(max_batch=2).backend()
    assert backend.max_batch == 2
    for batch in (0, 3):
        with pytest.raises(ValueError, match=f"expected 1 to 2 pictures at a time, got {batch}"):
            backend.new_slot(batch)
    slot = backend.new_slot(2)
    assert [len(run_all(slot, [picture(1)] * n)) for n in (1, 2)] == [1, 2]
    backend.close()


def test_the_calls_that_record_graphs_exist() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    for name in dir(FakeGraphs):
        if name.startswith(("cu", "CU")):
            assert hasattr(driver, name)
    mode = FakeGraphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert mode == driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


def test_what_is_done_again_is_one_launch_of_a_graph_a_step() -> None:
    """For each number and each order of sizes one, kept while others come in between."""
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    a, b = picture(1, *SIZES[0]), picture(2, *SIZES[1])
    expected = {id(image): on_the_processor(SETTINGS, image) for image in (a, b)}
    launched: list[int] = []
    launch = rig.graphs.cuGraphLaunch
    rig.graphs.cuGraphLaunch = lambda graph, stream: (  # type: ignore[method-assign]
        launched.append(graph) or launch(graph, stream)
    )
    run_all(slot, [b, b])  # takes all the memory that will be needed
    for images, graphs in (
        *(([a], 0), ([a], 3), ([b], 2), ([b], 3), ([a], 3)),  # for b, only preprocessing is new
        *(([a, b], 1), ([a, b], 3), ([b, a], 2), ([a, a], 2), ([a, a], 3)),
        *(([a], 2), ([a], 3)),  # the network was bound to two pictures since
    ):
        launched.clear()
        rig.driver.log.clear()
        for found, image in zip(run_all(slot, images), images, strict=True):
            assert_same(found, expected[id(image)])
        assert len(launched) == graphs, images
        steps = [name for name, _ in rig.driver.log if name not in ("event", "time")]
        sizes = 1 if images[0] is images[-1] else 2
        assert steps == ["h2d", *["preprocess"] * sizes, "infer", "detect", "d2h"]
    assert slot._runner.launches == 5  # type: ignore[union-attr]
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean


def test_a_network_that_cannot_be_recorded_is_enqueued_as_it_is(rig: Rig) -> None:
    rig.executor.recordable = False
    slot = rig.slot()
    for seed in (1, 2, 3):
        assert_same(run(slot, picture(seed)), on_the_processor(SETTINGS, picture(seed)))
    assert len(rig.graphs.graphs) == 2
    slot.close()
    assert rig.graphs.alive == 0


def test_what_fails_to_be_recorded_is_enqueued_from_then_on(rig: Rig) -> None:
    slot = rig.slot()
    run(slot, picture(1))
    enqueue = FakeExecution.enqueue
    recording: list[bool] = []

    def refuse(self: FakeExecution, stream: int) -> None:
        recording.append(rig.graphs.recording)
        if rig.graphs.recording:
            raise DriverError("operation not permitted when stream is capturing")
        enqueue(self, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeExecution, "enqueue", refuse)
        for seed in (1, 2, 3):
            assert_same(run(slot, picture(seed)), on_the_processor(SETTINGS, picture(seed)))
    assert recording == [True, False, False, False]
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean


def test_nobody_waits_for_all_streams_while_work_is_recorded(rig: Rig) -> None:
    """The driver refuses that, to both."""
    inside, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        order.append("begun")
        inside.set()
        go_on.wait(10)
        order.append("ended")

    def in_context(call: Callable[[], None]) -> threading.Thread:
        def run_it() -> None:
            with rig.gpu.current():
                call()

        thread = threading.Thread(target=run_it)
        thread.start()
        return thread

    def synchronize() -> None:
        rig.gpu.synchronize()
        order.append("synchronized")

    with rig.gpu.current():
        marked = MarkedStream(rig.gpu)
        repeated = RepeatedWork(marked, work)
    go_on.set()
    in_context(repeated.enqueue).join()
    inside.clear(), go_on.clear()
    recording = in_context(repeated.enqueue)
    inside.wait(10)
    other = in_context(synchronize)
    other.join(0.1)
    go_on.set()
    recording.join(), other.join()
    assert order == ["begun", "ended"] * 2 + ["synchronized"]
    with rig.gpu.current():
        repeated.close()
        marked.forget()
    assert rig.driver.clean


def test_new_parameters_are_handed_over_before_a_graph_is_launched(rig: Rig) -> None:
    slot = rig.slot()
    for _ in range(3):
        run(slot, picture(1))
    rig.driver.fail["update"] = DriverError("asked for")
    slot.preprocess([picture(1)])
    slot.infer()
    with pytest.raises(DriverError, match="asked for"):
        slot.detect()
    rig.driver.fail.clear()
    slot.close()
    assert rig.driver.clean


def test_graphs_go_when_the_memory_is_exchanged_for_more(rig: Rig) -> None:
    slot = rig.slot()
    for size in ((100, 100), (100, 100), (300, 200), (100, 100), (100, 100), (100, 100)):
        image = picture(3, *size)
        assert_same(run(slot, image), on_the_processor(SETTINGS, image))
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean


def on_the_gpu(image: np.ndarray, given_back: list[Any]) -> NvPicture:
    """A grey picture as the GPU's decoder leaves it, rows padded."""
    luma = np.pad(image[None, :, :, 0], ((0, 0), (0, 0), (0, 8)))
    chroma = np.full((1, image.shape[0] // 2, image.shape[1] + 8), 128, np.uint8)
    planes: Any = SimpleNamespace(luma=luma, chroma=chroma)
    memory: Any = SimpleNamespace(give_back=given_back.append)
    return NvPicture(image.shape, "bt709", planes, memory, lambda y, _: y)


def test_a_picture_on_the_gpu_stays_there_until_it_has_been_read(rig: Rig) -> None:
    slot = rig.slot()
    given_back: list[Any] = []
    grey = [picture(seed)[..., :1].repeat(3, 2) for seed in (5, 6)]
    for number, image in enumerate(grey):
        before = len(rig.driver.log)
        slot.preprocess([on_the_gpu(image, given_back)])
        assert len(given_back) == number  # the one before, whose boxes have come
        slot.infer()
        assert_same(slot.detect()[0], on_the_processor(SETTINGS, image))
        assert "h2d" not in [name for name, _ in rig.driver.log[before:]]
    # A picture of the host of the same size needs another kernel, and lets go of the GPU's.
    assert_same(run(slot, grey[0]), on_the_processor(SETTINGS, grey[0]))
    assert len(given_back) == 2
    # A frame that is given up: its picture is still being read when the next one comes.
    slot.preprocess([on_the_gpu(grey[1], given_back)])
    rig.driver.log.clear()
    slot.preprocess([on_the_gpu(grey[0], given_back)])
    assert "preprocess" in [name for name, _ in rig.driver.log]
    assert len(given_back) == 3
    slot.close()
    assert len(given_back) == 4
    assert rig.driver.clean


def test_pictures_of_the_host_and_of_the_gpu_share_a_batch() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    given_back: list[Any] = []
    grey = picture(5)[..., :1].repeat(3, 2)
    other = picture(6, 200, 180)
    for swap in (False, True, False):
        images = [on_the_gpu(grey, given_back), other]
        expected = [on_the_processor(SETTINGS, image) for image in (grey, other)]
        if swap:
            images.reverse(), expected.reverse()
        for found, wanted in zip(run_all(slot, images), expected, strict=True):
            assert_same(found, wanted)
    del images
    assert_same(run(slot, other), on_the_processor(SETTINGS, other))
    assert len(given_back) == 3  # also the one whose place is empty now
    slot.close()
    assert rig.driver.clean


def test_pictures_elsewhere_on_the_gpu_are_no_part_of_a_graph(rig: Rig) -> None:
    slot = rig.slot()
    for seed in (5, 6, 7):
        grey = picture(seed)[..., :1].repeat(3, 2)
        assert_same(run(slot, on_the_gpu(grey, [])), on_the_processor(SETTINGS, grey))
    assert len(rig.graphs.graphs) == 2  # network and detection
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean
