"""The pipeline from end to end with one source."""

import random
import threading
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from squeezedrive.engines.errors import UserError
from squeezedrive.pipeline.core.errors import SinkError, SourceError, StageError, Stuck
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.worker import StageEvent
from squeezedrive.pipeline.stages.feed import Draw, QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.fakes import FakeBackend, FakeSink, FakeSlot, FakeSource, fail, feed_of

pytestmark = pytest.mark.usefixtures("no_thread_outlives")


def make(
    source: FakeSource,
    backend: FakeBackend,
    *sinks: FakeSink,
    options: QueueOptions = QueueOptions(),  # noqa: B008 (frozen)
    limit: int | None = None,
    draw: Draw | None = None,
) -> Pipeline:
    return Pipeline([feed_of(source, sinks, options, draw=draw, limit=limit)], backend, options)


def test_every_frame_arrives_once_in_order_with_its_own_boxes() -> None:
    backend, sink = FakeBackend(), FakeSink()
    pipeline = make(FakeSource(200), backend, sink)
    pipeline.run()
    assert [r.frame.frame_id for r in sink.results] == list(range(200))
    assert [int(r.detections.boxes[0, 0]) for r in sink.results] == list(range(200))
    assert [r.frame.pts for r in sink.results] == list(range(200))
    assert (pipeline.read, pipeline.processed) == (200, 200)
    assert pipeline.found == {0: 200}
    assert sink.closed == 1
    assert [slot.closed for slot in backend.slots] == [True] * 3


def test_frames_keep_their_order_when_several_are_in_the_network() -> None:
    generator = random.Random(0)
    backend = FakeBackend({"infer": lambda: time.sleep(generator.random() * 0.003)})
    backend.parallel = 3
    sink = FakeSink()
    pipeline = make(FakeSource(200), backend, sink, options=QueueOptions(slots=4))
    pipeline.run()
    assert [r.frame.frame_id for r in sink.results] == list(range(200))
    assert [int(r.detections.boxes[0, 0]) for r in sink.results] == list(range(200))
    assert pipeline.stages[2].workers == 3


def test_several_frames_are_in_the_network_at_once() -> None:
    together = threading.Barrier(3, timeout=10)  # opens only when three threads wait
    backend = FakeBackend({"infer": together.wait})
    backend.parallel = 3
    make(FakeSource(30), backend, FakeSink(), options=QueueOptions(slots=3)).run()


def test_a_fault_with_several_frames_in_the_network_stops_all() -> None:
    backend, sink = FakeBackend(), FakeSink()
    backend.parallel = 3

    def tenth_time() -> None:
        time.sleep(0.001)
        if backend.calls["infer"] >= 10:
            raise ZeroDivisionError("oops")

    backend._script["infer"] = tenth_time
    with pytest.raises(StageError, match="stage inference failed"):
        make(FakeSource(10**9), backend, sink, options=QueueOptions(slots=4)).run()
    assert sink.closed == 1


@pytest.mark.parametrize("attempt", range(20))
def test_a_failing_sink_ends_workers_that_wait_for_their_turn(attempt: int) -> None:
    backend = FakeBackend()
    backend.parallel = 3
    bad = FakeSink(on_write=lambda: time.sleep(0.002) or fail(SinkError("full"))())
    options = QueueOptions(depth=1, slots=4)
    with pytest.raises(SinkError, match="full"):
        make(FakeSource(10**9), backend, bad, options=options).run()


def test_every_stage_counts_its_work() -> None:
    pipeline = make(FakeSource(50), FakeBackend(), FakeSink())
    pipeline.run()
    names = ["capture", "preprocess", "inference", "postprocess", "render", "sinks"]
    assert [stage.name for stage in pipeline.stages] == names
    assert [stage.timing.busy.count for stage in pipeline.stages] == [50] * 6
    assert pipeline.latency.count == 50


def test_no_more_slots_are_in_use_than_there_are() -> None:
    backend = FakeBackend({"detect": lambda: time.sleep(0.001)})
    pipeline = make(FakeSource(60), backend, FakeSink(), options=QueueOptions(depth=9, slots=2))
    pipeline.run()
    assert len(backend.slots) == 2
    assert pipeline.processed == 60


def test_one_slot_and_depth_one_are_enough() -> None:
    sink = FakeSink()
    make(FakeSource(30), FakeBackend(), sink, options=QueueOptions(depth=1, slots=1)).run()
    assert len(sink.results) == 30


def test_a_limit_ends_the_run() -> None:
    sink = FakeSink()
    make(FakeSource(100), FakeBackend(), sink, limit=7).run()
    assert len(sink.results) == 7


