"""Live sources that fail, with inner sources that do exactly what a test needs."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import (
    Source,
    SourceInfo,
    SourceKind,
    SourceOptions,
)
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.camera import CameraSource
from squeezedrive.pipeline.sources.reconnect import Backoff, ReconnectingSource
from tests.pipeline.test_camera_source import FakeCapture
from tests.support.media import times

URL = "rtsp://me:word@cam/1"
NAME = "rtsp://***@cam/1"
TICK = Fraction(1, 1000)
READING = threading.Event()  # set by `frames_of`: after the first read, no frame is dropped
OVER = threading.Event()  # the test is over: scripts may end


@pytest.fixture(autouse=True)
def _no_thread_outlives_the_source() -> Iterator[None]:
    before = set(threading.enumerate())
    READING.clear()
    OVER.clear()
    yield
    READING.set()
    OVER.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert set(threading.enumerate()) <= before


class Inner(Source):
    """Gives the items of `script`: a pts in ms, an exception to raise, or a function to call."""

    def __init__(
        self, *script: Any, kind: SourceKind = "stream", size: tuple[int, int] = (32, 24)
    ) -> None:
        origin = script[0] if script and isinstance(script[0], int) else 0
        self.info = SourceInfo(NAME, kind, *size, Fraction(25), None, TICK, origin)
        super().__init__()
        self.users: set[int] = set()
        self.closed = False
        self._script = list(script)
        self._frame_id = -1

    def read(self) -> Frame | None:
        self.users.add(threading.get_ident())
        if self._frame_id == 0:
            READING.wait(100)
        item = self._script.pop(0) if self._script else None
        if callable(item):
            item = item()
        if item is None:
            return None
        if isinstance(item, BaseException):
            raise item
        self._frame_id += 1
        image = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        return Frame(3, self._frame_id, item, TICK, time.monotonic(), image)

    def close(self) -> None:
        self.users.add(threading.get_ident())
        self.closed = True


def quick() -> Backoff:
    return Backoff(0.01, 0.02)


def source_of(*connections: Inner | Exception, **options: Any) -> ReconnectingSource:
    """Return a source that opens these connections one by one, and repeats the last one."""
    rest = list(connections)

    def open_inner() -> Inner:
        item = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(item, Exception):
            raise item
        return item

    options = {"limit": None, "backoff": quick(), **options}
    return ReconnectingSource(URL, open_inner, **options)


def frames_of(source: ReconnectingSource, count: int) -> list[Frame]:
    frames = []
    for _ in range(count):
        frame = source.read()
        assert frame is not None
        frames.append(frame)
        READING.set()
    return frames


def hold() -> None:
    """Keep a script from ending before the test does."""
    OVER.wait(100)


def end(source: ReconnectingSource) -> None:
    """Close the source, and wait until its thread has ended."""
    source.interrupt()
    READING.set()
    OVER.set()
    source.close()


def gate(value: int) -> tuple[threading.Event, Callable[[], int]]:
    """Return an event, and a function that waits for it and then returns the frame's pts."""
    event = threading.Event()

    def wait() -> int:
        event.wait(100)
        return value

    return event, wait


