"""A stage by itself."""

import time
from fractions import Fraction

import numpy as np
import pytest

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.worker import StageEvent, Worker
from squeezedrive.pipeline.stages.feed import Captured
from tests.support.fakes import FakeSource, feed_of

PICTURES = 4
WAIT = 0.02  # seconds per picture


@pytest.mark.parametrize("waits", [True, False])
def test_waiting_for_a_camera_does_not_count_as_busy(waits: bool) -> None:
    feed = feed_of(FakeSource(PICTURES), [])
    left = iter(range(PICTURES))
    events: list[StageEvent] = []

    def picture(number: int) -> Captured:
        time.sleep(WAIT)
        image = np.zeros((2, 2, 3), np.uint8)
        return Captured(feed, Frame(0, number, 0, Fraction(1, 25), 0.0, image))

    def fail(name: str, error: BaseException) -> None:
        raise AssertionError(name) from error

    stage = Worker(
        "capture", lambda: next(left, None), picture, lambda captured: None, lambda: None, fail,
        waits=waits,
    )  # fmt: skip
    stage.observe = events.append
    stage.start()
    stage.join(10)
    timing = stage.timing
    assert timing.busy.count == len(events) == PICTURES
    worked = timing.busy.total
    assert (worked >= PICTURES * WAIT) == (not waits)  # sleeping takes no processor time
    assert timing.wait_in >= PICTURES * WAIT or not waits
    assert all(event.start <= event.taken <= event.done <= event.given for event in events)
    assert sum(event.done - event.taken for event in events) == pytest.approx(worked)