def test_an_empty_source_is_a_run_without_frames() -> None:
    sink = FakeSink()
    pipeline = make(FakeSource(0), FakeBackend(), sink)
    pipeline.run()
    assert pipeline.processed == 0
    assert sink.closed == 1


def test_latest_counts_what_it_drops_and_ends_with_the_newest() -> None:
    gate = threading.Event()
    source = FakeSource(50, {49: gate.set})
    backend = FakeBackend({"infer": lambda: gate.wait(10)})
    sink = FakeSink()
    pipeline = make(source, backend, sink, options=QueueOptions(policy="latest", depth=1))
    pipeline.run()
    dropped = sum(pipeline.queues["preprocess"].dropped.values())
    assert dropped > 0
    assert pipeline.read == 50
    assert pipeline.processed + dropped == 50
    ids = [r.frame.frame_id for r in sink.results]
    assert ids == sorted(ids)
    assert ids[-1] == 49


@pytest.mark.parametrize("step", ["preprocess", "infer", "detect"])
def test_a_fault_in_a_stage_stops_all_and_names_the_stage(step: str) -> None:
    calls = Counter[str]()

    def third_time() -> None:
        calls[step] += 1
        if calls[step] == 3:
            raise ZeroDivisionError("oops")

    backend, sink = FakeBackend({step: third_time}), FakeSink()
    stage = {"infer": "inference", "detect": "postprocess"}.get(step, step)
    with pytest.raises(StageError, match=f"stage {stage} failed: ZeroDivisionError: oops") as info:
        make(FakeSource(10**9), backend, sink).run()
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert sink.closed == 1
    assert all(slot.closed for slot in backend.slots)


def test_a_fault_while_drawing_stops_all() -> None:
    def draw(*_: object) -> None:
        raise ValueError("no paint")

    sink = FakeSink()
    with pytest.raises(StageError, match="stage render failed: ValueError: no paint"):
        make(FakeSource(10**9), FakeBackend(), sink, draw=draw).run()
    assert sink.closed == 1


def test_a_source_that_fails_ends_the_run_with_its_frames_finished() -> None:
    source, sink = FakeSource(100, {20: fail(SourceError("fake: cable cut"))}), FakeSink()
    pipeline = make(source, FakeBackend(), sink)
    with pytest.raises(SourceError, match="cable cut"):
        pipeline.run()
    assert [r.frame.frame_id for r in sink.results] == list(range(20))
    assert pipeline.processed == 20
    assert sink.closed == 1


def test_a_sink_that_fails_ends_the_run_and_the_others_are_finished() -> None:
    full = fail(SinkError("out.mp4: No space left on device"))
    good, bad = FakeSink(), FakeSink(on_write=full)
    with pytest.raises(SinkError, match="No space left"):
        make(FakeSource(10**9), FakeBackend(), good, bad).run()
    assert (good.closed, bad.closed) == (1, 1)
    assert len(good.results) == 1


def test_a_sink_that_fails_to_close_does_not_keep_others_open() -> None:
    bad, good = FakeSink(on_close=fail(SinkError("out.mp4: Input/output error"))), FakeSink()
    with pytest.raises(SinkError, match="Input/output error"):
        make(FakeSource(5), FakeBackend(), bad, good).run()
    assert good.closed == 1
    assert len(good.results) == 5


def test_slots_that_do_not_fit_into_memory_end_the_run_cleanly() -> None:
    class SmallBackend(FakeBackend):
        def new_slot(self, batch: int = 1) -> FakeSlot:
            if len(self.slots) == 2:
                raise UserError("no room")
            return super().new_slot()

    backend, sink = SmallBackend(), FakeSink()
    with pytest.raises(UserError, match="no room"):
        make(FakeSource(9), backend, sink).run()
    assert [slot.closed for slot in backend.slots] == [True, True]
    assert sink.closed == 1


def test_the_first_error_is_the_one_reported() -> None:
    bad = FakeSink(on_write=fail(SinkError("first")), on_close=fail(SinkError("second")))
    with pytest.raises(SinkError, match="first"):
        make(FakeSource(10**9), FakeBackend(), bad).run()


def test_stop_finishes_the_frames_on_their_way() -> None:
    sink = FakeSink()
    pipeline = make(FakeSource(10**9), FakeBackend(), sink)
    pipeline.run(lambda running: running.stop() if running.processed > 30 else None)
    assert pipeline.processed == pipeline.read == len(sink.results) > 30
    assert sink.closed == 1


def test_a_run_can_be_aborted_before_it_begins() -> None:
    backend, sink = FakeBackend(), FakeSink()
    pipeline = make(FakeSource(50), backend, sink)
    pipeline.give_up()
    pipeline.run()
    assert pipeline.processed == 0
    assert sink.closed == 1
    assert all(slot.closed for slot in backend.slots)


