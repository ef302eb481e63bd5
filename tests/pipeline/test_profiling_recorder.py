"""The recorder with events and clocks made by hand."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.worker import StageEvent
from squeezedrive.pipeline.profiling import recorder as module
from squeezedrive.pipeline.profiling import threads
from squeezedrive.pipeline.profiling.recorder import Clocks, Recorder
from squeezedrive.pipeline.profiling.threads import (
    ThreadTable,
    ThreadTime,
    read_cores,
    read_threads,
    stage_of,
)
from squeezedrive.pipeline.profiling.trace import build_trace

STAGES = ("capture", "inference", "sinks")
STEP = 0.1  # seconds between two frames
WORK = 0.02  # seconds each stage works on a frame


class Drive:
    """A made run: sends frames through three stages, with its own clock."""

    def __init__(self, warmup: float = 0.5, expected: int | None = None, capacity: int = 3) -> None:
        self.now = 0.0
        self.cpu = 0.0
        self.table: dict[int, ThreadTime] = {}
        self.stages = [SimpleNamespace(name=name, stage=name, observe=None) for name in STAGES]
        self.queue = SimpleNamespace(observe=None, closed=False)
        self.pipeline: Any = SimpleNamespace(
            stages=self.stages,
            queues={"inference": self.queue},
            postprocess=SimpleNamespace(observe_device=None),
        )
        clocks = Clocks(
            wall=lambda: self.now,
            age=lambda: self.now,
            cpu=lambda: self.cpu,
            threads=lambda: dict(self.table),
            cores=lambda: (self.now, self.now * 2),
        )
        self.recorder = Recorder(self.pipeline, warmup, expected, capacity, clocks)
        self.thread_cpu = dict.fromkeys(STAGES, 0.0)

    def frame(self, number: int, drop_after: str = "") -> None:
        image = np.zeros((2, 2, 3), np.uint8)
        begin = number * STEP
        frame = Frame(0, number, number, Fraction(1, 10), begin, image)
        for i, stage in enumerate(self.stages):
            start = begin + i * WORK
            self.thread_cpu[stage.name] += 0.01
            self.cpu += 0.015  # 0.01 by the stage's thread, the rest by threads of libraries
            self.now = start + WORK
            moments = start - 0.03, start, self.now, self.now
            cpu = self.thread_cpu[stage.name]
            stage.observe(StageEvent(stage.name, (frame,), 1, 100 + i, *moments, cpu))
            if stage.name == "capture":
                self.queue.observe(1)
                self.queue.observe(0)
            if stage.name == drop_after:
                return

    def run(self, frames: int) -> Recorder:
        for number in range(frames):
            self.frame(number)
            self.recorder.tick()
        self.recorder.close()
        return self.recorder


def test_the_warm_up_lasts_its_seconds_and_until_the_pipeline_was_filled_once() -> None:
    assert Drive(warmup=0.5).run(30).warmup_frames == 6  # frames 0 to 5 end 0.5 s apart
    assert Drive(warmup=0.0, capacity=9).run(30).warmup_frames == 9
    assert Drive(warmup=10.0, expected=30).run(30).warmup_frames == 7  # at most a quarter
    assert Drive(warmup=0.0, capacity=9, expected=2).run(30).warmup_frames == 1


def test_figures_leave_out_the_warm_up() -> None:
    recorder = Drive().run(106)
    assert recorder.warmup_seconds == pytest.approx(0.5)
    assert recorder.frames == 100
    assert recorder.seconds == pytest.approx(10.0)
    assert recorder.cpu == pytest.approx(100 * 0.045)
    assert recorder.finished.rate(recorder.seconds).mean == pytest.approx(10)
    assert recorder.finished.mean(recorder.seconds).mean == pytest.approx(0.045)
    assert recorder.latency.count == 100
    assert recorder.latency.percentile(50) == pytest.approx(3 * WORK, rel=0.02)
    for name in STAGES:
        timing = recorder.stages[name].timing
        assert timing.busy.count == 100
        assert timing.busy.total == pytest.approx(100 * WORK)
        assert timing.wait_in == pytest.approx(100 * 0.03)
        assert timing.cpu == pytest.approx(100 * 0.01)
    gauge = recorder.queues["inference"]
    assert sum(gauge.held.values()) == pytest.approx(recorder.seconds)


def test_the_measurement_ends_with_the_source() -> None:
    """Check that later frames are not measured: the first stages have finished them already."""
    drive = Drive(warmup=0.0, capacity=3)
    for number in range(20):
        drive.queue.closed = number >= 9
        drive.frame(number)
        drive.recorder.tick()
    recorder = drive.recorder
    recorder.close()
    assert (recorder.warmup_frames, recorder.frames, recorder.drained_frames) == (3, 7, 10)
    assert recorder.seconds == pytest.approx(7 * STEP)
    assert recorder.cpu == pytest.approx(7 * 0.045)
    assert recorder.latency.count == 7
    for name in STAGES:
        assert recorder.stages[name].timing.busy.count == 7
    assert sum(recorder.queues["inference"].held.values()) == pytest.approx(recorder.seconds)
    assert recorder.threads.seconds < recorder.seconds
    flows = build_trace(recorder, "fake")["traceEvents"]
    assert {event["id"] for event in flows if event["ph"] == "f"} == set(range(4, 20))


def test_a_source_that_ends_in_the_warm_up_leaves_nothing_to_measure() -> None:
    drive = Drive(warmup=0.0, capacity=9)
    for number in range(20):
        drive.queue.closed = number >= 5
        drive.frame(number)
    assert (drive.recorder.warmup_frames, drive.recorder.frames) == (6, 0)
    assert drive.recorder.drained_frames == 14


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRACE_FRAMES", 5)
    monkeypatch.setattr(module, "TRACE_DEPTHS", 8)
    drive = Drive(warmup=0.0, capacity=1)
    for number in range(1000):
        drive.frame(number, drop_after="capture" if number % 2 else "")
    assert {step.frames for step in drive.recorder.steps} == {(i,) for i in range(2, 7)}
    assert len(drive.recorder.depths) == 8
    assert drive.recorder.picture is not None
    assert drive.recorder.picture.frame_id == 2


def test_a_frame_is_one_flow_through_slices_of_the_threads() -> None:
    recorder = Drive(warmup=0.0, capacity=1).run(20)
    trace = build_trace(recorder, "fake")
    events = trace["traceEvents"]
    check_trace(events)
    assert trace["otherData"]["frames"] == 18  # frame 1 may have been captured before
    flows = [event for event in events if event["ph"] in "stf"]
    assert [event["ph"] for event in flows] == ["s", "t", "f"] * 18
    assert {event["id"] for event in flows} == set(range(2, 20))
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["name"] == "thread_name"}  # fmt: skip
    assert names == {100: "capture", 101: "inference", 102: "sinks"}


def test_stage_events_may_arrive_late() -> None:
    """A stage reports an event after passing the frame on: the next stage may report first."""
    drive = Drive(warmup=0.0, capacity=1)
    for number in range(4):
        drive.frame(number)
    late: list[StageEvent] = []
    tell = drive.stages[0].observe
    drive.stages[0].observe = late.append
    drive.frame(4)
    tell(late[0])
    steps = [step.stage for step in drive.recorder.steps if step.frames == (4,)]
    assert sorted(steps) == sorted(STAGES)


def test_a_frame_that_was_dropped_has_no_end() -> None:
    drive = Drive(warmup=0.0, capacity=1)
    for number in range(6):
        drive.frame(number, drop_after={3: "capture", 4: "inference"}.get(number, ""))
    events = build_trace(drive.recorder, "fake")["traceEvents"]
    check_trace(events)
    flows = {
        number: "".join(e["ph"] for e in events if e.get("id") == number) for number in (2, 3, 4)
    }
    assert flows == {2: "stf", 3: "", 4: "sf"}


def test_counts_frames_in_batches_and_frames_that_skip_a_stage() -> None:
    """Send batches of three frames; the network sees two frames of every second batch."""
    drive = Drive(warmup=0.0, capacity=1)
    for number in range(40):
        frames = tuple(
            Frame(
                0, 3 * number + i, 0, Fraction(1, 30), number * STEP, np.zeros((2, 2, 3), np.uint8)
            )
            for i in range(3)
        )
        for i, stage in enumerate(drive.stages):
            start = number * STEP + i * WORK
            drive.now = start + WORK
            drive.cpu += 0.015
            worked_on = 2 * (number % 2) if stage.name == "inference" else 3
            stage.observe(StageEvent(stage.name, frames, worked_on, 100 + i, start - 0.03, start,
                              drive.now, drive.now + 0.001, 0.01 * number))  # fmt: skip
    recorder = drive.recorder
    recorder.close()
    assert recorder.warmup_frames == 3
    assert recorder.frames == recorder.latency.count == 117
    assert recorder.cpu == pytest.approx(39 * 0.045)
    assert recorder.finished.rate(recorder.seconds).mean == pytest.approx(30)
    assert recorder.finished.mean(recorder.seconds).mean == pytest.approx(0.015)
    network, sinks = (recorder.stages[name].timing for name in ("inference", "sinks"))
    assert (network.busy.count, sinks.busy.count) == (40, 117)
    assert network.busy.total == pytest.approx(20 * WORK)
    assert sinks.busy.percentile(50) == pytest.approx(WORK / 3, rel=0.02)
    assert network.wait_in == pytest.approx(39 * 0.03)
    assert network.wait_out == pytest.approx(39 * 0.001)
    events = build_trace(recorder, "fake")["traceEvents"]
    check_trace(events)
    assert [e["ph"] for e in events if e.get("id") == 30] == ["s", "t", "f"]


def check_trace(events: list[dict[str, Any]]) -> None:
    """Check events against the Trace Event Format."""
    slices: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert event["ph"] in "MXCstf"
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
        if event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
        if event["ph"] != "M":
            assert event["ts"] >= 0
    for times in slices.values():  # the slices of a track do not overlap
        times.sort()
        assert all(a[1] <= b[0] + 1e-3 for a, b in pairwise(times))
    for event in events:
        if event["ph"] in "stf":  # a flow has to lie in a slice of its thread
            assert any(begin <= event["ts"] <= end for begin, end in slices[event["tid"]])
            assert (event.get("bp") == "e") == (event["ph"] == "f")


def test_the_accelerators_times_are_kept_by_step() -> None:
    drive = Drive(warmup=0.0, capacity=1)
    drive.pipeline.postprocess.observe_device({"infer": 9.0})  # before the measurement
    drive.frame(0)
    drive.pipeline.postprocess.observe_device({"infer": 0.002, "detect": 0.001})
    drive.pipeline.postprocess.observe_device({"infer": 0.004, "detect": 0.001})
    device = drive.recorder.device
    assert device["infer"].total == pytest.approx(0.006)
    assert device["detect"].count == 2


def test_threads_that_end_are_added_up_by_name() -> None:
    table = ThreadTable()
    table.look(0.0, {1: ThreadTime("sinks", 5.0, 1.0)}, (0.0, 0.0), {1})
    for i in range(1000):  # a library that starts a thread for every frame
        new = {1: ThreadTime("sinks", 5.0 + i, 1.0), 10 + i: ThreadTime("sinks", 0.1, 0.2)}
        table.look(float(i + 1), new, (i + 1.0, 2 * i + 2.0), {1})
    own, library = table.uses()
    assert (own.own, own.count, own.cpu, own.delay) == (True, 1, 999.0, 0.0)
    assert (library.own, library.count) == (False, 1000)
    assert library.cpu == pytest.approx(100)
    assert library.delay == pytest.approx(200)
    assert len(table._base) + len(table._last) + len(table._ended) < 8
    assert table.seconds == 1000
    assert table.busy == pytest.approx(0.5)


def test_a_reused_thread_number_is_another_thread() -> None:
    table = ThreadTable()
    table.look(0.0, {5: ThreadTime("sinks", 4.0, 1.0)}, None, ())
    table.look(1.0, {5: ThreadTime("sinks", 4.5, 1.0)}, None, ())
    table.look(2.0, {}, None, ())
    table.look(3.0, {5: ThreadTime("inference", 0.3, 0.1)}, None, ())
    assert [(use.name, use.cpu) for use in table.uses()] == [
        ("sinks", pytest.approx(0.5)),
        ("inference", pytest.approx(0.3)),
    ]
    assert table.busy is None


@pytest.mark.parametrize(
    ("name", "stage"),
    [("inference", "inference"), ("av:h264:df0", "capture"), ("av:libx264:es1", "sinks"),
     ("python", None), ("av:strange", None)],
)  # fmt: skip
def test_a_threads_name_gives_its_stage(name: str, stage: str | None) -> None:
    assert stage_of(name) == stage


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    task = tmp_path / "task" / "7"
    task.mkdir(parents=True)
    (task / "comm").write_text("a (b) c\n")
    (task / "schedstat").write_text("1500000000 250000000 12\n")
    fields = ["S", *"0" * 10, "300", "45", *"0" * 5]
    (task / "stat").write_text(f"7 (a (b) c) {' '.join(fields)}\n")
    monkeypatch.setattr(threads, "TASKS", tmp_path / "task")
    monkeypatch.setattr(threads, "STAT", tmp_path / "stat")
    monkeypatch.setattr(threads, "_TICKS", 100)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 10})
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\n"
        "cpu0 100 0 50 200 50 0 0 0 0 0\n"
        "cpu1 900 0 0 0 0 0 0 0 0 0\n"
        "cpu10 100 0 0 0 0 0 0 100 0 0\n"
    )
    return tmp_path


def test_times_of_threads_come_from_the_kernel(proc: Path) -> None:
    assert read_threads() == {7: ThreadTime("a (b) c", 1.5, 0.25)}
    (proc / "task" / "7" / "schedstat").write_text("0 0 0\n")  # a kernel that counts no run times
    assert read_threads() == {7: ThreadTime("a (b) c", 3.45, None)}
    (proc / "task" / "7" / "comm").unlink()
    assert read_threads() == {}


def test_only_the_cores_of_this_process_count(proc: Path) -> None:
    assert read_cores() == (pytest.approx(3.5), pytest.approx(6.0))
    (proc / "stat").unlink()
    assert read_cores() is None