def test_waits_double_up_to_a_limit_with_jitter() -> None:
    drawn = iter([1.25, 0.75] + [1.0] * 20)
    ranges = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return next(drawn)

    backoff = Backoff(uniform=uniform)
    waits = [backoff.seconds() for _ in range(7)]
    assert waits == [0.625, 0.75, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert set(ranges) == {(0.75, 1.25)}
    backoff.reset()
    assert backoff.seconds() == 0.5


def test_a_source_that_fails_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    first = Inner(100, 140, SourceError(f"{NAME}: Connection reset"))
    second = Inner(7, 47, size=(64, 48))  # this connection ends without an error
    third = Inner(0, hold)
    source = source_of(SourceError(f"{NAME}: Connection refused"), second, third, inner=first)
    assert source.info is first.info
    frames = frames_of(source, 4)
    assert [frame.frame_id for frame in frames] == [0, 1, 2, 3]
    assert [frame.picture.shape[0] for frame in frames] == [24, 24, 48, 48]
    assert {frame.source_id for frame in frames} == {3}
    pts = [frame.pts for frame in frames]
    assert pts[:2] == [100, 140]
    assert pts[3] == pts[2] + 40
    passed = frames[2].captured_at - frames[0].captured_at
    assert pts[2] == max(100 + round(passed * 1000), 140 + 40)
    frames_of(source, 1)
    state = source.state
    end(source)
    for inner in (first, second, third):
        assert inner.closed
        assert len(inner.users) == 1
    assert threading.get_ident() not in first.users
    assert (state.condition, state.reconnects) == ("connected", 2)
    assert state.last_error == f"{NAME}: has ended"
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f"{NAME}: Connection reset; trying again"
    assert lines[1].startswith(f"{NAME}: connected again after 0.")
    assert lines[1].endswith(" s, 2 tries")
    assert lines[2] == f"{NAME}: has ended; trying again"
    assert lines[3].endswith(" s, 1 try")
    assert len(lines) == 4


def test_a_source_is_given_up_after_the_time_limit() -> None:
    first = Inner(0, SourceError(f"{NAME}: Connection reset"))
    source = source_of(SourceError(f"{NAME}: Connection refused"), inner=first, limit=0.2)
    frames_of(source, 1)
    expected = r"cam/1: Connection refused; given up after 0 s without a picture"
    with pytest.raises(SourceError, match=expected) as error:
        source.read()
    assert "word" not in str(error.value)
    assert source.state.condition == "given up"
    assert source.state.last_error == f"{NAME}: Connection refused"
    end(source)


def test_a_limit_of_zero_tries_nothing_again() -> None:
    source = source_of(RuntimeError("not opened"), inner=Inner(0, 40), limit=0)
    frames_of(source, 2)
    assert source.read() is None
    assert source.read() is None
    end(source)
    silent = SourceTimeout(f"{NAME}: no answer within 5 s")
    source = source_of(RuntimeError("not opened"), inner=Inner(0, silent), limit=0)
    frames_of(source, 1)
    with pytest.raises(SourceTimeout, match=r"^rtsp://\*\*\*@cam/1: no answer within 5 s$"):
        source.read()
    assert source.state.condition == "given up"
    end(source)


def test_a_source_may_be_absent_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    inner = Inner(50, 90, hold)
    source = source_of(SourceError("no route"), SourceError("no route"), inner)
    info = source.info
    assert (info.name, info.kind, info.live) == (NAME, "stream", True)
    assert (info.width, info.height, info.fps) == (0, 0, None)
    assert source.state.reconnects == 0
    frames_of(source, 1)
    assert source.info.width == 32
    assert (source.state.condition, source.state.reconnects) == ("connected", 0)
    assert source.state.last_error == "no route"
    end(source)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "no route; trying again"
    assert lines[1].startswith(f"{NAME}: connected after ")
    assert lines[1].endswith(" s, 3 tries")


def test_a_file_on_a_web_server_is_read_to_its_end_once() -> None:
    READING.set()
    source = source_of(Inner(*range(0, 400, 40), kind="file"))
    time.sleep(0.05)  # no frame may be lost before the test reads
    assert [frame.pts for frame in frames_of(source, 10)] == list(range(0, 400, 40))
    assert source.read() is None
    end(source)


def test_before_the_first_read_only_the_newest_frame_is_kept() -> None:
    reached = threading.Event()
    event, wait = gate(400)

    def last() -> int:
        reached.set()
        return wait()

    READING.set()
    inner = Inner(*range(0, 400, 40), last, hold)
    source = source_of(RuntimeError("not opened"), inner=inner)
    assert reached.wait(60)
    (frame,) = frames_of(source, 1)
    assert (frame.pts, frame.frame_id) == (360, 9)
    assert source.info.origin == 360
    assert source.report.skipped == {"overrun": 9}
    event.set()
    assert frames_of(source, 1)[0].pts == 400
    end(source)


def test_a_stall_is_noticed_while_reading(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    event, wait = gate(40)
    source = source_of(RuntimeError("not opened"), inner=Inner(0, wait, hold))
    frames_of(source, 1)
    reader = threading.Thread(target=frames_of, args=(source, 1))
    reader.start()
    deadline = time.monotonic() + 60
    while source.state.condition != "stalled" and time.monotonic() < deadline:
        time.sleep(0.02)
    stalled = source.state
    assert stalled.condition == "stalled"
    assert stalled.last_picture is not None
    assert stalled.since - stalled.last_picture >= 1
    event.set()
    reader.join(60)
    assert source.state.condition == "connected"
    end(source)
    lines = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"{re.escape(NAME)}: no picture for \d+\.\d s", lines[0])
    assert re.match(rf"{re.escape(NAME)}: pictures again after \d+\.\d s", lines[1])


@pytest.mark.parametrize("stuck_in", ["open", "read", "wait"])
def test_interrupt_ends_every_wait_at_once(stuck_in: str) -> None:
    answered = threading.Event()

    def stuck() -> Any:
        answered.wait(100)
        return SourceTimeout("no answer")

    late = Inner(0)

    def open_inner() -> Inner:
        answered.wait(100)
        return late

    first = Inner(0, stuck) if stuck_in == "read" else Inner(0, SourceError("reset"))
    backoff = Backoff(60.0, 60.0) if stuck_in == "wait" else quick()
    source = ReconnectingSource(URL, open_inner, None, first, backoff)
    frames_of(source, 1)
    result: list[Frame | None] = []
    reader = threading.Thread(target=lambda: result.append(source.read()))
    reader.start()
    time.sleep(0.1)
    assert reader.is_alive()
    source.interrupt()
    reader.join(60)
    assert result == [None]
    source.close()  # does not wait for the stuck thread
    assert first.closed == (stuck_in != "read")
    answered.set()
    deadline = time.monotonic() + 60
    expected = late if stuck_in == "open" else first
    while not expected.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert expected.closed  # closed by the thread that used it
    assert threading.get_ident() not in expected.users


def test_closing_before_anything_was_read() -> None:
    READING.set()
    inner = Inner(0, hold)
    source = source_of(RuntimeError("not opened"), inner=inner)
    end(source)
    source.close()
    assert source.read() is None
    assert inner.closed


def test_a_fault_of_the_program_is_not_tried_again() -> None:
    source = source_of(RuntimeError("not opened"), inner=Inner(0, ZeroDivisionError("oops")))
    frames_of(source, 1)
    with pytest.raises(ZeroDivisionError):
        source.read()
    end(source)


def test_reports_of_all_connections_add_up_to_a_limit() -> None:
    connections = []
    for k in range(80):
        inner = Inner(0)
        inner.report.skipped["corrupt"] = 2
        inner.report.warn(f"frame {k} is odd")
        connections.append(inner)
    source = source_of(*connections, backoff=Backoff(0.0, 0.0))
    frames_of(source, 79)
    report = source.report
    assert report.skipped["corrupt"] >= 2 * 78
    assert report.warnings[0] == "frame 0 is odd"
    assert len(report.warnings) == 50
    end(source)


def test_a_camera_that_is_unplugged_and_plugged_in_again() -> None:
    options = SourceOptions(open_timeout=60.0, read_timeout=60.0)
    captures = [FakeCapture(1), FakeCapture(0, opens=False), FakeCapture(5)]
    captures[0].may_go.release()
    rest = iter(captures)

    def open_camera() -> CameraSource:
        return CameraSource("7", options, lambda device: next(rest))

    source = ReconnectingSource("7", open_camera, None, open_camera(), quick())
    frames = frames_of(source, 1)
    captures[0].may_go.release()  # the first camera fails now
    for _ in range(3):
        captures[2].may_go.release()
        frames += frames_of(source, 1)
    state = source.state
    source.interrupt()
    for _ in range(5):
        captures[2].may_go.release()
    end(source)
    assert source.info.kind == "camera"
    assert (state.condition, state.reconnects) == ("connected", 1)
    assert [frame.frame_id for frame in frames] == [0, 1, 2, 3]
    # Over both connections, times are those of the clock, to a second.
    assert [f.seconds for f in frames] == pytest.approx([f.captured_at for f in frames], abs=1)
    assert all(capture.released.wait(60) for capture in captures)


def test_the_video_of_a_source_that_was_not_there_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    inner = Inner(5000, 5040, 5090, hold)
    source = source_of(SourceError("no route"), inner)
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), path)
    nothing = Detections(
        np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    )
    first = frames_of(source, 1)[0]
    for frame in [first, *frames_of(source, 1)]:
        sink.write(FrameResult(frame, nothing))
    sink.close()
    end(source)
    assert times(path)[0] == 0
    assert source.info.time_base == TICK
