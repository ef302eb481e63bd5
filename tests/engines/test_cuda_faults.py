"""Failures on the GPU and the release of memory after them, on a fake GPU."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from squeezedrive.engines.backends.cuda import context
from squeezedrive.engines.backends.cuda.backend import CudaBackend, make_kernels
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.image_kernels import PreprocessKernel
from squeezedrive.engines.backends.cuda.slot import CudaSlot
from squeezedrive.engines.backends.cuda.stream import SlotStep
from squeezedrive.engines.backends.video_decoder import ColourMatrix
from squeezedrive.engines.errors import BackendUnavailable, GpuLost, GpuMemoryError
from squeezedrive.kernels.fit import Fit
from tests.support.cuda_rig import SETTINGS, Rig, assert_same, in_thread, picture, run
from tests.support.fake_cuda import on_the_processor
from tests.support.fake_driver import DriverError


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_slot_can_be_closed_between_any_steps(rig: Rig, steps: int) -> None:
    slot = rig.slot()
    for step in [lambda: slot.preprocess([picture(1)]), slot.infer][:steps]:
        step()
    slot.close()
    assert rig.driver.clean
    assert rig.executor.open_contexts == 0


def test_rejects_steps_out_of_order(rig: Rig) -> None:
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
def test_failed_creation_of_a_slot_leaves_nothing(rig: Rig, call: str) -> None:
    error = DriverError(f"{call} failed: invalid value")
    rig.driver.fail[call] = error
    with pytest.raises((DriverError, GpuLost)):
        rig.slot()
    rig.driver.fail.clear()
    if call != "synchronize":  # if this call fails, the GPU is lost and nothing can be released
        assert rig.driver.clean
        assert rig.executor.open_contexts == 0


@pytest.mark.parametrize(
    "call", ["h2d", "preprocess", "infer", "detect", "d2h", "preprocessor", "update"]
)
def test_a_slot_works_again_after_a_failed_step(rig: Rig, call: str) -> None:
    slot = rig.slot()
    rig.driver.fail[call] = DriverError("invalid value")
    with pytest.raises(DriverError):
        run(slot, picture(1))
    rig.driver.fail.clear()
    assert_same(run(slot, picture(1)), on_the_processor(SETTINGS, picture(1)))
    slot.close()
    assert rig.driver.clean


@pytest.mark.parametrize("text", ["cuMemAlloc failed: out of memory", "CUDA_ERROR_OUT_OF_MEMORY"])
def test_reports_full_gpu_memory_with_a_remedy(rig: Rig, text: str) -> None:
    slot = rig.slot()
    rig.driver.fail["mem_alloc"] = DriverError(text)
    with pytest.raises(GpuMemoryError, match=r"Fake GPU is not enough.*--set queue\.slots=2"):
        slot.preprocess([picture(1)])
    rig.driver.fail.clear()
    assert_same(run(slot, picture(1)), on_the_processor(SETTINGS, picture(1)))
    slot.close()
    assert rig.driver.clean


def test_reports_a_lost_gpu_and_does_not_use_it_again(rig: Rig) -> None:
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


def test_an_illegal_memory_access_is_a_fault_of_the_program(rig: Rig) -> None:
    slot = rig.slot()
    rig.driver.crash["detect"] = "an illegal memory access was encountered"
    with pytest.raises(DriverError, match="illegal"):
        run(slot, picture(1))
    assert rig.gpu.lost
    slot.close()


def test_gives_up_a_gpu_that_hangs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "PATIENCE", 0.02)
    slot = rig.slot()
    slot.preprocess([picture(1)])
    slot.infer()
    rig.driver.hung = True
    with pytest.raises(GpuLost, match="has not finished a picture"):
        slot.detect()
    slot.close()
    assert rig.driver.leaked == 0


def test_does_not_wait_for_a_lost_gpu_to_explain_a_later_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = rig.slot()
    rig.gpu.lost = True
    waited: list[bool] = []
    monkeypatch.setattr(rig.driver.context, "synchronize", lambda: waited.append(True))
    with pytest.raises(GpuLost, match=r"stopped working: .*before load"):
        slot.infer()
    assert waited == []


def test_gives_up_a_gpu_that_hangs_while_a_slot_is_closed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PATIENCE", 0.02)
    slot = rig.slot()
    slot.preprocess([picture(1)])
    rig.driver.hung = True
    slot.close()
    assert rig.gpu.lost


def test_a_slot_keeps_its_memory_until_its_step_returns(rig: Rig) -> None:
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


def test_a_slot_that_is_closed_as_a_step_begins_runs_no_step(rig: Rig) -> None:
    class Slot(CudaSlot):
        """A slot that another thread closes at the moment when a step begins."""

        @property
        def _working(self) -> bool:
            return bool(self.__dict__.get("working"))

        @_working.setter
        def _working(self, working: bool) -> None:
            self.__dict__["working"] = working
            if working:
                in_thread(self.close)

    slot = Slot(rig.gpu, lambda: BatchRunner(rig.gpu, rig.executor, rig.kernels))
    with pytest.raises(RuntimeError, match="the slot is closed"):
        slot.preprocess([picture(1)])
    assert slot.abandoned


def test_back_end_closes_open_slots(rig: Rig) -> None:
    backend = rig.backend()
    slot = backend.new_slot()
    run(slot, picture(1))
    backend.close()
    backend.close()
    assert rig.executor.closed == 1
    assert rig.gpu.cuda.flushes == 1  # Numba alone would free this memory later
    assert rig.driver.clean


def test_opening_fails_if_the_network_cannot_run(rig: Rig) -> None:
    rig.driver.fail["infer"] = DriverError("no kernel image")
    with pytest.raises(DriverError, match="no kernel image"):
        rig.backend()
    assert rig.executor.closed == 1
    assert rig.driver.clean


def test_opening_loads_the_kernel_for_decoded_pictures(rig: Rig) -> None:
    """Test that the first decoded picture need not wait for the compilation."""
    loaded: list[str | None] = []

    def preprocessor(fit: Fit, matrix: ColourMatrix | None) -> PreprocessKernel:
        loaded.append(matrix)
        return rig.kernels.preprocessor(fit, matrix)

    kernels = replace(rig.kernels, preprocessor=preprocessor)
    CudaBackend("torch", SETTINGS, rig.gpu, rig.executor, kernels, "test").close()
    assert loaded == [None, "bt709"]
    assert rig.driver.clean


def test_reports_kernels_that_the_driver_does_not_load(
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


def test_detaches_the_context_at_the_end(rig: Rig) -> None:
    rig.gpu.release()
    assert rig.driver.context.detached == 1


def test_waits_with_the_shortest_sleep_of_the_system(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux adds 50 us to every sleep; a longer sleep would delay boxes that are ready."""
    naps: list[float] = []
    monkeypatch.setattr(context.time, "sleep", naps.append)
    slot = rig.slot()
    run(slot, picture(1))
    assert naps
    assert max(naps) <= 1e-6
    slot.close()


def test_releases_the_context_only_once(rig: Rig) -> None:
    rig.gpu.release()
    rig.gpu.release()
    assert rig.driver.context.detached == 1
    assert rig.gpu.lost
