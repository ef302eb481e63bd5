from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.camera import CameraSource
from tests.support.media import number_of, picture

PATIENT = SourceOptions(source_id=1, open_timeout=60.0, read_timeout=60.0)


class FakeCapture:
    """A camera with `count` pictures, one for each release of `may_go`; then it calls `after`."""

    def __init__(
        self, count: int, after: Callable[[], None] | None = None, opens: bool = True
    ) -> None:
        self.count = count
        self.after = after
        self.opens = opens
        self.read_so_far = 0
        self.may_go = threading.Semaphore(0)
        self.released = threading.Event()

    def isOpened(self) -> bool:
        return self.opens

    def get(self, prop: int) -> float:
        return 29.97 if prop == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.may_go.acquire(timeout=100)
        if self.read_so_far == self.count:
            if self.after is not None:
                self.after()
            return False, None
        self.read_so_far += 1
        return True, picture(self.read_so_far - 1)

    def release(self) -> None:
        self.released.set()


def open_fake(capture: FakeCapture, options: SourceOptions = PATIENT) -> CameraSource:
    return CameraSource("/dev/video7", options, lambda device: capture)


def test_frames_are_stamped_when_they_arrive() -> None:
    capture = FakeCapture(5)
    capture.may_go.release()
    source = open_fake(capture)
    frames = []
    for k in range(3):
        frame = source.read()
        frames.append(frame)
        capture.may_go.release()
        assert (frame.source_id, frame.frame_id, number_of(frame.image)) == (1, k, k)
    info = source.info
    assert (info.kind, info.live, info.width, info.height) == ("camera", True, 160, 120)
    assert (info.time_base, info.origin) == (Fraction(1, 1_000_000), frames[0].pts)
    assert info.fps == Fraction(2997, 100)
    assert [f.seconds for f in frames] == pytest.approx([f.captured_at for f in frames], abs=1e-5)
    assert frames[0].pts < frames[1].pts < frames[2].pts
    source.close()
    assert capture.released.wait(60)


def test_a_picture_not_read_in_time_is_replaced_by_the_next() -> None:
    capture = FakeCapture(10)
    capture.may_go.release()
    source = open_fake(capture)
    assert source.read().frame_id == 0
    for _ in range(4):
        capture.may_go.release()
    deadline = time.monotonic() + 60
    while source.report.skipped["overrun"] < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    frame = source.read()
    assert (frame.frame_id, number_of(frame.image)) == (4, 4)
    assert source.report.skipped == {"overrun": 3}
    capture.may_go.release()
    source.close()


def test_a_camera_that_cannot_be_opened_is_an_error() -> None:
    capture = FakeCapture(0, opens=False)
    with pytest.raises(SourceError, match="camera /dev/video7: cannot be opened"):
        open_fake(capture)
    assert capture.released.wait(60)


def test_a_camera_without_a_first_picture_times_out() -> None:
    capture = FakeCapture(0)
    with pytest.raises(SourceTimeout, match=r"camera /dev/video7: no picture within 0\.5 s"):
        open_fake(capture, SourceOptions(open_timeout=0.5))
    capture.may_go.release()
    assert capture.released.wait(60)


def test_a_camera_that_stops_times_out() -> None:
    capture = FakeCapture(1)
    capture.may_go.release()
    source = open_fake(capture, SourceOptions(open_timeout=60.0, read_timeout=0.5))
    source.read()
    with pytest.raises(SourceTimeout, match=r"no picture within 0\.5 s"):
        source.read()
    capture.may_go.release()  # the device fails now
    assert capture.released.wait(60)
    with pytest.raises(SourceError, match="delivers no more pictures"):
        source.read()
    source.close()
    source.close()
    assert capture.released.wait(60)


def test_an_opencv_error_becomes_a_source_error() -> None:
    def fail() -> None:
        raise cv2.error("broken")

    capture = FakeCapture(1, after=fail)
    capture.may_go.release()
    source = open_fake(capture)
    source.read()
    capture.may_go.release()
    with pytest.raises(SourceError, match=r"camera /dev/video7: broken"):
        source.read()
    source.close()
    assert capture.released.wait(60)
