"""Frames that go past the network, and several of one source that go into it together."""

import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.worker import StageEvent
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from squeezedrive.pipeline.tracking.tracker import Tracker
from tests.support.fakes import Camera, FakeBackend, FakeSink, FakeSource, feed_of

pytestmark = pytest.mark.usefixtures("no_thread_outlives")

SPEED = 3  # pixels per frame
SIZE = (320, 90)


class Road(FakeBackend):
    """A back end that finds one car, `SPEED` pixels further for each frame number it reads."""

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
    source = FakeSource(frames, size=SIZE)
    queues = QueueOptions(**options)
    feed = feed_of(source, [sink], queues, tracker=tracker, every=every)
    return Pipeline([feed], backend, queues)


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_the_network_sees_one_frame_in_so_many(every: int, parallel: int) -> None:
    backend, sink = Road(), FakeSink()
    backend.parallel = parallel
    pipeline = make(backend, sink, 70, every, slots=4)
    pipeline.run()
    due = list(range(0, 70, every))
    assert backend.seen == due
    assert [r.frame.frame_id for r in sink.results] == list(range(70))
    assert [r.frame.frame_id for r in sink.results if r.detected] == due
    (feed,) = pipeline.feeds
    assert (feed.processed, feed.detected) == (70, len(due))
    assert pipeline.found == {0: 70}
    assert {int(i) for r in sink.results for i in r.ids} == {1}  # type: ignore[union-attr]
    # Once the speed is known, the car's place is right in every frame, detected or not.
    for result in sink.results[3 * every :]:
        left = float(result.detections.boxes[0, 0])
        assert left == pytest.approx(SPEED * result.frame.frame_id, abs=SPEED)


def test_stages_count_the_frames_they_worked_on() -> None:
    pipeline = make(Road(), FakeSink(), 60, 3)
    events: list[StageEvent] = []
    for stage in pipeline.stages:
        stage.observe = events.append
    pipeline.run()
    counts = {stage.name: stage.timing.busy.count for stage in pipeline.stages}
    assert counts == dict.fromkeys(counts, 60) | {"preprocess": 20, "inference": 20}
    network = [event for event in events if event.stage == "inference"]
    sizes = [(event.worked_on, len(event.frames)) for event in network]
    assert sizes == [(1, 1)] + [(1, 3)] * 19 + [(0, 2)]


def test_a_cameras_frames_do_not_wait_for_the_next_that_is_due() -> None:
    sink, gate = FakeSink(), threading.Event()
    source = FakeSource(8, {5: lambda: gate.wait(10)}, SIZE, "camera")
    tracker = Tracker(Controls(("car",), 0.4))
    options = QueueOptions(policy="lossless", slots=1)
    feed = feed_of(source, [sink], options, tracker=tracker, every=3)
    pipeline = Pipeline([feed], Road(), options)
    seen: list[int] = []

    def tick(_: Pipeline) -> None:
        seen.append(len(sink.results))
        if len(sink.results) == 5:  # 4 did not wait for 6, which is the next due
            gate.set()

    pipeline.run(tick)
    assert 5 in seen
    assert [r.frame.frame_id for r in sink.results] == list(range(8))
    assert [r.detected for r in sink.results] == [i % 3 == 0 for i in range(8)]


def test_a_cameras_frames_between_are_taken_while_the_network_works() -> None:
    gate = threading.Event()
    backend = Road({"infer": lambda: gate.wait(10)})
    source = FakeSource(30, None, SIZE, "camera")
    tracker = Tracker(Controls(("car",), 0.4))
    options = QueueOptions(policy="lossless", depth=2, slots=1)
    feed = feed_of(source, [FakeSink()], options, tracker=tracker, every=3)
    pipeline = Pipeline([feed], backend, options)
    # Frame 0 is in the network; 1 and 2 wait behind it. Frame 3 is due and waits for the slot.
    # The queue before preprocess has room for two frames; one more frame waits for room.
    pipeline.run(lambda running: gate.set() if running.read >= 6 else None)
    assert pipeline.processed == 30


def test_the_last_frames_of_a_file_do_not_wait_for_other_sources() -> None:
    sinks, gate = (FakeSink(), FakeSink()), threading.Event()
    cameras = Camera(0, 9), Camera(1, 40, {30: lambda: gate.wait(10)})
    changed = threading.Condition()
    feeds = [
        feed_of(camera, [sink], changed=changed, tracker=Tracker(Controls(("car",), 0.4)), every=5)
        for camera, sink in zip(cameras, sinks, strict=True)
    ]
    pipeline = Pipeline(feeds, Road(), QueueOptions())
    counts: list[int] = []

    def tick(_: Pipeline) -> None:
        if not gate.is_set():
            counts.append(len(sinks[0].results))
            if counts[-1] == 9 or len(counts) > 50:
                gate.set()

    pipeline.run(tick)
    assert counts[-1] == 9
    assert [r.frame.frame_id for r in sinks[0].results] == list(range(9))


