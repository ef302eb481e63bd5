"""What executes the network: the protocol of all back ends, and how one is chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.errors import BackendUnavailable
from squeezedrive.engines.model.weights import Weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import FitMode as FitKind
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams

if TYPE_CHECKING:
    from squeezedrive.engines.backends.cuda.backend import ExecutorName

BackendName = Literal["auto", "tensorrt", "torch", "cpu"]
CpuPrecision = Literal["auto", "int8", "bf16", "fp16", "fp32"]
CudaPrecision = Literal["fp16", "int8", "fp32"]


@dataclass(frozen=True)
class BackendInfo:
    """Which back end runs, on what, and why it was chosen.

    Attributes
    ----------
    name : str
        "tensorrt", "torch" or "cpu".
    runtime, device : str
        Library with version, and the processor it uses.
    precision : str
        Number format of the arithmetic.
    reason : str
        Why this back end: asked for, or what keeps a faster one from running.
    """

    name: str
    runtime: str
    device: str
    precision: str
    reason: str


@dataclass(frozen=True)
class EngineSettings:
    """How to run the network.

    Attributes
    ----------
    weights : Weights
        The network's parameters and profile.
    width, height : int
        Input size in pixels.
    detect : DetectParams
        Threshold, top-N and suppression.
    fit : str
        How a picture of another aspect is put into the input: "band", "letterbox" or "stretch".
    band_centre : float
        Where the middle of the band lies, as a fraction of the picture's height from the top.
    cpu_precision : str
        Number format of the CPU back end: "int8", which needs a quantised model, "bf16", "fp16",
        "fp32", or "auto": int8 if there is such a model, else fp32. Weights in fp16 are rounded to
        halves even where the processor then computes in single precision.
    threads : int
        Threads of the CPU back end; 0 for one per core this process may use.
    int8 : Path or None
        The quantised model of these weights (`python -m engines quantize`), if there is one.
    streams : int
        Frames the CPU back end works on at the same time, sharing the threads: 1 gives the
        shortest time per frame, more give more frames per second.
    cuda_precision : str
        Number format of the back ends on a GPU: "fp16", "int8", which needs TensorRT and a
        quantised model, or "fp32".
    """

    weights: Weights
    width: int
    height: int
    detect: DetectParams
    fit: FitKind = "band"
    band_centre: float = 0.5
    cpu_precision: CpuPrecision = "auto"
    threads: int = 0
    streams: int = 1
    int8: Path | None = None
    cuda_precision: CudaPrecision = "fp16"

    @property
    def cpu_threads(self) -> int:
        """Threads of the CPU back end, counted out."""
        return self.threads or len(os.sched_getaffinity(0))

    def fill(self) -> tuple[int, int, int]:
        """Return blue, green and red of what no picture covers: the mean, for the network zero."""
        profile = self.weights.profile.input
        mean = profile.mean if profile.channels == "BGR" else profile.mean[::-1]
        return round(mean[0]), round(mean[1]), round(mean[2])

    def head(self) -> Head:
        """Return what decoding has to know of these weights at this input size."""
        return self.weights.profile.head(self.width, self.height)


class Slot(Protocol):
    """The working memory of a batch of pictures on their way through the back end.

    The three steps are called once each and in this order for a batch, each by its stage's thread.
    A back end may only enqueue work in the first two; `detect` returns when the boxes are there.

    A slot may have an attribute `device_seconds`, a mapping of "preprocess", "infer" and "detect"
    to the seconds the accelerator spent on each for the last batch, measured by its own events
    and valid from `detect` until the next `preprocess`. The profiler reports it.
    """

    def preprocess(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Put BGR pictures (height, width, 3) into the network's input.

        At least one and at most as many as the slot was made for, each of any size; both may
        change from call to call.
        """

    def infer(self) -> None:
        """Run the network."""

    def detect(self) -> list[Detections]:
        """Return the boxes of each picture, in the order given, in pixels of that picture."""

    def close(self) -> None:
        """Release the memory."""


class Backend(Protocol):
    """A network loaded and ready to run.

    Attributes
    ----------
    info : BackendInfo
        What it is.
    parallel : int
        How many slots are worth running `infer` at the same time, from as many threads.
    max_batch : int
        How many pictures one slot can take.
    batch_pays : bool
        Whether several pictures at once take less time than one after the other.
    """

    info: BackendInfo
    parallel: int
    max_batch: int
    batch_pays: bool

    def new_slot(self, batch: int = 1) -> Slot:
        """Allocate the memory for up to `batch` pictures in flight, 1 to `max_batch`."""

    def close(self) -> None:
        """Release the network. Slots have to be closed before."""


def check_batch(batch: int, most: int) -> None:
    """Raise ValueError if a number of pictures is not one of 1 to `most`."""
    if not 1 <= batch <= most:
        raise ValueError(f"expected 1 to {most} pictures at a time, got {batch}")


def open_backend(name: BackendName, settings: EngineSettings) -> Backend:
    """Load the network into a back end; "auto" takes the fastest that can run here.

    Raises
    ------
    BackendUnavailable
        If the back end asked for cannot run on this machine; the message says what is missing.
    UserError
        If it can, but not with these settings.
    """
    from squeezedrive.engines.backends.cuda.backend import obstacles, open_cuda

    reason = "asked for"
    if name == "auto":
        reasons: dict[str, str] = {}
        candidates: tuple[ExecutorName, ...] = ("tensorrt", "torch")
        for candidate in candidates:
            found = obstacles(candidate)
            if found:
                reasons[candidate] = found[0]
                continue
            try:
                return open_cuda(candidate, settings, _reason(reasons) or "the fastest")
            except Exception as error:  # whatever it is, the next one may run
                reasons[candidate] = str(error) or type(error).__name__
        reason = _reason(reasons)
    elif name != "cpu":
        try:
            return open_cuda(name, settings, reason)
        except BackendUnavailable as error:
            raise BackendUnavailable(
                f"backend {name} cannot run here: {error}; --backend cpu runs anywhere"
            ) from None
    from squeezedrive.engines.backends.cpu.backend import (
        CpuBackend,  # OpenVINO is only loaded where it runs
    )

    return CpuBackend(settings, reason)


def _reason(obstacles: dict[str, str]) -> str:
    """Say in a few words why other back ends do not run: the first obstacle, without its remedy."""
    short = {name: text.splitlines()[0].split(" (")[0] for name, text in obstacles.items()}
    by_text: dict[str, list[str]] = {}
    for name, text in short.items():
        by_text.setdefault(text, []).append(name)
    return "; ".join(f"no {' and no '.join(names)}: {text}" for text, names in by_text.items())
