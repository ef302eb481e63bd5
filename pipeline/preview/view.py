"""What the live page shows and changes, independent of HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from squeezedrive.engines.json_text import load_json
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.drawing import class_colours
from squeezedrive.pipeline.preview.access import Access
from squeezedrive.pipeline.preview.metrics import Metrics
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.preview.status import Status

STATUS_SECONDS = 0.25  # for which a status is reused for other requests


class View:
    """The status, pictures and controls of a run, for many requests at the same time.

    For the parameters see `PreviewServer`. One thread at a time asks for the status, four times a
    second at most.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        controls: Controls,
        sinks: Sequence[PreviewSink],
        access: Access,
    ) -> None:
        self.access = access
        self.sinks = sinks
        self.metrics = Metrics(self.status, controls)
        self._controls = controls
        self._colours = class_colours(controls.class_names)
        self._ask = status
        self._asking = threading.Lock()
        self._status: Status | None = None
        self._asked_at = 0.0

    def status(self) -> Status:
        """Return the status of the run, `STATUS_SECONDS` old at most."""
        with self._asking:
            now = time.monotonic()
            if self._status is None or now - self._asked_at > STATUS_SECONDS:
                self._status = self._ask()
                self._asked_at = now
            return self._status

    def controls_status(self) -> dict[str, Any]:
        """Return the threshold and the classes in force."""
        return {"threshold": self._controls.threshold, "classes": self._controls.classes}

    def page_status(self) -> dict[str, Any]:
        """Return everything the page shows, except the pictures."""
        known = [
            {"name": name, "colour": f"#{r:02x}{g:02x}{b:02x}"}
            for name, (b, g, r) in zip(self._controls.class_names, self._colours, strict=True)
        ]
        return {**self.status(), **self.controls_status(), "known_classes": known}

    def change(self, body: bytes) -> None:
        """Set the threshold, the classes, or both, from JSON.

        Raises
        ------
        ValueError
            With what was expected and what was given; nothing is changed.
        """
        try:
            wanted = load_json(body)
        except ValueError:
            raise ValueError("expected JSON") from None
        if not isinstance(wanted, dict) or not wanted:
            raise ValueError('expected {"threshold": 0 to 1, "classes": [names]}, or one of them')
        unknown = set(wanted) - {"threshold", "classes"}
        if unknown:
            raise ValueError(f"unknown {sorted(unknown)[0]}, expected threshold and classes")
        threshold, classes = wanted.get("threshold"), wanted.get("classes")
        # In JSON true is not a number, but in Python it is.
        if "threshold" in wanted and type(threshold) not in (int, float):
            raise ValueError(f"threshold: expected a number from 0 to 1, got {threshold!r}")
        if "classes" in wanted and not (
            isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        ):
            raise ValueError(f"classes: expected a list of names, got {classes!r}")
        self._controls.change(threshold=threshold, classes=classes)