def test_a_frame_is_due_after_tracks_are_forgotten() -> None:
    tracker = Tracker(Controls(("car",), 0.4))
    feed = feed_of(FakeSource(0), [], tracker=tracker, every=3)
    image = np.zeros((6, 8, 3), np.uint8)
    times = (0.0, 0.1, 0.2, 0.3, 0.4, 9.0, 9.1, 2.0, 2.1, 2.2, 2.3)
    due = [feed.due(Frame(0, 0, round(10 * t), Fraction(1, 10), 0.0, image)) for t in times]
    assert due == [True, False, False, True, False, True, False, True, False, False, True]


def test_waiting_threads_hold_no_picture() -> None:
    source = FakeSource(10**9)
    pictures: list[weakref.ref[Any]] = []
    read, gate = source.read, threading.Event()

    def tell() -> Frame | None:
        if len(pictures) == 21:  # the last frame is due: none waits for another
            assert gate.wait(10)
            return None
        frame = read()
        assert frame is not None
        pictures.append(weakref.ref(frame.picture))
        return frame

    source.read = tell  # type: ignore[method-assign]
    backend = Road()
    backend.parallel = 2
    tracker = Tracker(Controls(("car",), 0.4))
    sink = FakeSink()
    sink.write = lambda result: None  # type: ignore[method-assign]
    pipeline = Pipeline(
        [feed_of(source, [sink], tracker=tracker, every=2)], backend, QueueOptions()
    )
    alive: list[int] = []

    def tick(running: Pipeline) -> None:
        if running.processed == 21 and not gate.is_set():
            alive.append(sum(picture() is not None for picture in pictures))
            if alive[-1] == 0 or len(alive) > 50:
                gate.set()

    pipeline.run(tick)
    assert alive[-1] == 0


def test_boxes_end_at_the_edge_of_the_picture() -> None:
    sink = FakeSink()
    make(Road(), sink, 120, 3).run()
    for result in sink.results:
        height, width = result.frame.picture.shape[:2]
        boxes = result.detections.boxes
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert len(result.ids) == len(boxes)  # type: ignore[arg-type]
    assert len(sink.results[0].detections) == 1
    assert len(sink.results[-1].detections) == 0


def test_every_frame_without_a_tracker_is_seen() -> None:
    backend = Road()
    Pipeline([feed_of(FakeSource(20), [FakeSink()], every=4)], backend, QueueOptions()).run()
    assert len(backend.seen) == 20


@pytest.mark.parametrize("most", [1, 4])
def test_frames_of_one_source_are_taken_together_if_they_wait(most: int) -> None:
    gate = threading.Event()
    backend = Road({"infer": lambda: gate.wait(10)})
    backend.max_batch = most
    sink = FakeSink()
    pipeline = make(backend, sink, 41, 1, batch=4)
    sizes: list[int] = []
    pipeline.stages[2].observe = lambda event: sizes.append(event.worked_on)
    queue = pipeline.queues["preprocess"]
    assert queue.depth == 4  # enough room for four waiting frames
    pipeline.run(lambda running: gate.set() if running.read >= 7 else None)
    assert backend.batch == most
    assert [r.frame.frame_id for r in sink.results] == list(range(41))
    assert backend.seen == list(range(41))
    assert sum(sizes) == 41 == pipeline.stages[2].timing.busy.count
    assert max(sizes) == most


def test_some_frames_of_a_batch_may_skip_the_network() -> None:
    backend = Road()
    sinks = FakeSink(), FakeSink()
    options, changed = QueueOptions(batch=3, depth=6), threading.Condition()
    feeds = []
    for number, every in enumerate((2, 3)):
        rest = {"tracker": Tracker(Controls(("car",), 0.4)), "every": every}
        feeds.append(feed_of(Camera(number, 30), [sinks[number]], options, changed, **rest))
    Pipeline(feeds, backend, options).run()
    assert sorted(backend.seen) == [*range(0, 30, 2), *(100 + i for i in range(0, 30, 3))]
    for sink, every in zip(sinks, (2, 3), strict=True):
        assert [r.frame.frame_id for r in sink.results] == list(range(30))
        assert [r.detected for r in sink.results] == [i % every == 0 for i in range(30)]


def test_a_failing_stage_releases_waiting_frames() -> None:
    backend = Road()
    backend.parallel = 2

    def third_time() -> None:
        if backend.calls["infer"] == 3:
            raise ZeroDivisionError

    backend._script["infer"] = third_time
    pipeline = make(backend, FakeSink(), 10**9, 3, slots=4)
    with pytest.raises(Exception, match="stage inference failed: ZeroDivisionError"):
        pipeline.run()
