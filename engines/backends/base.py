"""What a back end is, and what all of them need to know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from squeezedrive.engines.backends.video_decoder import OpenDecoder
from squeezedrive.engines.model.weights import Weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit, FitMode, make_fit
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams


@dataclass(frozen=True)
class BackendInfo:
    """Which back end runs, on what, and why it was chosen.

    Attributes
    ----------
    name : str
        As in `engines.backends.select.BACKENDS`.
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
    """What to run, whichever back end runs it.

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
        """Return what decoding has to know of these weights at this input size."""
        return self.weights.profile.head(self.width, self.height)

    def fit_of(self, source_size: tuple[int, int]) -> Fit:
        """Return how a picture of this width and height is put into the input."""
        size = (self.width, self.height)
        beyond = self.weights.profile.output.reach > 0
        return make_fit(self.fit, source_size, size, self.band_centre, beyond)


class BackendOptions(BaseModel):
    """Base of what only some back ends need to know: a group of keys of the configuration.

    A back end that has any defines them in its own folder, each with a default. All groups are
    handed to every back end, which takes its own with `find_options`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


Options = TypeVar("Options", bound=BackendOptions)


def find_options(kind: type[Options], options: Iterable[BackendOptions]) -> Options:
    """Return the options of a kind; its defaults if they are not among those given."""
    return next((group for group in options if isinstance(group, kind)), kind())


class Slot(ABC):
    """The working memory of a batch of pictures on their way through the back end.

    The three steps are called once each and in this order for a batch, each by its stage's thread.
    A back end may only enqueue work in the first two; `detect` returns when the boxes are there.
    """

    @abstractmethod
    def preprocess(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Put BGR pictures (height, width, 3) into the network's input.

        At least one and at most as many as the slot was made for, each of any size; both may
        change from call to call.
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
        `preprocess`. Empty where the steps run in the threads that call them.
        """
        return {}


class Backend(ABC):
    """A network loaded and ready to run.

    Attributes
    ----------
    info : BackendInfo
        What it is.
    max_batch : int
        How many pictures one slot can take.
    parallel : int
        How many slots are worth running `infer` at the same time, from as many threads.
    batch_pays : bool
        Whether several pictures at once take less time than one after the other.
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
        """Release the network. Slots have to be closed before."""

    @property
    def video_decoder(self) -> OpenDecoder | None:
        """What decodes video on the back end's device; None if it takes host pictures only.

        Slots of a back end that has one take a `DevicePicture` in `preprocess` as well.
        """
        return None


def check_batch(batch: int, most: int) -> None:
    """Raise ValueError if a number of pictures is not one of 1 to `most`."""
    if not 1 <= batch <= most:
        raise ValueError(f"expected 1 to {most} pictures at a time, got {batch}")
