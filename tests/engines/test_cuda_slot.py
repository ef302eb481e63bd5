"""The steps of a slot on the GPU, their order, and its memory; on a fake GPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.cuda_rig import SETTINGS, Rig, assert_same, in_thread, picture, run, run_all
from tests.support.fake_cuda import (
    on_the_processor,
)

ORDER = [
    *("time", "h2d", "preprocess", "event", "time"),
    *("time", "infer", "time"),
    *("time", "detect", "d2h", "time", "event"),
]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("fit", ["band", "letterbox", "stretch"])
def test_slot_finds_the_same_as_the_cpu(fit: Any) -> None:
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


def test_steps_run_in_order_on_the_stream_of_their_slot(rig: Rig) -> None:
    slots = [rig.slot() for _ in range(3)]
    for slot in slots:
        run(slot, picture(0))
    rig.driver.log.clear()
    for slot in slots:
        slot.preprocess([picture(1)])
    for slot in slots:
        slot.infer()
    assert rig.driver.log == []  # no call has waited for the GPU
    for slot in reversed(slots):
        slot.detect()
    by_stream: dict[int, list[str]] = {}
    for name, stream in rig.driver.log:
        by_stream.setdefault(stream, []).append(name)
    assert list(by_stream.values()) == [ORDER] * 3
    for slot in slots:
        slot.close()


def test_times_each_step_of_a_batch_with_the_gpus_clock() -> None:
    rig = Rig(max_batch=2)
    slot = rig.slot(2)
    with pytest.raises(RuntimeError, match="before load"):
        slot.device_seconds  # noqa: B018
    for count in (1, 2):
        run_all(slot, [picture(1)] * count)
        assert slot.device_seconds == {"preprocess": 5e-4, "infer": 5e-4, "detect": 5e-4}
    slot.close()
    assert rig.driver.clean


def test_the_picture_may_change_after_preprocess(rig: Rig) -> None:
    slot, image = rig.slot(), picture(1)
    expected = on_the_processor(SETTINGS, image)
    slot.preprocess([image])
    image[:] = 0
    slot.infer()
    assert_same(slot.detect()[0], expected)
    slot.close()


def test_does_not_overwrite_pinned_memory_before_the_copy(rig: Rig) -> None:
    """The picture of an abandoned frame is still in flight when the next one comes."""
    slot = rig.slot()
    slot.preprocess([picture(1)])
    assert "h2d" not in [name for name, _ in rig.driver.log]
    slot.preprocess([picture(2)])
    assert "h2d" in [name for name, _ in rig.driver.log]  # the slot has waited for the copy
    slot.infer()
    assert_same(slot.detect()[0], on_the_processor(SETTINGS, picture(2)))
    slot.close()


def test_results_stay_valid_when_the_slot_is_reused(rig: Rig) -> None:
    slot = rig.slot()
    first = run(slot, picture(1))
    kept = first.boxes.copy(), first.scores.copy()
    run(slot, picture(2))
    np.testing.assert_array_equal(first.boxes, kept[0])
    np.testing.assert_array_equal(first.scores, kept[1])
    slot.close()


def test_copies_only_the_rows_that_the_network_needs(rig: Rig) -> None:
    slot = rig.slot()
    before = set(rig.driver.memory)
    slot.preprocess([picture(0, 120, 500)])
    (pixels,) = set(rig.driver.memory) - before
    assert rig.driver.memory[pixels].size == 120 * 80 * 3  # 120 x 64 / 96 rows
    slot.close()


def test_memory_fits_the_largest_picture_and_is_reused(rig: Rig) -> None:
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


def test_does_not_reallocate_memory_while_the_gpu_reads_it(rig: Rig) -> None:
    slot = rig.slot()
    slot.preprocess([picture(0, 100, 100)])
    slot.preprocess([picture(0, 300, 200)])
    assert "preprocess" in [name for name, _ in rig.driver.log]
    slot.infer()
    assert_same(slot.detect()[0], on_the_processor(SETTINGS, picture(0, 300, 200)))
    slot.close()


def test_any_thread_may_use_and_close_a_slot(rig: Rig) -> None:
    slot = in_thread(rig.slot)
    in_thread(lambda: slot.preprocess([picture(1)]))
    in_thread(slot.infer)
    (found,) = in_thread(slot.detect)
    assert_same(found, on_the_processor(SETTINGS, picture(1)))
    in_thread(slot.close)
    assert rig.driver.pushes == 5
    assert rig.driver.clean


def test_closing_twice_is_harmless_and_a_closed_slot_raises(rig: Rig) -> None:
    slot = rig.slot()
    slot.close()
    slot.close()
    with pytest.raises(RuntimeError, match="closed"):
        slot.preprocess([picture(1)])
    assert rig.driver.clean
