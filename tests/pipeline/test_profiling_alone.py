import threading
import time
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.base import Backend, BackendInfo, Slot
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.profiling.alone import measure_alone

PICTURE = np.zeros((4, 6, 3), np.uint8)
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class TimedSlot(Slot):
    device_seconds: dict[str, float] = {}  # noqa: RUF012 - never changed

    def __init__(self, backend: "CountingBackend") -> None:
        self.backend = backend
        self.steps: list[str] = []
        self.closed = False

    def preprocess(self, images: Any) -> None:
        assert len(images) == self.backend.batch
        assert all(image is PICTURE for image in images)
        self.steps.append("preprocess")

    def infer(self) -> None:
        self.steps.append("infer")
        self.backend.together.wait()
        time.sleep(0.001)

    def detect(self) -> list[Detections]:
        self.steps.append("detect")
        return [NONE]

    def close(self) -> None:
        self.closed = True


class CountingBackend(Backend):
    info = BackendInfo("fake", "none", "none", "fp32", "test")
    max_batch = 8
    batch_pays = False

    def __init__(self, parallel: int, device_seconds: dict[str, float] | None = None) -> None:
        self.parallel = parallel
        self.together = threading.Barrier(1)
        self.slots: list[TimedSlot] = []
        self._device_seconds = device_seconds

    def new_slot(self, batch: int = 1) -> Any:
        self.batch = batch
        self.slots.append(TimedSlot(self))
        if self._device_seconds is not None:
            self.slots[-1].device_seconds = self._device_seconds
        return self.slots[-1]

    def close(self) -> None:
        pass


def test_each_part_runs_in_every_slot_and_slots_are_closed() -> None:
    backend = CountingBackend(parallel=3)
    rates = measure_alone(backend, PICTURE, seconds=0.02)
    assert set(rates) == {"inference", "detection"}
    assert len(backend.slots) == 3
    for slot in backend.slots:
        whole = ["preprocess", "infer", "detect"]
        rounds = slot.steps.count("detect")
        assert rounds >= 1
        assert slot.steps[: 3 * rounds] == whole * rounds
        assert set(slot.steps[3 * rounds :]) == {"infer"}
        assert slot.closed
    # Each slot works at least a millisecond on a frame.
    assert 0 < rates["inference"] <= 3000
    assert 0 < rates["detection"] <= 3000


def test_the_accelerators_clock_counts_where_there_is_one() -> None:
    # On an accelerator, `infer` returns before the network has run.
    backend = CountingBackend(1, {"preprocess": 0.001, "infer": 0.004, "detect": 0.002})
    rates = measure_alone(backend, PICTURE, seconds=0.01)
    assert rates["inference"] == pytest.approx(250)
    assert backend.slots[0].steps.count("infer") == backend.slots[0].steps.count("detect")


def test_several_pictures_at_once_count_each() -> None:
    backend = CountingBackend(1, {"infer": 0.004})
    rates = measure_alone(backend, PICTURE, batch=4, seconds=0.05)
    assert backend.batch == 4
    assert rates["inference"] == pytest.approx(1000)
    assert 0 < rates["detection"] <= 4000


def test_slots_are_closed_when_the_work_fails() -> None:
    backend = CountingBackend(2)
    backend.together.abort()
    with pytest.raises(threading.BrokenBarrierError):
        measure_alone(backend, PICTURE, seconds=0.01)
    assert all(slot.closed for slot in backend.slots)
