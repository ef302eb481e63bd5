"""Detect objects in pictures in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import numpy as np

from squeezedrive.engines.backends.base import Slot
from squeezedrive.options import configure
from squeezedrive.pipeline.app.network import describe_network, open_network
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.frame import Frame, Image
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.result import Result

# Settings that only frames of a video can have.
_PICTURES_ALONE = {"track.enabled": False, "track.every": 1, "preview.address": None}


class Detector:
    """The network, loaded once, for pictures of any size.

    Use it in a `with` block or call `close`. Threads may share one: pictures take turns.

    Parameters
    ----------
    threshold : float, optional
        Lowest score of a box, 0 to 1.
    classes : collection of str
        Only these; empty: all that the network knows.
    fit : str, optional
        How a picture is fitted into the wide input: "band", "letterbox" or "stretch".
    backend : str, optional
        Back end that runs the network: "auto", "tensorrt", "torch" or "cpu".
    config : str or Path, optional
        A file that changes some keys of configs/file.yaml.
    settings : mapping, optional
        Values by dotted configuration key, such as ``{"detect.top_n": 64}``.

    Attributes
    ----------
    class_names : tuple of str
        Names of the network's classes, in the order of their indices.

    Raises
    ------
    UserError
        If an argument, a file or the back end asked for cannot be used.
    """

    def __init__(
        self,
        *,
        threshold: float | None = None,
        classes: Collection[str] = (),
        fit: str | None = None,
        backend: str | None = None,
        config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        # One stream: all cores work on one picture, as the caller waits for it.
        chosen = {"cpu.streams": 1, **(settings or {}), **_PICTURES_ALONE}
        options = configure(
            config, chosen, threshold=threshold, classes=classes or None, fit=fit, backend=backend
        )
        network = describe_network(options)
        self.class_names = network.class_names
        self._backend = open_network(options, network)
        self._batch = self._backend.max_batch if self._backend.batch_pays else 1
        self._turn = threading.Lock()
        self._slot: Slot | None = self._backend.new_slot(self._batch)

    @overload
    def __call__(self, images: Image) -> Result: ...

    @overload
    def __call__(self, images: Sequence[Image]) -> list[Result]: ...

    def __call__(self, images: Image | Sequence[Image]) -> Result | list[Result]:
        """Find objects in one picture, or in each of several, which may differ in size.

        Parameters
        ----------
        images : uint8 array (height, width, 3), or a sequence of them
            BGR, as OpenCV reads them. They are not copied and not drawn on.

        Returns
        -------
        Result or list of Result
            One a picture, in their order; `frame` is the picture's place in the sequence.

        Raises
        ------
        SourceError
            If a picture has another shape or type.
        RuntimeError
            If the detector is closed.
        """
        if isinstance(images, Sequence) or np.ndim(images) == 4:
            return self._detect(list(images))
        return self._detect([images])[0]

    def _detect(self, images: list[Image]) -> list[Result]:
        for number, image in enumerate(images):
            _check(image, number)
        results: list[Result] = []
        with self._turn:
            if self._slot is None:
                raise RuntimeError("the detector is closed")
            for first in range(0, len(images), self._batch):
                group = images[first : first + self._batch]
                self._slot.preprocess(group)
                self._slot.infer()
                for image, found in zip(group, self._slot.detect(), strict=True):
                    number, now = len(results), time.monotonic()
                    frame = Frame(0, number, 0, Fraction(1), now, image)
                    results.append(Result(FrameResult(frame, found), self.class_names))
        return results

    def close(self) -> None:
        """Release the network; may be called more than once."""
        with self._turn:
            slot, self._slot = self._slot, None
            if slot is not None:
                slot.close()
                self._backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(image: Image, number: int) -> None:
    """Reject anything but a BGR picture."""
    if not isinstance(image, np.ndarray):
        got = type(image).__name__
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        got = f"{image.dtype} {image.shape}"
    else:
        return
    raise SourceError(
        f"picture {number}: expected a uint8 array (height, width, 3), BGR, got {got}"
    )
