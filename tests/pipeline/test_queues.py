import threading
import time

import pytest

from squeezedrive.pipeline.core.queues import Cancelled, StageQueue


def test_first_in_first_out_then_none_after_close() -> None:
    queue: StageQueue[int] = StageQueue(3)
    for i in range(3):
        queue.put(i)
    queue.close()
    assert [queue.get() for _ in range(5)] == [0, 1, 2, None, None]


def test_lossless_waits_for_room_and_drops_nothing() -> None:
    queue: StageQueue[int] = StageQueue(2)
    writer = threading.Thread(target=lambda: [queue.put(i) for i in range(100)] and queue.close())
    writer.start()
    got = []
    while (item := queue.get()) is not None:
        got.append(item)
    writer.join(10)
    assert got == list(range(100))
    assert queue.deepest <= 2
    assert not queue.dropped


def test_items_put_after_close_are_counted() -> None:
    queue: StageQueue[int] = StageQueue(2)
    queue.close()
    queue.put(1)
    assert queue.get() is None
    assert queue.dropped == {"too late": 1}


def test_latest_drops_the_oldest() -> None:
    queue: StageQueue[int] = StageQueue(2, "latest")
    for i in range(5):
        queue.put(i)
    queue.close()
    assert [queue.get(), queue.get(), queue.get()] == [3, 4, None]
    assert queue.dropped == {"overtaken": 3}


def test_bounded_age_never_hands_out_an_old_item() -> None:
    queue: StageQueue[float] = StageQueue(10, "bounded_age", 5.0, lambda born: born)
    now = time.monotonic()
    for age in (100, 50, 1, 0):
        queue.put(now - age)
    queue.close()
    assert [queue.get(), queue.get(), queue.get()] == [now - 1, now, None]
    assert queue.dropped == {"too old": 2}


def test_bounded_age_drops_the_oldest_when_full() -> None:
    queue: StageQueue[float] = StageQueue(1, "bounded_age", 1e9, lambda born: born)
    queue.put(1.0)
    queue.put(2.0)
    assert queue.get() == 2.0
    assert queue.dropped == {"overtaken": 1}


@pytest.mark.parametrize("blocked", ["reader", "writer"])
def test_cancel_wakes_waiting_threads(blocked: str) -> None:
    queue: StageQueue[int] = StageQueue(1)
    if blocked == "writer":
        queue.put(0)
    raised = threading.Event()

    def wait() -> None:
        try:
            if blocked == "reader":
                queue.get()
            else:
                queue.put(1)
        except Cancelled:
            raised.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    queue.cancel()
    thread.join(10)
    assert raised.is_set()
    with pytest.raises(Cancelled):
        queue.put(2)
    with pytest.raises(Cancelled):
        queue.get()


def test_mean_and_largest_depth_are_measured() -> None:
    queue: StageQueue[int] = StageQueue(3)
    queue.put(0)  # 1 in the queue
    queue.put(1)  # 2
    queue.get()
    queue.put(2)  # 2
    assert queue.mean_depth == pytest.approx(5 / 3)
    assert queue.deepest == 2


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        StageQueue(0)
    with pytest.raises(ValueError, match="captured_at"):
        StageQueue(1, "bounded_age")
