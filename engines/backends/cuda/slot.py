"""The working memory of a batch of pictures in flight on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from squeezedrive.engines.backends.base import Slot
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.input_batch import Picture
from squeezedrive.kernels.detections import Detections


class CudaSlot(Slot):
    """Takes batches through a `BatchRunner` of its own, each step from the thread of its stage.

    `open_runner` returns the runner; it is called with the context current.

    Attributes
    ----------
    abandoned : bool
        Whether it was closed during a step, and could not release its memory.
    """

    def __init__(self, gpu: GpuContext, open_runner: Callable[[], BatchRunner]) -> None:
        self.abandoned = False
        self._gpu = gpu
        self._working = False
        with gpu.current():
            self._runner: BatchRunner | None = open_runner()

    def preprocess(self, images: Sequence[Picture]) -> None:
        """Enqueue the preparation of BGR pictures (height, width, 3) for the network.

        Pictures of the host are copied: they may be changed when this returns. A picture that the
        GPU has decoded stays where it is.
        """
        with self._step() as runner:
            runner.load(images)
            runner.enqueue("preprocess")

    def infer(self) -> None:
        """Enqueue the network."""
        with self._step() as runner:
            runner.enqueue("infer")

    def detect(self) -> list[Detections]:
        """Return the boxes of each picture in its own pixels; waits for the GPU."""
        with self._step() as runner:
            runner.enqueue("detect")
            return runner.collect()

    @property
    def device_seconds(self) -> dict[str, float]:
        """Seconds of the GPU for each step of the last batch; see `engines.backends.base.Slot`."""
        with self._step() as runner:
            return runner.seconds()

    def close(self) -> None:
        """Release the memory; a second call does nothing.

        The memory is kept if another thread is still in a step: the run ended without that thread.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self._working:
            self.abandoned = True
            self._gpu.keep_forever(runner)
            return
        with self._gpu.current():
            runner.close()

    @contextmanager
    def _step(self) -> Iterator[BatchRunner]:
        # In this order, `close` of another thread either sees the step or is seen by it.
        self._working = True
        try:
            runner = self._runner
            if runner is None:
                raise RuntimeError("the slot is closed")
            with self._gpu.current():
                yield runner
        finally:
            self._working = False
