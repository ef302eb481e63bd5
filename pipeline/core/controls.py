"""Settings that may change while a run goes on."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from squeezedrive.kernels.detections import Detections


class Controls:
    """Threshold and classes of the boxes that are kept; any thread may change them at any time.

    Parameters
    ----------
    class_names : sequence of str
        Names in the order of the class indices.
    threshold : float
        Lowest score of a box.
    classes : collection of str
        Only these; empty: all.
    class_thresholds : mapping of str to float
        Classes with a lowest score of their own, until the threshold is changed.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        threshold: float,
        classes: Collection[str] = (),
        class_thresholds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.class_names = class_names
        self._lock = threading.Lock()
        self._threshold = threshold
        self._thresholds = np.array([class_thresholds.get(name, threshold) for name in class_names])
        self._wanted = np.array([name in classes or not classes for name in class_names])

    @property
    def threshold(self) -> float:
        """Lowest score of a box, but for classes with one of their own."""
        return self._threshold

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Lowest score of a box of each class, (classes,)."""
        return self._thresholds

    @property
    def classes(self) -> list[str]:
        """Names of the classes that are kept."""
        return [n for n, wanted in zip(self.class_names, self._wanted, strict=True) if wanted]

    def change(
        self, threshold: float | None = None, classes: Collection[str] | None = None
    ) -> None:
        """Change what is given from the next frame on; a threshold applies to all classes.

        Raises
        ------
        ValueError
            If the threshold is not between 0 and 1, or a class is unknown.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, got {threshold}")
        unknown = set(classes or ()) - set(self.class_names)
        if unknown:
            known = ", ".join(self.class_names)
            raise ValueError(f"classes: unknown {', '.join(sorted(unknown))}; there are {known}")
        with self._lock:
            if threshold is not None:
                self._threshold = threshold
                self._thresholds = np.full(len(self.class_names), threshold, np.float64)
            if classes is not None:
                self._wanted = np.array([name in classes for name in self.class_names])

    def filter(self, found: Detections) -> Detections:
        """Return the detections that are wanted now."""
        with self._lock:
            thresholds, wanted = self._thresholds.astype(np.float32), self._wanted
        return found[(found.scores >= thresholds[found.classes]) & wanted[found.classes]]
