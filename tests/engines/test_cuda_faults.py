"""What goes wrong on the GPU, and what is left afterwards: on a fake of it."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from squeezedrive.engines.backends.cuda import context
from squeezedrive.engines.backends.cuda.backend import CudaBackend, make_kernels
from squeezedrive.engines.backends.cuda.image_kernels import PreprocessKernel
from squeezedrive.engines.backends.cuda.stream import SlotStep
from squeezedrive.engines.backends.video_decoder import ColourMatrix
from squeezedrive.engines.errors import BackendUnavailable, GpuLost, GpuMemoryError
from squeezedrive.kernels.fit import Fit
from tests.support.cuda_rig import SETTINGS, Rig, assert_same, picture, run
from tests.support.fake_cuda import on_the_processor
from tests.support.fake_driver import DriverError


@pytest.fixture
def rig() -> Rig:
    return Rig()


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
    "call", ["h2d", "preprocess", "infer", "detect", "d2h", "preprocessor", "update"]
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
    enqueue = slot._runner.enqueue  # type: ignore[union-attr]

    def held(step: SlotStep) -> None:
        inside.set()
        go_on.wait(10)
        enqueue(step)

    slot.preprocess([picture(1)])
    slot._runner.enqueue = held  # type: ignore[union-attr, method-assign]
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
    assert rig.gpu.cuda.flushes == 1  # of what Numba would free later
    assert rig.driver.clean


def test_a_back_end_that_cannot_run_says_so_when_it_is_opened(rig: Rig) -> None:
    rig.driver.fail["infer"] = DriverError("no kernel image")
    with pytest.raises(DriverError, match="no kernel image"):
        rig.backend()
    assert rig.executor.closed == 1
    assert rig.driver.clean


def test_opening_loads_the_kernel_for_decoded_pictures(rig: Rig) -> None:
    """Or the first of them would wait until it is compiled."""
    loaded: list[str | None] = []

    def preprocessor(fit: Fit, matrix: ColourMatrix | None) -> PreprocessKernel:
        loaded.append(matrix)
        return rig.kernels.preprocessor(fit, matrix)

    kernels = replace(rig.kernels, preprocessor=preprocessor)
    CudaBackend("torch", SETTINGS, rig.gpu, rig.executor, kernels, "test").close()
    assert loaded == [None, "bt709"]
    assert rig.driver.clean


def test_kernels_that_the_driver_does_not_load_are_a_clear_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = pytest.importorskip("squeezedrive.kernels.cuda.launch", reason="needs numba-cuda")

    def refuse(*arguments: Any) -> Any:
        raise launch.KernelRefused("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")

    monkeypatch.setattr("squeezedrive.kernels.cuda.preprocess.Preprocessor", refuse)
    monkeypatch.setattr("squeezedrive.kernels.cuda.detect.DetectKernels", refuse)
    kernels = make_kernels(SETTINGS, rig.executor)
    fit = kernels.make_fit((120, 100))
    expected = r"driver does not load them: CUDA_ERROR_UNSUPPORTED_PTX_VERSION; .*update"
    with pytest.raises(BackendUnavailable, match=expected):
        kernels.detector(1)
    with pytest.raises(BackendUnavailable, match=expected):
        kernels.preprocessor(fit, None)


def test_the_context_is_detached_at_the_end(rig: Rig) -> None:
    rig.gpu.release()
    assert rig.driver.context.detached == 1


def test_waiting_looks_as_often_as_the_system_allows(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux makes 50 us more of every sleep: a longer one would keep boxes that are there."""
    naps: list[float] = []
    monkeypatch.setattr(context.time, "sleep", naps.append)
    slot = rig.slot()
    run(slot, picture(1))
    assert naps
    assert max(naps) <= 1e-6
    slot.close()


def test_what_is_held_when_the_process_ends_is_not_released(rig: Rig) -> None:
    rig.gpu.release()
    rig.gpu.release()
    assert rig.driver.context.detached == 1
    assert rig.gpu.lost
