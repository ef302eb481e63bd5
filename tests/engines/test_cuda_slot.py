"""What happens on the GPU, in which order, and what is left afterwards: on a fake of it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.backend import EngineSettings
from engines.cuda import chain, context
from engines.cuda.backend import CudaBackend
from engines.cuda.chain import Chain
from engines.cuda.nvdec import NvPicture
from engines.cuda.slot import CudaSlot
from engines.errors import GpuLost, GpuMemoryError
from engines.weights import DEFAULT, load_weights
from kernels.detections import Detections
from kernels.reference import DetectParams
from tests.fake_cuda import (
    DriverError,
    FakeExecution,
    FakeExecutor,
    FakeGraphs,
    fake_gpu,
    fake_recipe,
    on_the_processor,
)

ORDER = [
    *("time", "h2d", "event", "preprocess", "time"),
    *("time", "infer", "time"),
    *("time", "detect", "time", "d2h", "event"),
]
SETTINGS = EngineSettings(
    load_weights(DEFAULT), 96, 64, DetectParams(threshold=0.0, top_n=12), cpu_precision="fp32"
)


def picture(seed: int, width: int = 120, height: int = 100) -> np.ndarray:
    """Coarse blocks: an untrained eye may see objects in them."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return blocks.repeat(10, 0).repeat(10, 1)


class Rig:
    """A fake GPU with the network on it."""

    def __init__(self, settings: EngineSettings = SETTINGS, max_batch: int = 1) -> None:
        self.driver, self.gpu = fake_gpu()
        self.executor = FakeExecutor(self.driver, settings, max_batch)
        self.recipe = fake_recipe(self.driver, settings)
        self.settings = settings

    def slot(self, batch: int = 1) -> CudaSlot:
        return CudaSlot(self.gpu, lambda: Chain(self.gpu, self.executor, self.recipe, batch))

    def backend(self) -> CudaBackend:
        return CudaBackend("torch", self.settings, self.gpu, self.executor, self.recipe, "test")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def run(slot: CudaSlot, image: Any) -> Detections:
    (found,) = run_all(slot, [image])
    return found


def run_all(slot: CudaSlot, images: Sequence[Any]) -> list[Detections]:
    slot.preprocess(images)
    slot.infer()
    return slot.detect()


