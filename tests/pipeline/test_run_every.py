"""Frames that go past the network, and several of one source that go into it together."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.detections import Detections
from pipeline.controls import Controls
from pipeline.feed import Feed
from pipeline.run import Pipeline, QueueOptions
from pipeline.stage import Lap, Stage, Steps
from pipeline.tracking.tracker import Tracker
from tests.fakes import Camera, FakeBackend, FakeSink, FakeSource

pytestmark = pytest.mark.usefixtures("no_thread_outlives")

SPEED = 3  # pixels a frame


class Road(FakeBackend):
    """One car that moves by `SPEED` pixels a frame; the frame's number is in the picture."""

    def __init__(self, script: dict[str, Callable[[], Any]] | None = None) -> None:
        super().__init__(script)
        self.seen: list[int] = []

    def new_slot(self, batch: int = 1) -> Any:
        slot = super().new_slot(batch)
        slot.detect = lambda: [self._find(number) for number in slot.seen]  # type: ignore[method-assign]
        return slot

    def _find(self, number: int) -> Detections:
        self.call("detect")
        self.seen.append(number)
        box = np.array([[SPEED * number, 0, SPEED * number + 100, 80]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))


def make(backend: FakeBackend, sink: FakeSink, frames: int, every: int, **options: Any) -> Pipeline:
    tracker = Tracker(Controls(("car", "pedestrian"), 0.4))
    feed = Feed(FakeSource(frames), [sink], tracker=tracker, every=every)
    return Pipeline([feed], backend, QueueOptions(**options))


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("every", [2, 3, 7])
def test_the_network_sees_one_frame_in_so_many(every: int, parallel: int) -> None:
    backend, sink = Road(), FakeSink()
    backend.parallel = parallel
    pipeline = make(backend, sink, 70, every, slots=4)
    pipeline.run()
    due = list(range(0, 70, every))
    assert backend.seen == due
    assert [r.frame.frame_id for r in sink.results] == list(range(70))
    assert [r.frame.frame_id for r in sink.results if r.detected] == due
    assert (pipeline.processed, pipeline.detected) == (70, len(due))
    assert pipeline.found == {0: 70}
    assert {int(i) for r in sink.results for i in r.ids} == {1}  # type: ignore[union-attr]
    # Once its speed is known, the car is where it is, seen or not.
    for result in sink.results[3 * every :]:
        left = float(result.detections.boxes[0, 0])
        assert left == pytest.approx(SPEED * result.frame.frame_id, abs=SPEED)


def test_stages_count_the_frames_they_worked_on() -> None:
    pipeline = make(Road(), FakeSink(), 60, 3)
    laps: list[Lap] = []
    for stage in pipeline.stages:
        stage.observe = laps.append
    pipeline.run()
    counts = {stage.name: stage.timing.frames for stage in pipeline.stages}
    assert counts == dict.fromkeys(counts, 60) | {"preprocess": 20, "inference": 20}
    assert {s.name: s.timing.busy.count for s in pipeline.stages} == counts
    network = [lap for lap in laps if lap.stage == "inference"]
    assert [lap.worked_on for lap in network] == [1, 0, 0] * 20


def test_every_frame_without_a_tracker_is_seen() -> None:
    backend = Road()
    Pipeline([Feed(FakeSource(20), [FakeSink()], every=4)], backend, QueueOptions()).run()
    assert len(backend.seen) == 20


def test_frames_between_do_not_keep_a_second_frame_out_of_the_network() -> None:
    together = threading.Barrier(2, timeout=10)  # opens only when two are in the network
    backend = Road({"infer": together.wait})
    backend.parallel = 2
    sink = FakeSink()
    make(backend, sink, 36, 3, slots=4, depth=2).run()
    assert [r.frame.frame_id for r in sink.results] == list(range(36))


