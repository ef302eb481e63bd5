"""Keep the newest picture of a source for the live page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from threading import Condition

import cv2

from squeezedrive.pipeline.core.frame import Frame, Image, shown_size
from squeezedrive.pipeline.core.sink import FrameResult, Sink

INTERVAL = 0.1  # seconds between two pictures at least, for any number of viewers
MAX_WIDTH = 960  # pixels
QUALITY = 75  # of JPEG, 0 to 100


@dataclass(frozen=True)
class Jpeg:
    """A picture as it is sent."""

    number: int  # of the frame, counted from 1 in the order they came
    data: bytes


class PreviewSink(Sink):
    """Keeps the newest picture; a thread that asks for it encodes it, once for all that ask.

    `write` only keeps a reference, so viewers cost the pipeline nothing: pictures are reduced and
    encoded in the thread that calls `picture`, without the lock that `write` takes.
    """

    name = "preview"
    draws = takes_yuv = is_display = True

    def __init__(self) -> None:
        self._changed = Condition()
        self._frame: Frame | None = None
        self._number = 0
        self._jpeg: Jpeg | None = None
        self._encoding = False
        self._encoded_at = -INTERVAL
        self._closed = False

    def write(self, result: FrameResult) -> None:
        """Take a picture as the newest."""
        frame = result.frame
        if frame.yuv is None:
            _ = frame.image  # fetched from the device here, if it is there
        with self._changed:
            if self._closed:
                return
            self._frame = frame
            self._number += 1
            # One of the waiting threads encodes it and wakes the others.
            self._changed.notify()

    def close(self) -> None:
        """Drop the picture and end all waits for one."""
        with self._changed:
            self._closed = True
            self._frame = self._jpeg = None
            self._changed.notify_all()

    def picture(self, last: int, timeout: float) -> Jpeg | None:
        """Return the newest picture, at most `INTERVAL` old if there are newer ones.

        Parameters
        ----------
        last : int
            Number of the picture the caller has already, 0 for none: waits for another one.
        timeout : float
            Seconds to wait.

        Returns
        -------
        Jpeg or None
            At most `MAX_WIDTH` pixels wide. None if none came in time, or the sink is closed.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                jpeg, due = self._jpeg, self._encoded_at + INTERVAL
                current = jpeg is not None and (jpeg.number == self._number or now < due)
                if current and jpeg is not None and jpeg.number != last:
                    return jpeg
                if not current and self._number not in (0, last) and not self._encoding:
                    break
                if now >= end:
                    return None
                # A newer frame than the one encoded may be there, but it is not due yet.
                self._changed.wait(min(end, due if due > now else end) - now)
            frame, number = self._frame, self._number
            if self._closed or frame is None:
                return None
            self._encoding = True
            self._encoded_at = time.monotonic()
            self._jpeg = None  # the others wait for this one, the last may be hours old
        encoded = None
        try:
            encoded = Jpeg(number, encode(frame.to_bgr(), frame.aspect))
        finally:
            with self._changed:
                self._encoding = False
                self._jpeg = None if self._closed else encoded
                self._changed.notify_all()
        return encoded


def encode(image: Image, aspect: Fraction) -> bytes:
    """Return a BGR picture as JPEG, at most `MAX_WIDTH` square pixels wide."""
    width, height = shown_size(image.shape[1], image.shape[0], aspect)
    if width > MAX_WIDTH or aspect != 1:
        scale = min(MAX_WIDTH / width, 1.0)
        # INTER_AREA keeps thin lines at strong reduction but takes six times as long otherwise.
        how = cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_LINEAR
        size = min(width, MAX_WIDTH), max(round(height * scale), 1)
        image = cv2.resize(image, size, interpolation=how)  # type: ignore[assignment]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
