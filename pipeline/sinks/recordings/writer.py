"""Write encoded pictures in a thread, so that a slow disk does not hold up the pipeline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from squeezedrive.pipeline.core.queues import POLL_SECONDS
from squeezedrive.pipeline.core.timing import name_thread
from squeezedrive.pipeline.sinks.recordings.archive import SegmentLabel
from squeezedrive.pipeline.sinks.recordings.encoder import EncodedPicture
from squeezedrive.pipeline.sinks.recordings.events import Event

MAX_BYTES = 32 * 2**20  # of pictures waiting, which is half a minute of a dashcam's


@dataclass(frozen=True)
class Recorded:
    """A picture, and the segment and the event it belongs to."""

    picture: EncodedPicture
    segment: SegmentLabel | None
    event: Event | None


class Writer:
    """Pass pictures to a function in a separate thread.

    Pictures wait in a queue. When it is full, those that come are left out, up to a key frame that
    finds room again.

    Parameters
    ----------
    write : callable
        Takes a picture; may be held up by the disk.
    finish : callable
        Called in the same thread when all pictures have been written.
    patience : float
        Seconds that `put` waits for room before it leaves pictures out.

    Attributes
    ----------
    lost : int
        Pictures left out.
    """

    def __init__(
        self,
        write: Callable[[Recorded], None],
        finish: Callable[[], None],
        patience: float,
    ) -> None:
        self.lost = 0
        self._write = write
        self._finish = finish
        self._patience = patience
        self._waiting: deque[Recorded] = deque()
        self._bytes = 0
        self._skipping = False
        self._closed = False
        self._given_up = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        # A daemon, so that a disk that never answers cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def put(self, item: Recorded) -> None:
        """Add a picture to those that wait, or leave it out.

        Raises
        ------
        Exception
            What `write` has raised.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._skipping and not item.picture.is_key:
                self.lost += 1
                return
            # Once pictures are missing there is no more waiting: it would slow down every second.
            patience = 0.0 if self._skipping else self._patience
            self._skipping = not self._changed.wait_for(lambda: self._has_room(item), patience)
            if self._skipping:
                self.lost += 1
                return
            self._waiting.append(item)
            self._bytes += len(item.picture.data)
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Wait until all pictures are written; return False if that takes too long.

        Raises
        ------
        Exception
            What `write` or `finish` has raised.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._thread.is_alive():
                self._given_up = True
                self.lost += len(self._waiting)
                self._waiting.clear()
                return False
        return True

    def _has_room(self, item: Recorded) -> bool:
        return not self._waiting or self._bytes + len(item.picture.data) <= MAX_BYTES

    def _run(self) -> None:
        name_thread("record")
        try:
            while (item := self._next()) is not None:
                self._write(item)
            if not self._given_up:
                self._finish()
        except Exception as error:  # raised again in the thread that brings the pictures
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> Recorded | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait(POLL_SECONDS)
            item = self._waiting.popleft()
            self._bytes -= len(item.picture.data)
            self._changed.notify_all()
            return item