def test_what_waits_for_its_turn_without_a_thread_is_bounded() -> None:
    """While the first frame is worked on, so many go past it and no more."""
    gate = threading.Event()
    backend = Road({"infer": lambda: gate.wait(10)})
    backend.parallel = 2
    pipeline = make(backend, FakeSink(), 200, 100, slots=3, depth=2)
    inference = pipeline.stages[2]
    most = 0

    def tick(_: Pipeline) -> None:
        nonlocal most
        most = max(most, len(inference._made))
        # Two wait without a thread, one with it; two queues of two and a frame in each of the
        # stages before.
        if pipeline.read >= 1 + 3 + 4 + 2:
            gate.set()

    pipeline.run(tick)
    assert most == 3
    assert pipeline.processed == 200


@pytest.mark.parametrize("most", [1, 4])
def test_frames_of_one_source_are_taken_together_if_they_wait(most: int) -> None:
    gate = threading.Event()
    backend = Road({"infer": lambda: gate.wait(10)})
    backend.max_batch = most
    sink = FakeSink()
    pipeline = make(backend, sink, 41, 1, batch=4)
    sizes: list[int] = []
    pipeline.stages[2].observe = lambda lap: sizes.append(lap.worked_on)
    queue = pipeline.queues["preprocess"]
    assert queue.depth == 4  # or so many could not wait
    pipeline.run(lambda running: gate.set() if running.read >= 7 else None)
    assert backend.batch == most
    assert [r.frame.frame_id for r in sink.results] == list(range(41))
    assert backend.seen == list(range(41))
    assert sum(sizes) == 41
    assert max(sizes) == most


def test_some_frames_of_a_batch_go_past_the_network() -> None:
    backend = Road()
    sinks = FakeSink(), FakeSink()
    feeds = []
    for number, every in enumerate((2, 3)):
        tracker = Tracker(Controls(("car",), 0.4))
        feeds.append(Feed(Camera(number, 30), [sinks[number]], tracker=tracker, every=every))
    Pipeline(feeds, backend, QueueOptions(batch=3, depth=6)).run()
    assert sorted(backend.seen) == [*range(0, 30, 2), *(100 + i for i in range(0, 30, 3))]
    for sink, every in zip(sinks, (2, 3), strict=True):
        assert [r.frame.frame_id for r in sink.results] == list(range(30))
        assert [r.detected for r in sink.results] == [i % every == 0 for i in range(30)]


def test_a_stage_that_fails_lets_go_of_what_waits() -> None:
    backend = Road()
    backend.parallel = 2

    def third_time() -> None:
        if backend.calls["infer"] == 3:
            raise ZeroDivisionError

    backend._script["infer"] = third_time
    pipeline = make(backend, FakeSink(), 10**9, 3, slots=4)
    with pytest.raises(Exception, match="stage inference failed: ZeroDivisionError"):
        pipeline.run()


def test_results_without_work_are_given_by_who_gives_the_one_before() -> None:
    """Two workers: the second takes 1, which is no work, leaves it, and goes on with 2."""
    given: list[int] = []
    items = iter(range(4))
    second_works = threading.Event()

    class Item:
        frames = ()

        def __init__(self, number: int) -> None:
            self.number = number
            self.worked_on = 0 if number == 1 else 1

    def work(number: int) -> Item:
        if number == 0:
            assert second_works.wait(10)
            assert given == []
        elif number == 2:
            second_works.set()
        return Item(number)

    def give(item: Item) -> None:
        given.append(item.number)

    errors: list[BaseException] = []
    stage: Stage[int, Item] = Stage(
        "test",
        Steps(
            lambda: next(items, None), work, lambda item: given.append(item.number), lambda: None
        ),
        lambda name, error: errors.append(error),
        workers=2,
        room=1,
    )
    laps: list[Lap] = []
    stage.observe = laps.append
    stage.start()
    stage.join(10)
    assert errors == []
    assert given == [0, 1, 2, 3]
    assert stage.timing.frames == 3
    left = next(lap for lap in laps if lap.worked_on == 0)
    assert left.given == left.done  # its thread did not wait
