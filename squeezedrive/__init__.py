"""SqueezeDrive finds cars, cyclists and pedestrians in road video.

    from squeezedrive import detect

    for result in detect("drive.mp4"):
        print(result.pts, result.class_names, result.boxes)

`detect` reads videos, cameras and streams; `Detector` takes pictures that are in memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squeezedrive.detector import Detector
    from squeezedrive.engines.errors import (
        BackendUnavailable,
        ConfigError,
        PackageMissing,
        UserError,
        WeightsError,
    )
    from squeezedrive.pipeline.core.errors import SinkError, SourceError, StageError
    from squeezedrive.result import Result
    from squeezedrive.runs import DetectionRun, detect

__all__ = [
    "BackendUnavailable",
    "ConfigError",
    "DetectionRun",
    "Detector",
    "PackageMissing",
    "Result",
    "SinkError",
    "SourceError",
    "StageError",
    "UserError",
    "WeightsError",
    "detect",
]

# Imported when first used: every command imports this package, and few need OpenCV at once.
_MODULES = {
    "BackendUnavailable": "squeezedrive.engines.errors",
    "ConfigError": "squeezedrive.engines.errors",
    "DetectionRun": "squeezedrive.runs",
    "Detector": "squeezedrive.detector",
    "PackageMissing": "squeezedrive.engines.errors",
    "Result": "squeezedrive.result",
    "SinkError": "squeezedrive.pipeline.core.errors",
    "SourceError": "squeezedrive.pipeline.core.errors",
    "StageError": "squeezedrive.pipeline.core.errors",
    "UserError": "squeezedrive.engines.errors",
    "WeightsError": "squeezedrive.engines.errors",
    "detect": "squeezedrive.runs",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'squeezedrive' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
