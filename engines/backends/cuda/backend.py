"""The back ends of NVIDIA GPUs: TensorRT or PyTorch for the network, our kernels around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from squeezedrive.engines.backends.base import Backend, BackendInfo, EngineSettings, check_batch
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import GpuContext, open_gpu
from squeezedrive.engines.backends.cuda.executor import Executor
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.backends.cuda.nvdec import open_nvdec
from squeezedrive.engines.backends.cuda.slot import CudaSlot
from squeezedrive.engines.backends.video_decoder import ColourMatrix, OpenDecoder
from squeezedrive.engines.errors import BackendUnavailable, ConfigError
from squeezedrive.kernels.fit import Fit

MAX_BATCH = 8  # pictures of one execution: those of as many cameras


def open_cuda(
    name: str,
    settings: EngineSettings,
    open_executor: Callable[[GpuContext], Executor],
    reason: str,
) -> CudaBackend:
    """Load the network on the GPU with `open_executor`, its context current, and run it once.

    Raises
    ------
    BackendUnavailable
        If that is not possible on this machine.
    ConfigError
        If the configuration asks for what this back end does not have.
    GpuMemoryError, GpuLost
        See `GpuContext`.
    """
    gpu = open_gpu()
    with gpu.current():
        executor = open_executor(gpu)
    return CudaBackend(name, settings, gpu, executor, make_kernels(settings, executor), reason)


def make_kernels(settings: EngineSettings, executor: Executor) -> ImageKernels:
    """Return what comes before and after the network: the kernels of `kernels.cuda`."""
    from squeezedrive.kernels.cuda.detect import RESULT, DetectKernels
    from squeezedrive.kernels.cuda.launch import KernelRefused
    from squeezedrive.kernels.cuda.preprocess import Preprocessor

    pixels, head = settings.weights.profile.input, settings.head()

    def preprocessor(fit: Fit, matrix: ColourMatrix | None) -> Preprocessor:
        dtype = executor.input_type
        try:
            return Preprocessor(
                fit, matrix, pixels.mean, pixels.scale, pixels.channels, pixels.fill, dtype
            )
        except KernelRefused as error:
            raise _unavailable(error) from None

    def detector(batch: int) -> DetectKernels:
        try:
            return DetectKernels(head, settings.detect, executor.output_type, batch)
        except ValueError as error:
            raise ConfigError(f"detect: {error}") from None
        except KernelRefused as error:
            raise _unavailable(error) from None

    shapes = (3, settings.height, settings.width), head.output_shape
    return ImageKernels(settings.fit_of, preprocessor, detector, *shapes, RESULT)


def _unavailable(error: Exception) -> BackendUnavailable:
    return BackendUnavailable(
        f"the kernels cannot be compiled, or the driver does not load them: {error}; the NVIDIA"
        " driver has to be as new as the packages numba-cuda and nvidia-* (update it, or"
        " pip install --upgrade 'numba-cuda[cu13]')"
    )


class CudaBackend(Backend):
    """SqueezeDet on an NVIDIA GPU; closes its executor with itself."""

    # A slot's infer() only enqueues, and the frames overlap on the GPU: one thread is enough.
    parallel = 1
    batch_pays = True

    def __init__(
        self,
        name: str,
        settings: EngineSettings,
        gpu: GpuContext,
        executor: Executor,
        kernels: ImageKernels,
        reason: str,
    ) -> None:
        self.info = BackendInfo(name, executor.runtime, gpu.name, executor.precision, reason)
        self.max_batch = executor.max_batch
        self._gpu = gpu
        self._executor = executor
        self._kernels = kernels
        self._slots: list[CudaSlot] = []
        self._closed = False
        try:
            self._warm_up(settings.width, settings.height)
        except BaseException:
            self.close()
            raise

    def new_slot(self, batch: int = 1) -> CudaSlot:
        """Allocate the memory for up to `batch` pictures in flight.

        Raises
        ------
        GpuMemoryError
            If there is not enough.
        ValueError
            If the network does not take so many.
        """
        check_batch(batch, self.max_batch)
        slot = CudaSlot(
            self._gpu, lambda: BatchRunner(self._gpu, self._executor, self._kernels, batch)
        )
        self._slots.append(slot)
        return slot

    def close(self) -> None:
        """Release the network, and slots that are still open; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for slot in self._slots:
            slot.close()
        if self._gpu.lost or any(slot.abandoned for slot in self._slots):
            self._gpu.keep_forever(self._executor)
            return
        with self._gpu.current():
            self._executor.close()
            self._gpu.flush()

    @property
    def video_decoder(self) -> OpenDecoder:
        """Opens NVDEC."""
        return open_nvdec

    def _warm_up(self, width: int, height: int) -> None:
        """Run once: kernels are loaded now, and what cannot run fails before the first frame."""
        slot = self.new_slot()
        slot.preprocess([np.zeros((height, width, 3), np.uint8)])
        slot.infer()
        slot.detect()
        slot.close()
        self._slots.remove(slot)
        with self._gpu.current():  # what the first picture of the GPU's decoder would wait for
            self._kernels.preprocessor(self._kernels.make_fit((width, height)), "bt709")
