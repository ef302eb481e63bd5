"""A stream of the GPU, and the events that mark what has been done on it."""

from __future__ import annotations

from typing import Any, Literal

from squeezedrive.engines.backends.cuda.context import NON_BLOCKING, GpuContext

SlotStep = Literal["preprocess", "infer", "detect"]
STEPS: tuple[SlotStep, ...] = ("preprocess", "infer", "detect")


class MarkedStream:
    """A stream with the events of a batch; made while the context of its GPU is current.

    PyCUDA frees streams and events with their last reference, if the context is current then. So
    only this object refers to them, until `forget`.

    Attributes
    ----------
    stream : pycuda.driver.Stream
        The stream on which everything is enqueued.
    uploaded, finished : pycuda.driver.Event
        Recorded when the pictures have been read, and when the boxes are on the host.
    handle : int
        The driver's handle of the stream.
    graphs, recording
        See `GpuContext`.
    """

    def __init__(self, gpu: GpuContext) -> None:
        self._gpu = gpu
        self.graphs, self.recording = gpu.graphs, gpu.recording
        driver = gpu.driver
        try:
            self.stream: Any = driver.Stream(NON_BLOCKING)
            self.handle = int(self.stream.handle)
            timing = driver.event_flags.DISABLE_TIMING
            self.uploaded: Any = driver.Event(timing)
            self.finished: Any = driver.Event(timing)
            self._begun: Any = [driver.Event() for _ in STEPS]
            self._ended: Any = [driver.Event() for _ in STEPS]
        except BaseException:
            self.forget()
            raise

    def begin(self, step: SlotStep) -> None:
        """Mark where one of `STEPS` begins, for `seconds`."""
        self._begun[STEPS.index(step)].record(self.stream)

    def end(self, step: SlotStep) -> None:
        """Mark where one of `STEPS` ends."""
        self._ended[STEPS.index(step)].record(self.stream)

    def seconds(self) -> dict[str, float]:
        """Return the time of each of `STEPS` on the GPU, in seconds; all have to be done."""
        return {
            step: self._begun[number].time_till(self._ended[number]) / 1e3
            for number, step in enumerate(STEPS)
        }

    def settle(self) -> None:
        """Wait until everything that has been enqueued is done.

        Raises
        ------
        GpuLost
            If that takes too long.
        """
        self.finished.record(self.stream)
        self._gpu.wait(self.finished)

    def forget(self) -> None:
        """Destroy the stream and its events, after which nothing else may be called.

        The CUDA context must be current.
        """
        self.stream = self.uploaded = self.finished = self._begun = self._ended = None


class CopyStream:
    """A stream for copies, and an event to wait for them; made with the context current."""

    def __init__(self, gpu: GpuContext) -> None:
        self._gpu = gpu
        self.stream: Any = gpu.driver.Stream(NON_BLOCKING)
        self._done: Any = gpu.driver.Event(gpu.driver.event_flags.DISABLE_TIMING)

    def wait(self) -> None:
        """Wait for the copies enqueued so far; raises `GpuLost` if that takes too long."""
        self._done.record(self.stream)
        self._gpu.wait(self._done)