def in_thread(work: Callable[[], Any]) -> Any:
    """Run in a thread of its own, as the stages do; raise what it raises."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append((work(), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    value, error = results[0]
    if error is not None:
        raise error
    return value


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.02)


@pytest.mark.parametrize("fit", ["band", "letterbox", "stretch"])
def test_a_slot_finds_what_the_processor_finds(fit: Any) -> None:
    settings = replace(SETTINGS, fit=fit, band_centre=0.7)
    rig = Rig(settings)
    slot = rig.slot()
    for seed, size in ((0, (120, 100)), (1, (120, 100)), (2, (200, 180)), (3, (90, 60))):
        image = picture(seed, *size)
        expected = on_the_processor(settings, image)
        assert len(expected) > 1
        assert_same(run(slot, image), expected)
    slot.close()
    assert rig.driver.clean


def test_every_step_comes_after_the_one_before_on_the_stream_of_its_slot(rig: Rig) -> None:
    slots = [rig.slot() for _ in range(3)]
    for slot in slots:
        run(slot, picture(0))
    rig.driver.log.clear()
    for slot in slots:
        slot.preprocess([picture(1)])
    for slot in slots:
        slot.infer()
    assert rig.driver.log == []  # nothing has waited
    for slot in reversed(slots):
        slot.detect()
    by_stream: dict[int, list[str]] = {}
    for name, stream in rig.driver.log:
        by_stream.setdefault(stream, []).append(name)
    assert list(by_stream.values()) == [ORDER] * 3
    for slot in slots:
        slot.close()


def test_the_gpus_own_clock_times_each_step_of_a_batch() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    with pytest.raises(RuntimeError, match="before load"):
        slot.device_seconds  # noqa: B018
    for count in (1, 2):
        run_all(slot, [picture(1)] * count)
        assert slot.device_seconds == {"preprocess": 5e-4, "infer": 5e-4, "detect": 5e-4}
    slot.close()
    assert rig.driver.clean


def test_the_picture_may_change_once_preprocess_has_returned(rig: Rig) -> None:
    slot, image = rig.slot(), picture(1)
    expected = on_the_processor(SETTINGS, image)
    slot.preprocess([image])
    image[:] = 0
    slot.infer()
    assert_same(slot.detect()[0], expected)
    slot.close()


def test_pinned_memory_is_not_overwritten_before_it_has_been_copied(rig: Rig) -> None:
    """The picture of a frame that was given up is still on its way when the next one comes."""
    slot = rig.slot()
    slot.preprocess([picture(1)])
    assert "h2d" not in [name for name, _ in rig.driver.log]
    slot.preprocess([picture(2)])
    assert "h2d" in [name for name, _ in rig.driver.log]  # waited for
    slot.infer()
    assert_same(slot.detect()[0], on_the_processor(SETTINGS, picture(2)))
    slot.close()


def test_results_stay_when_the_slot_is_used_again(rig: Rig) -> None:
    slot = rig.slot()
    first = run(slot, picture(1))
    kept = first.boxes.copy(), first.scores.copy()
    run(slot, picture(2))
    np.testing.assert_array_equal(first.boxes, kept[0])
    np.testing.assert_array_equal(first.scores, kept[1])
    slot.close()


def test_only_the_rows_the_network_sees_cross_the_bus(rig: Rig) -> None:
    slot = rig.slot()
    before = set(rig.driver.memory)
    slot.preprocess([picture(0, 120, 500)])
    (pixels,) = set(rig.driver.memory) - before
    assert rig.driver.memory[pixels].size == 120 * 80 * 3  # 120 x 64 / 96 rows
    slot.close()


def test_memory_grows_with_the_largest_picture_and_is_used_again(rig: Rig) -> None:
    slot = rig.slot()
    run(slot, picture(0, 200, 200))
    addresses = set(rig.driver.memory)
    run(slot, picture(0, 100, 100))
    run(slot, picture(0, 200, 200))
    assert set(rig.driver.memory) == addresses
    run(slot, picture(0, 300, 200))
    assert len(rig.driver.memory) == len(addresses)
    slot.close()
    assert rig.driver.clean


def test_memory_is_not_exchanged_while_the_gpu_reads_it(rig: Rig) -> None:
    slot = rig.slot()
    slot.preprocess([picture(0, 100, 100)])
    slot.preprocess([picture(0, 300, 200)])
    assert "preprocess" in [name for name, _ in rig.driver.log]
    slot.infer()
    assert_same(slot.detect()[0], on_the_processor(SETTINGS, picture(0, 300, 200)))
    slot.close()


def test_threads_end_without_a_context_and_may_close_what_others_made(rig: Rig) -> None:
    slot = in_thread(rig.slot)
    in_thread(lambda: slot.preprocess([picture(1)]))
    in_thread(slot.infer)
    (found,) = in_thread(slot.detect)
    assert_same(found, on_the_processor(SETTINGS, picture(1)))
    in_thread(slot.close)
    assert rig.driver.pushes == 5
    assert rig.driver.clean


def test_closing_twice_is_harmless_and_a_closed_slot_says_so(rig: Rig) -> None:
    slot = rig.slot()
    slot.close()
    slot.close()
    with pytest.raises(RuntimeError, match="closed"):
        slot.preprocess([picture(1)])
    assert rig.driver.clean


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_slot_can_be_closed_at_every_point_of_its_way(rig: Rig, steps: int) -> None:
    slot = rig.slot()
    for step in [lambda: slot.preprocess([picture(1)]), slot.infer][:steps]:
        step()
    slot.close()
    assert rig.driver.clean
    assert rig.executor.open_contexts == 0


def test_steps_out_of_order_are_refused(rig: Rig) -> None:
    slot = rig.slot()
    for step in (slot.infer, slot.detect):
        with pytest.raises(RuntimeError, match="before load"):
            step()
    slot.close()


@pytest.mark.parametrize(
    "call",
    ["FakeStream", "FakeEvent", "mem_alloc", "pagelocked_empty", "array", "detector",
     "new_context", "synchronize"],
)  # fmt: skip
def test_a_slot_that_cannot_be_made_leaves_nothing(rig: Rig, call: str) -> None:
    error = DriverError(f"{call} failed: invalid value")
    rig.driver.fail[call] = error
    with pytest.raises((DriverError, GpuLost)):
        rig.slot()
    rig.driver.fail.clear()
    if call != "synchronize":  # which says that the GPU is lost: then nothing can be released
        assert rig.driver.clean
        assert rig.executor.open_contexts == 0


@pytest.mark.parametrize(
    "call", ["h2d", "preprocess", "infer", "detect", "d2h", "preprocessor", "external_stream"]
)
def test_a_step_that_fails_leaves_nothing_behind(rig: Rig, call: str) -> None:
    slot = rig.slot()
    rig.driver.fail[call] = DriverError("invalid value")
    with pytest.raises(DriverError):
        run(slot, picture(1))
    rig.driver.fail.clear()
    assert_same(run(slot, picture(1)), on_the_processor(SETTINGS, picture(1)))
    slot.close()
    assert rig.driver.clean


@pytest.mark.parametrize("text", ["cuMemAlloc failed: out of memory", "CUDA_ERROR_OUT_OF_MEMORY"])
def test_no_room_on_the_gpu_is_said_with_what_helps(rig: Rig, text: str) -> None:
    slot = rig.slot()
    rig.driver.fail["mem_alloc"] = DriverError(text)
    with pytest.raises(GpuMemoryError, match=r"Fake GPU is not enough.*--set queue\.slots=2"):
        slot.preprocess([picture(1)])
    rig.driver.fail.clear()
    assert_same(run(slot, picture(1)), on_the_processor(SETTINGS, picture(1)))
    slot.close()
    assert rig.driver.clean


def test_a_lost_gpu_is_said_and_nothing_there_is_touched_again(rig: Rig) -> None:
    slots = [rig.slot() for _ in range(2)]
    rig.driver.crash["infer"] = "unspecified launch failure"
    with pytest.raises(GpuLost, match=r"stopped working: .*unspecified launch failure"):
        run(slots[0], picture(1))
    before = len(rig.driver.memory)
    for slot in slots:
        slot.close()
    rig.gpu.release()
    assert len(rig.driver.memory) == before
    assert rig.driver.leaked == 0  # never released, not even by the garbage collector
    assert rig.driver.context.detached == 0
    assert set(rig.driver.depths.values()) == {0}


def test_a_kernel_that_reads_where_it_may_not_is_a_fault_of_the_program(rig: Rig) -> None:
    slot = rig.slot()
    rig.driver.crash["detect"] = "an illegal memory access was encountered"
    with pytest.raises(DriverError, match="illegal"):
        run(slot, picture(1))
    assert rig.gpu.lost
    slot.close()


def test_a_gpu_that_hangs_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "PATIENCE", 0.02)
    slot = rig.slot()
    slot.preprocess([picture(1)])
    slot.infer()
    rig.driver.hung = True
    with pytest.raises(GpuLost, match="has not finished a picture"):
        slot.detect()
    slot.close()
    assert rig.driver.leaked == 0


def test_a_gpu_that_hangs_while_a_slot_is_closed_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PATIENCE", 0.02)
    slot = rig.slot()
    slot.preprocess([picture(1)])
    rig.driver.hung = True
    slot.close()
    assert rig.gpu.lost


def test_a_slot_whose_step_has_not_returned_keeps_its_memory(rig: Rig) -> None:
    backend = rig.backend()
    slot = backend.new_slot()
    inside, go_on = threading.Event(), threading.Event()
    infer = slot._chain.infer  # type: ignore[union-attr]

    def held() -> None:
        inside.set()
        go_on.wait(10)
        infer()

    slot._chain.infer = held  # type: ignore[union-attr, method-assign]
    slot.preprocess([picture(1)])
    thread = threading.Thread(target=slot.infer)
    thread.start()
    inside.wait(10)
    backend.close()
    assert rig.driver.memory
    assert rig.executor.closed == 0
    go_on.set()
    thread.join()
    assert set(rig.driver.depths.values()) == {0}


def test_the_back_end_closes_slots_that_are_still_open(rig: Rig) -> None:
    backend = rig.backend()
    slot = backend.new_slot()
    run(slot, picture(1))
    backend.close()
    backend.close()
    assert rig.executor.closed == 1
    assert rig.driver.clean


def test_a_back_end_that_cannot_run_says_so_when_it_is_opened(rig: Rig) -> None:
    rig.driver.fail["infer"] = DriverError("no kernel image")
    with pytest.raises(DriverError, match="no kernel image"):
        rig.backend()
    assert rig.executor.closed == 1
    assert rig.driver.clean


def test_the_context_is_detached_at_the_end(rig: Rig) -> None:
    rig.gpu.release()
    assert rig.driver.context.detached == 1


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
    monkeypatch.setattr(chain, "_WAYS", 3)
    rig = Rig(max_batch=2)
    made: list[Any] = []
    recipe = replace(
        rig.recipe,
        preprocessor=lambda *given: made.append(given) or rig.recipe.preprocessor(*given),
    )
    slot = CudaSlot(rig.gpu, lambda: Chain(rig.gpu, rig.executor, recipe, 2))
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
        chain = Chain(rig.gpu, rig.executor, rig.recipe)
        with pytest.raises(RuntimeError, match="before capture"):
            chain.replay()
        chain.load([picture(1)])
        chain.upload()
        chain.preprocess()
        chain.capture(graphs)
        assert chain.launches == 5
        for seed in (1, 2):
            chain.load([picture(seed)])
            chain.replay()
            (found,) = chain.collect()
            assert_same(found, on_the_processor(SETTINGS, picture(seed)))
        chain.load([picture(1, 200, 200)])  # other addresses: the graph is of no use any more
        assert graphs.alive == 0
        with pytest.raises(RuntimeError, match="before capture"):
            chain.replay()
        rig.driver.fail["infer"] = DriverError("not in a capture")
        chain.upload()
        with pytest.raises(DriverError, match="not in a capture"):
            chain.capture(graphs)
        assert graphs.alive == 0
        chain.close()
    assert rig.driver.clean


def on_the_gpu(image: np.ndarray, given_back: list[Any]) -> NvPicture:
    """A grey picture as the GPU's decoder leaves it, rows padded."""
    luma = np.pad(image[None, :, :, 0], ((0, 0), (0, 0), (0, 8)))
    chroma = np.full((1, image.shape[0] // 2, image.shape[1] + 8), 128, np.uint8)
    return NvPicture(
        image.shape, "bt709", (luma, chroma), lambda y, _: np.repeat(y[..., None], 3, 2),
        given_back.append,
    )  # fmt: skip


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
        one = Chain(rig.gpu, rig.executor, rig.recipe)
        for _ in range(2):
            one.load([on_the_gpu(grey, [])])
            with pytest.raises(RuntimeError, match="before capture"):
                one.replay()
            one.preprocess()
            one.capture(graphs)
        one.close()
    assert graphs.alive == 0
    assert rig.driver.clean
