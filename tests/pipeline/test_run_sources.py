"""Several sources through one network."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.errors import UserError
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.app.status import status_of
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.errors import SinkError, SourceError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import Merge, StageQueue
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.fakes import Camera, FakeBackend, FakeSink, fail, feed_of

pytestmark = pytest.mark.usefixtures("no_thread_outlives")


def make(
    cameras: Sequence[Camera], backend: FakeBackend, *sinks: FakeSink, **options: Any
) -> Pipeline:
    queues, changed = QueueOptions(**options), threading.Condition()
    feeds = [
        feed_of(camera, [sink], queues, changed)
        for camera, sink in zip(cameras, sinks, strict=True)
    ]
    return Pipeline(feeds, backend, queues)


@pytest.mark.parametrize("most", [1, 2, 8])
def test_every_source_has_its_own_results_in_order(most: int) -> None:
    backend = FakeBackend()
    backend.max_batch = most
    sinks = FakeSink(), FakeSink()
    pipeline = make([Camera(0, 90), Camera(1, 50)], backend, *sinks)
    pipeline.run()
    assert backend.batch == min(most, 2)
    for number, (sink, count) in enumerate(zip(sinks, (90, 50), strict=True)):
        assert [r.frame.frame_id for r in sink.results] == list(range(count))
        assert {r.frame.source_id for r in sink.results} == {number}
        lefts = [int(r.detections.boxes[0, 0]) for r in sink.results]
        assert lefts == [100 * number + i for i in range(count)]
        assert sink.closed == 1
    assert [feed.processed for feed in pipeline.feeds] == [90, 50]
    assert (pipeline.read, pipeline.processed, pipeline.latency.count) == (140, 140, 140)
    assert pipeline.found == {0: 140}


def test_waiting_frames_form_a_batch() -> None:
    """Check that frames of both cameras, ready while the network is held, form one batch."""
    gate = threading.Event()
    backend = FakeBackend({"infer": lambda: gate.wait(10)})
    sizes: list[int] = []
    pipeline = make([Camera(0, 40), Camera(1, 40)], backend, FakeSink(), FakeSink(), depth=40)
    pipeline.stages[2].observe = lambda event: sizes.append(event.worked_on)
    pipeline.run(lambda running: gate.set() if running.read == 80 else None)
    assert pipeline.processed == 80
    assert set(sizes) <= {1, 2}
    assert sizes.count(2) > 30


def test_no_batches_if_they_are_not_faster() -> None:
    backend = FakeBackend()
    backend.batch_pays = False
    make([Camera(0, 9), Camera(1, 9)], backend, FakeSink(), FakeSink()).run()
    assert backend.batch == 1


def test_a_failing_source_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sinks = FakeSink(), FakeSink()
    cameras = Camera(0, 60, {5: fail(SourceError("left: cable cut"))}), Camera(1, 60)
    pipeline = make(cameras, FakeBackend(), *sinks)
    with pytest.raises(SourceError, match="left: cable cut"):
        pipeline.run()
    assert [len(sink.results) for sink in sinks] == [5, 60]
    assert [sink.closed for sink in sinks] == [1, 1]
    assert "left: cable cut; the other sources go on" in caplog.text


def test_an_output_that_fails_ends_its_source_only() -> None:
    bad, good = FakeSink(on_write=fail(SinkError("left.mp4: full"))), FakeSink()
    pipeline = make([Camera(0, 10**9), Camera(1, 300)], FakeBackend(), bad, good)
    with pytest.raises(SinkError, match=r"left\.mp4: full"):
        pipeline.run()
    assert (len(bad.results), len(good.results)) == (0, 300)
    assert (bad.closed, good.closed) == (1, 1)
    rates = [feed.rate.at(time.monotonic()) for feed in pipeline.feeds]
    assert rates[0] == 0 < rates[1]  # the rate of frames that reach the outputs


class Silent(Camera):
    """A camera that gives one picture and then none, until it is interrupted."""

    def __init__(self, number: int) -> None:
        super().__init__(number, 10**9)
        self.interrupted = threading.Event()

    def read(self) -> Frame | None:
        if self._next == 0:
            return super().read()
        assert self.interrupted.wait(30)
        return None

    def interrupt(self) -> None:
        self.interrupted.set()


def test_a_silent_source_is_not_waited_for_when_its_output_has_failed() -> None:
    bad, good = FakeSink(on_write=fail(SinkError("left.mp4: full"))), FakeSink()
    silent = Silent(0)
    pipeline = make([silent, Camera(1, 30)], FakeBackend(), bad, good)
    with pytest.raises(SinkError, match=r"left\.mp4: full"):
        pipeline.run()
    assert len(good.results) == 30
    states = status_of(pipeline, ("car",), "model", "cpu")["sources"]
    assert [source["state"] for source in states] == ["given up", "ended"]


def test_no_source_goes_on_when_a_stage_fails(caplog: pytest.LogCaptureFixture) -> None:
    backend = FakeBackend({"preprocess": fail(UserError("no such picture"))})
    with pytest.raises(UserError, match="no such picture"):
        make([Camera(0, 9), Camera(1, 9)], backend, FakeSink(), FakeSink()).run()
    assert "go on" not in caplog.text


def test_a_hanging_source_delays_neither_the_others_nor_the_end() -> None:
    released = threading.Event()
    sinks = FakeSink(), FakeSink()
    cameras = Camera(0, 9, {3: lambda: released.wait(30)}), Camera(1, 10**9)
    pipeline = make(cameras, FakeBackend(), *sinks)
    pipeline.run(lambda running: running.stop() if running.feeds[1].processed > 50 else None)
    assert len(sinks[0].results) == 3
    assert pipeline.capturing(pipeline.feeds[0])
    assert not pipeline.capturing(pipeline.feeds[1])
    released.set()
    pipeline.stages[0].join(10)


def test_no_result_is_shown_that_is_older_than_allowed() -> None:
    backend = FakeBackend({"infer": lambda: time.sleep(1.1)})
    sink = FakeSink()
    pipeline = make([Camera(0, 5)], backend, sink, policy="bounded_age", max_age=1.0, depth=9)
    pipeline.run()
    assert sink.results == []
    (feed,) = pipeline.feeds
    assert feed.dropped["too old when done"] >= 1
    assert feed.dropped.total() == feed.read == 5
    assert pipeline.dropped == feed.dropped


def test_controls_filter_the_results() -> None:
    controls = Controls(("car", "pedestrian", "cyclist"), 0.5)
    sink = FakeSink()
    camera = Camera(0, 30, {10: lambda: controls.change(threshold=0.95)})
    options = QueueOptions(depth=1)
    pipeline = Pipeline([feed_of(camera, [sink], options)], FakeBackend(), options, controls)
    pipeline.run()
    counts = [len(r.detections) for r in sink.results]
    assert counts[0] == 1
    assert counts[-1] == 0
    assert counts == sorted(counts, reverse=True)


def test_class_thresholds_hold_until_one_is_set_for_all() -> None:
    controls = Controls(("car", "pedestrian"), 0.7, (), {"pedestrian": 0.3})
    found = Detections(
        np.zeros((3, 4), np.float32), np.float32([0.7, 0.6, 0.3]), np.int32([0, 0, 1])
    )
    assert controls.filter(found).scores.tolist() == found.scores[[0, 2]].tolist()
    controls.change(threshold=0.5)
    assert controls.filter(found).scores.tolist() == found.scores[:2].tolist()
    assert controls.thresholds.tolist() == [0.5, 0.5]


def test_invalid_controls_are_refused() -> None:
    controls = Controls(("car", "pedestrian"), 0.5, ["car"])
    with pytest.raises(ValueError, match="threshold: expected 0 to 1, got 2"):
        controls.change(threshold=2)
    with pytest.raises(ValueError, match="classes: unknown tram; there are car, pedestrian"):
        controls.change(threshold=0.1, classes=["tram"])
    assert (controls.threshold, controls.classes) == (0.5, ["car"])
    controls.change(classes=[])
    assert controls.classes == []


def test_a_merge_takes_turns_and_ends_with_the_last() -> None:
    changed = threading.Condition()
    queues: list[StageQueue[str]] = [StageQueue(9, changed=changed) for _ in range(3)]
    merge = Merge(queues)
    for item in ("a0", "a1", "a2"):
        queues[0].put(item)
    queues[1].put("b0")
    assert [merge.get() for _ in range(3)] == [["a0"], ["b0"], ["a1"]]
    queues[2].put("c0")
    queues[1].put("b1")
    assert merge.get(3) == ["b1", "c0", "a2"]
    for queue in queues[:2]:
        queue.close()
    threading.Timer(0.05, queues[2].put, ("c1",)).start()
    assert merge.get(2) == ["c1"]
    queues[2].close()
    assert merge.get() is None


def test_a_merge_refuses_incompatible_queues() -> None:
    queues: list[StageQueue[str]] = [StageQueue(9), StageQueue(9)]
    with pytest.raises(ValueError, match="same `changed`"):
        Merge(queues)
