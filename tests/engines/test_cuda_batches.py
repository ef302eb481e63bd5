"""Several pictures in a slot, graphs, and pictures that are on the GPU already: on a fake of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.cuda import batch_runner
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.engines.backends.cuda.slot import CudaSlot
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
        count = len(images)
        steps = [name for name, _ in rig.driver.log if name not in ("event", "time")]
        assert steps == ["h2d"] * count + ["preprocess"] * count + ["infer", "detect", "d2h"]
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
    monkeypatch.setattr(batch_runner, "_PATHS", 3)
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


def test_a_graph_does_what_its_steps_do(rig: Rig) -> None:
    graphs = FakeGraphs(rig.driver)
    with rig.gpu.current():
        runner = BatchRunner(rig.gpu, rig.executor, rig.kernels)
        with pytest.raises(RuntimeError, match="before capture"):
            runner.replay()
        runner.load([picture(1)])
        runner.upload()
        runner.preprocess()
        runner.capture(graphs)
        assert runner.launches == 5
        for seed in (1, 2):
            runner.load([picture(seed)])
            runner.replay()
            (found,) = runner.collect()
            assert_same(found, on_the_processor(SETTINGS, picture(seed)))
        runner.load([picture(1, 200, 200)])  # other addresses: the graph is of no use any more
        assert graphs.alive == 0
        with pytest.raises(RuntimeError, match="before capture"):
            runner.replay()
        rig.driver.fail["infer"] = DriverError("not in a capture")
        runner.upload()
        with pytest.raises(DriverError, match="not in a capture"):
            runner.capture(graphs)
        assert graphs.alive == 0
        runner.close()
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


def test_a_graph_is_not_replayed_for_a_picture_elsewhere_on_the_gpu(rig: Rig) -> None:
    graphs = FakeGraphs(rig.driver)
    grey = picture(5)[..., :1].repeat(3, 2)
    with rig.gpu.current():
        one = BatchRunner(rig.gpu, rig.executor, rig.kernels)
        for _ in range(2):
            one.load([on_the_gpu(grey, [])])
            with pytest.raises(RuntimeError, match="before capture"):
                one.replay()
            one.preprocess()
            one.capture(graphs)
        one.close()
    assert graphs.alive == 0
    assert rig.driver.clean
