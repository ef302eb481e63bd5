"""Settings of a back end with a small input, for tests."""

from __future__ import annotations

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.params import DetectParams

PARAMS = DetectParams(threshold=0.0, top_n=64, nms_iou=0.4, greedy=True, classes=None)


def settings(**changes: object) -> EngineSettings:
    values = {"weights": load_weights(DEFAULT), "width": 192, "height": 96, "detect": PARAMS}
    return EngineSettings(**{**values, **changes})  # type: ignore[arg-type]
