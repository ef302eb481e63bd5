"""The interface of a back end, and the settings that all back ends share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from squeezedrive.engines.backends.video_decoder import OpenDecoder
from squeezedrive.engines.model.weights import Weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit, FitMode, HostPicture, make_fit
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams


@dataclass(frozen=True)
class BackendInfo:
    """The back end that runs, its device, and the reason for the choice.

    Attributes
    ----------
    name : str
        A key of `engines.backends.select.BACKENDS`.
    runtime, device : str
        Library with version, and the processor it uses.
    precision : str
        Number format of the arithmetic.
    reason : str
        The reason for this back end: it was asked for, or the obstacles to a faster one.
    """

    name: str
    runtime: str
    device: str
    precision: str
    reason: str


@dataclass(frozen=True)
class EngineSettings:
    """Settings that are the same for every back end.

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
    int8 : Path or None
        The quantised model of these weights (`python -m engines quantize`), if there is one.
    """

    weights: Weights
    width: int
    height: int
    detect: DetectParams
    fit: FitMode = "band"
    band_centre: float = 0.5
    int8: Path | None = None

    def head(self) -> Head:
        """Return how to decode the output of these weights at this input size."""
        return self.weights.profile.head(self.width, self.height)

    def fit_of(self, source_size: tuple[int, int]) -> Fit:
        """Return how a picture of this width and height is put into the input."""
        size = (self.width, self.height)
        beyond = self.weights.profile.output.reach > 0
        return make_fit(self.fit, source_size, size, self.band_centre, beyond)


class BackendOptions(BaseModel):
    """Base class of options for a single back end: a group of keys of the configuration.

    A back end with options defines them in its own folder, each with a default. Every back end gets
    all groups and takes its own with `find_options`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


Options = TypeVar("Options", bound=BackendOptions)


def find_options(kind: type[Options], options: Iterable[BackendOptions]) -> Options:
    """Return the options of one class, or its defaults if they are not given."""
    return next((group for group in options if isinstance(group, kind)), kind())


class Slot(ABC):
    """The working memory for one batch of pictures.

    For each batch, the three steps are called once, in this order, each by the thread of its stage.
    In the first two, a back end may merely enqueue work; `detect` returns when the boxes are ready.
    """

    @abstractmethod
    def preprocess(self, images: Sequence[HostPicture]) -> None:
        """Put pictures into the network's input: BGR (height, width, 3), or what has such rows.

        The number of pictures is at least one and at most that of `new_slot`; pictures may have any
        size. Number and sizes may differ in each call.
        """

    @abstractmethod
    def infer(self) -> None:
        """Run the network."""

    @abstractmethod
    def detect(self) -> list[Detections]:
        """Return the boxes of each picture, in the order given, in pixels of that picture."""

    @abstractmethod
    def close(self) -> None:
        """Release the memory."""

    @property
    def device_seconds(self) -> Mapping[str, float]:
        """Seconds that an accelerator spent on each step of the last batch, by its own clock.

        Keys are "preprocess", "infer" and "detect"; valid from `detect` until the next
        `preprocess`. Empty if the steps run in the threads that call them.
        """
        return {}


class Backend(ABC):
    """A network loaded and ready to run.

    Attributes
    ----------
    info : BackendInfo
        Its name, library, device and number format.
    max_batch : int
        The largest number of pictures in one slot.
    parallel : int
        The number of slots, each with a thread, that are worth running `infer` at the same time.
    batch_pays : bool
        Whether a batch of pictures takes less time than the same pictures one by one.
    """

    info: BackendInfo
    max_batch: int
    parallel: int = 1
    batch_pays: bool = False

    @abstractmethod
    def new_slot(self, batch: int = 1) -> Slot:
        """Allocate the memory for up to `batch` pictures in flight, 1 to `max_batch`."""

    @abstractmethod
    def close(self) -> None:
        """Release the network. All slots must be closed before."""

    @property
    def video_decoder(self) -> OpenDecoder | None:
        """A function that opens a video decoder on the device; None without such a decoder.

        With a decoder, `Slot.preprocess` also accepts a `DevicePicture`.
        """
        return None


def check_batch(batch: int, most: int) -> None:
    """Raise ValueError if a number of pictures is not between 1 and `most`."""
    if not 1 <= batch <= most:
        raise ValueError(f"expected 1 to {most} pictures at a time, got {batch}")