def test_aborting_closes_the_sinks_at_once() -> None:
    gate = threading.Event()
    backend, sink = FakeBackend({"infer": lambda: gate.wait(10)}), FakeSink()
    pipeline = make(FakeSource(10**9), backend, sink)

    def give_up(running: Pipeline) -> None:
        running.give_up()
        gate.set()

    pipeline.run(give_up)
    assert sink.closed == 1
    assert len(sink.results) <= 1


def test_a_hanging_source_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezedrive.pipeline.stages.pipeline._CAPTURE_GRACE", 0.2)
    released = threading.Event()
    source = FakeSource(100, {10: lambda: released.wait(30)})
    sink = FakeSink()
    pipeline = make(source, FakeBackend(), sink)
    pipeline.run(lambda running: running.stop() if running.processed == 10 else None)
    assert len(sink.results) == 10
    assert sink.closed == 1
    released.set()
    pipeline.stages[0].join(10)


def test_frames_are_released() -> None:
    """Check that no stage keeps a picture that has passed: memory does not grow with the length."""
    import gc
    import weakref

    alive: list[weakref.ref[Any]] = []
    most = 0

    class Watching(FakeSink):
        def write(self, result: FrameResult) -> None:
            nonlocal most
            alive.append(weakref.ref(result.frame.image))
            most = max(most, sum(ref() is not None for ref in alive[-100:]))

    options = QueueOptions(depth=1, slots=1)
    make(FakeSource(100), FakeBackend(), Watching(), options=options).run()
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    assert most <= 4


def test_an_error_in_the_callers_tick_ends_all_stages_first() -> None:
    sink = FakeSink()

    def tick(running: Pipeline) -> None:
        if running.processed > 5:
            raise BrokenPipeError("terminal gone")

    with pytest.raises(BrokenPipeError):
        make(FakeSource(10**9), FakeBackend(), sink).run(tick)
    assert sink.closed == 1


def test_a_hanging_output_does_not_stop_an_abort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("squeezedrive.pipeline.stages.pipeline._GIVE_UP_GRACE", 0.2)
    released = threading.Event()
    pipeline = make(FakeSource(10**9), FakeBackend(), FakeSink(on_write=lambda: released.wait(30)))
    with pytest.raises(Stuck, match="sinks: a file or device does not answer"):
        pipeline.run(lambda running: running.give_up())
    released.set()
    for stage in pipeline.stages:
        stage.join(10)


def test_an_observer_gets_every_stage_event_and_device_time() -> None:
    events: list[StageEvent] = []
    told: list[dict[str, float]] = []
    backend = FakeBackend()
    pipeline = make(FakeSource(30), backend, FakeSink())
    pipeline.postprocess.observe_device = lambda seconds: told.append(dict(seconds))
    for stage in pipeline.stages:
        stage.observe = events.append
    FakeSlot.device_seconds = {"infer": 0.5}  # type: ignore[assignment, method-assign]
    try:
        pipeline.run()
    finally:
        del FakeSlot.device_seconds
    assert told == [{"infer": 0.5}] * 30
    for stage in pipeline.stages:
        mine = [event for event in events if event.stage == stage.name]
        assert [event.frames[0].frame_id for event in mine] == list(range(30))
        assert all(event.start <= event.taken <= event.done <= event.given for event in mine)
        assert len({event.thread for event in mine}) == 1
        busy = sum(event.done - event.taken for event in mine)
        assert busy == pytest.approx(stage.timing.busy.total)


def test_a_queue_reports_its_depth() -> None:
    levels: list[int] = []
    pipeline = make(FakeSource(20), FakeBackend(), FakeSink())
    pipeline.queues["sinks"].observe = levels.append
    pipeline.run()
    assert len(levels) == 40
    assert levels[-1] == 0
    assert all(abs(a - b) <= 1 for a, b in pairwise(levels))


def test_threads_of_a_stage_carry_its_name() -> None:
    from squeezedrive.pipeline.profiling.threads import read_threads

    class Compiling(FakeBackend):
        def new_slot(self, batch: int = 1) -> FakeSlot:
            look()
            return super().new_slot(batch)

    names: list[set[str]] = []

    def look() -> None:
        library = threading.Thread(target=lambda: names.append(name_of(library)))
        library.start()
        library.join()

    def name_of(thread: threading.Thread) -> set[str]:
        return {read_threads()[thread.native_id or 0].name}

    before = read_threads()[threading.get_native_id()].name
    options = QueueOptions(slots=2)
    make(FakeSource(1), Compiling({"infer": look}), FakeSink(), options=options).run()
    assert names == [{"inference"}] * 3
    assert read_threads()[threading.get_native_id()].name == before
