"""Batches in a slot, CUDA graphs, and pictures that are already on the GPU; on a fake GPU."""

import itertools
import logging
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
from tests.support.fakes import FakeRows


@pytest.fixture
def rig() -> Rig:
    return Rig()


SIZES = [(120, 100), (200, 180), (90, 60)]


def test_batch_finds_the_same_as_each_picture_alone() -> None:
    """Test batches of any number, order and size; no batch changes the next one."""
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


def test_of_a_picture_that_is_not_bgr_the_rows_are_copied_that_the_network_sees() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    image, other = picture(1, 120, 100), picture(2, 120, 100)
    rows = FakeRows(image)
    for one, expected in zip(run_all(slot, [rows, other]), (image, other), strict=True):
        assert_same(one, on_the_processor(SETTINGS, expected))
    _, top, _, bottom = rig.kernels.make_fit((image.shape[1], image.shape[0])).crop
    assert rows.asked == [(top, bottom)]
    slot.close()


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
    assert bound == [3, 2, 1]  # one bind for each number of pictures
    assert rig.executor.open_contexts == 3
    slot.close()
    assert rig.executor.open_contexts == 0
    assert rig.driver.clean


def test_after_a_failed_bind_there_is_no_batch() -> None:
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
    for seeds in ((1, 2), (2,), (1,)):
        images = [picture(seed) for seed in seeds]
        for found, image in zip(run_all(slot, images), images, strict=True):
            assert_same(found, on_the_processor(SETTINGS, image))
    slot.close()
    assert rig.driver.clean


def test_rejected_batch_cannot_be_inferred() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    run_all(slot, [picture(1)])
    for wrong in ([picture(1)] * 3, [picture(1), picture(1)[:, :, 0]], [picture(1) / 2]):
        with pytest.raises(ValueError, match="expected 1 to 2 pictures"):
            slot.preprocess(wrong)
    rig.driver.fail["mem_alloc"] = DriverError("out of memory")
    with pytest.raises(GpuMemoryError):  # raised for the second of two pictures
        slot.preprocess([picture(1), picture(2)])
    with pytest.raises(RuntimeError, match="before load"):
        slot.infer()
    rig.driver.fail.clear()
    for found, seed in zip(run_all(slot, [picture(1), picture(2)]), (1, 2), strict=True):
        assert_same(found, on_the_processor(SETTINGS, picture(seed)))
    slot.close()
    assert rig.driver.clean


def test_reuses_kernels_for_sizes_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
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
    # A fourth kernel drops the others, even while an abandoned batch is still in flight.
    slot.preprocess([a, b])
    d = picture(4, 60, 60)
    for image, found in zip((d, a), run_all(slot, [d, a]), strict=True):
        assert_same(found, on_the_processor(SETTINGS, image))
    assert len(made) == 5
    slot.close()
    assert rig.driver.clean


def test_rejects_slots_larger_than_the_networks_batch() -> None:
    backend = Rig(max_batch=2).backend()
    assert backend.max_batch == 2
    for batch in (0, 3):
        with pytest.raises(ValueError, match=f"expected 1 to 2 pictures at a time, got {batch}"):
            backend.new_slot(batch)
    slot = backend.new_slot(2)
    assert [len(run_all(slot, [picture(1)] * n)) for n in (1, 2)] == [1, 2]
    backend.close()


def test_driver_has_the_calls_that_record_graphs() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    for name in dir(FakeGraphs):
        if name.startswith(("cu", "CU")):
            assert hasattr(driver, name)
    mode = FakeGraphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert mode == driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


