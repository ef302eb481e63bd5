"""Cameras of the machine, read with OpenCV."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import cv2

from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.source import Source, SourceInfo, SourceOptions

TIME_BASE = Fraction(1, 1_000_000)
CLOSE_TIMEOUT = 1.0  # seconds


class CaptureDevice(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool:
        """Whether the device is open."""

    def read(self) -> tuple[bool, Image | None]:
        """Wait for the next picture."""

    def get(self, prop: int) -> float:
        """Return a property."""

    def release(self) -> None:
        """Close the device."""


@dataclass(frozen=True)
class _Picture:
    frame_id: int
    captured_at: float
    image: Image


class CameraSource(Source):
    """A camera, whose frames are stamped with the time they arrive, in microseconds.

    OpenCV offers no time-out for cameras, so a thread of its own opens and reads the device and
    leaves each picture in a mailbox of one. A picture not taken is replaced by the next one,
    and counted as "overrun". `close` ends the thread; only one that is stuck in the driver stays
    behind, and does not keep the process from ending.

    Parameters
    ----------
    spec : str
        Number of the camera, or `/dev/videoN`.
    options : SourceOptions
        How to open it.
    open_capture : callable, optional
        What to open the device of this number with, instead of OpenCV.

    Raises
    ------
    SourceError
        If the camera cannot be opened.
    SourceTimeout
        If it does not deliver a picture in time.
    """

    def __init__(
        self,
        spec: str,
        options: SourceOptions,
        open_capture: Callable[[int], CaptureDevice] | None = None,
    ) -> None:
        super().__init__()
        self._name = f"camera {spec}"
        self._options = options
        self._open_capture = open_capture or _open_device
        self._fps = 0.0
        self._mailbox: queue.Queue[_Picture | SourceError] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        device = int(spec.removeprefix("/dev/video"))
        self._thread = threading.Thread(
            target=self._pump, args=(device,), name=self._name, daemon=True
        )
        self._thread.start()
        try:
            first = self._wait(options.open_timeout)
        except SourceError:
            self.close()
            raise
        self._first: _Picture | None = first
        height, width = first.image.shape[:2]
        fps = Fraction(self._fps).limit_denominator(1001) if 0 < self._fps < 1000 else None
        origin = self._pts(first)
        self.info = SourceInfo(
            self._name, "camera", width, height, fps, None, TIME_BASE, origin, stem=Path("camera")
        )

    def read(self) -> Frame:
        """Return the next picture; a camera has no end, only failures."""
        picture, self._first = self._first or self._wait(self._options.read_timeout), None
        return Frame(
            self._options.source_id,
            picture.frame_id,
            self._pts(picture),
            TIME_BASE,
            picture.captured_at,
            picture.image,
        )

    def close(self) -> None:
        """Release the camera."""
        self._stop.set()
        self._thread.join(CLOSE_TIMEOUT)

    @staticmethod
    def _pts(picture: _Picture) -> int:
        return round(picture.captured_at / TIME_BASE)

    def _wait(self, timeout: float) -> _Picture:
        try:
            item = self._mailbox.get(timeout=timeout)
        except queue.Empty:
            raise SourceTimeout(f"{self._name}: no picture within {timeout:g} s") from None
        if isinstance(item, SourceError):
            raise item
        return item

    def _pump(self, device: int) -> None:
        """Read the device until it fails or the source is closed."""
        capture = self._open_capture(device)
        try:
            if not capture.isOpened():
                self._post(SourceError(f"{self._name}: cannot be opened, or is in use"))
                return
            self._fps = capture.get(cv2.CAP_PROP_FPS)
            frame_id = 0
            while not self._stop.is_set():
                good, image = capture.read()
                if not good or image is None:
                    self._post(SourceError(f"{self._name}: delivers no more pictures"))
                    return
                self._post(_Picture(frame_id, time.monotonic(), image))
                frame_id += 1
        except cv2.error as error:
            self._post(SourceError(f"{self._name}: {' '.join(str(error).split())}"))
        finally:
            capture.release()

    def _post(self, item: _Picture | SourceError) -> None:
        # This thread alone fills the mailbox, so there is room once the old picture is out.
        with contextlib.suppress(queue.Empty):
            self._mailbox.get_nowait()
            self.report.skipped["overrun"] += 1
        self._mailbox.put_nowait(item)


def _open_device(device: int) -> CaptureDevice:
    # The error has what OpenCV prints about a camera that it cannot open.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cast(CaptureDevice, cv2.VideoCapture(device))
