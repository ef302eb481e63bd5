"""The working memory of a batch of pictures in flight on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from squeezedrive.engines.backends.base import Slot
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.input_slot import Picture
from squeezedrive.kernels.detections import Detections


class CudaSlot(Slot):
    """A batch at a time through a chain of its own, each step from the thread of its stage.

    Parameters
    ----------
    gpu : Gpu
        Where.
    open_chain : callable
        Returns the chain; called with the context current.

    Attributes
    ----------
    abandoned : bool
        Whether it was closed while a step had not returned, and could not release its memory.
    """

    def __init__(self, gpu: GpuContext, open_chain: Callable[[], BatchRunner]) -> None:
        self.abandoned = False
        self._gpu = gpu
        self._working = False
        with gpu.current():
            self._chain: BatchRunner | None = open_chain()

    def preprocess(self, images: Sequence[Picture]) -> None:
        """Enqueue what makes the network's input of BGR pictures (height, width, 3).

        Pixels of the host are copied: they may be changed when this returns. A picture that the
        GPU's decoder made stays where it is.
        """
        with self._step() as chain:
            chain.load(images)
            with chain.timed("preprocess"):
                chain.upload()
                chain.preprocess()

    def infer(self) -> None:
        """Enqueue the network."""
        with self._step() as chain, chain.timed("infer"):
            chain.infer()

    def detect(self) -> list[Detections]:
        """Return the boxes of each picture in its own pixels; waits for the GPU."""
        with self._step() as chain:
            with chain.timed("detect"):
                chain.detect()
            chain.download()
            return chain.collect()

    @property
    def device_seconds(self) -> dict[str, float]:
        """Seconds of the GPU for each step of the last batch; see `engines.backends.base.Slot`."""
        with self._step() as chain:
            return chain.seconds()

    def close(self) -> None:
        """Release the memory; a second call does nothing.

        A step that another thread is still held in keeps it: the run was ended without it.
        """
        chain, self._chain = self._chain, None
        if chain is None:
            return
        if self._working:
            self.abandoned = True
            self._gpu.keep_forever(chain)
            return
        with self._gpu.current():
            chain.close()

    @contextmanager
    def _step(self) -> Iterator[BatchRunner]:
        if self._chain is None:
            raise RuntimeError("the slot is closed")
        self._working = True
        try:
            with self._gpu.current():
                yield self._chain
        finally:
            self._working = False