def test_repeated_work_is_one_graph_launch_per_step() -> None:
    """Each number and order of sizes has its own graph, which stays while others are used."""
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    a, b = picture(1, *SIZES[0]), picture(2, *SIZES[1])
    expected = {id(image): on_the_processor(SETTINGS, image) for image in (a, b)}
    launched: list[int] = []
    launch = rig.graphs.cuGraphLaunch
    rig.graphs.cuGraphLaunch = lambda graph, stream: (  # type: ignore[method-assign]
        launched.append(graph) or launch(graph, stream)
    )
    run_all(slot, [b, b])  # allocates all the memory that is needed
    for images, graphs in (
        *(([a], 0), ([a], 3), ([b], 2), ([b], 3), ([a], 3)),  # for b, only preprocessing is new
        *(([a, b], 2), ([a, b], 3), ([b, a], 2), ([a, a], 2), ([a, a], 3)),
        *(([a], 3), ([a, b], 3), ([b], 3)),
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


def test_enqueues_a_network_that_cannot_be_recorded(rig: Rig) -> None:
    rig.executor.recordable = False
    slot = rig.slot()
    for seed in (1, 2, 3):
        assert_same(run(slot, picture(seed)), on_the_processor(SETTINGS, picture(seed)))
    assert len(rig.graphs.graphs) == 2
    slot.close()
    assert rig.graphs.alive == 0


def test_stops_recording_after_a_failed_recording(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "squeezedrive")
    enqueue = FakeExecution.enqueue
    recording: list[bool] = []

    def refuse(self: FakeExecution, stream: int) -> None:
        recording.append(rig.graphs.recording)
        if rig.graphs.recording:
            rig.graphs.invalidated = True
            raise DriverError("operation not permitted when stream is capturing")
        rig.graphs.invalidated = False
        enqueue(self, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeExecution, "enqueue", refuse)
        slot = rig.slot()
        for seed in (1, 2, 3):
            assert_same(run(slot, picture(seed)), on_the_processor(SETTINGS, picture(seed)))
    assert recording == [False, True, False, False]
    assert "not permitted when stream is capturing" in caplog.text
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean


def test_does_not_synchronize_while_work_is_recorded(rig: Rig) -> None:
    """The driver refuses a synchronization and a recording at the same time."""
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


def test_updates_parameters_before_launching_a_graph(rig: Rig) -> None:
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


def test_drops_graphs_when_memory_is_reallocated(rig: Rig) -> None:
    slot = rig.slot()
    for size in ((100, 100), (100, 100), (300, 200), (100, 100), (100, 100), (100, 100)):
        image = picture(3, *size)
        assert_same(run(slot, image), on_the_processor(SETTINGS, image))
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean


def on_the_gpu(image: np.ndarray, given_back: list[Any]) -> NvPicture:
    """Return a grey picture as the GPU's decoder makes it, with padded rows."""
    luma = np.pad(image[None, :, :, 0], ((0, 0), (0, 0), (0, 8)))
    chroma = np.full((1, image.shape[0] // 2, image.shape[1] + 8), 128, np.uint8)
    planes: Any = SimpleNamespace(luma=luma, chroma=chroma)
    memory: Any = SimpleNamespace(give_back=given_back.append)
    return NvPicture(image.shape, "bt709", planes, memory, lambda y, _: y)


def test_keeps_a_picture_on_the_gpu_until_it_was_read(rig: Rig) -> None:
    slot = rig.slot()
    given_back: list[Any] = []
    grey = [picture(seed)[..., :1].repeat(3, 2) for seed in (5, 6)]
    for number, image in enumerate(grey):
        before = len(rig.driver.log)
        slot.preprocess([on_the_gpu(image, given_back)])
        assert len(given_back) == number  # earlier pictures, whose boxes are ready
        slot.infer()
        assert_same(slot.detect()[0], on_the_processor(SETTINGS, image))
        assert "h2d" not in [name for name, _ in rig.driver.log[before:]]
    # A host picture of the same size needs another kernel, and releases the GPU's picture.
    assert_same(run(slot, grey[0]), on_the_processor(SETTINGS, grey[0]))
    assert len(given_back) == 2
    # An abandoned frame: its picture is still being read when the next one comes.
    slot.preprocess([on_the_gpu(grey[1], given_back)])
    rig.driver.log.clear()
    slot.preprocess([on_the_gpu(grey[0], given_back)])
    assert "preprocess" in [name for name, _ in rig.driver.log]
    assert len(given_back) == 3
    slot.close()
    assert len(given_back) == 4
    assert rig.driver.clean


def test_host_and_gpu_pictures_may_share_a_batch() -> None:
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
    assert len(given_back) == 3  # the GPU's picture of each batch
    slot.close()
    assert rig.driver.clean


def test_records_no_graph_for_decoded_pictures(rig: Rig) -> None:
    slot = rig.slot()
    for seed in (5, 6, 7):
        grey = picture(seed)[..., :1].repeat(3, 2)
        assert_same(run(slot, on_the_gpu(grey, [])), on_the_processor(SETTINGS, grey))
    assert len(rig.graphs.graphs) == 2  # network and detection
    slot.close()
    assert rig.graphs.alive == 0
    assert rig.driver.clean
