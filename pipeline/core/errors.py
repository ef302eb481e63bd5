"""Errors of a pipeline, its sources and sinks; see `engines.errors` for how they are shown."""

from __future__ import annotations

from squeezedrive.engines.errors import UserError


class SourceError(UserError, OSError):
    """A source cannot be opened, or fails while it is read."""


class SourceTimeout(SourceError, TimeoutError):
    """A source did not answer in time."""


class SinkError(UserError, OSError):
    """An output cannot be opened or written."""


class GpsError(UserError, ValueError):
    """A track of positions cannot be read, or does not belong to the recording."""


class ProfileError(UserError, ValueError):
    """A run cannot be profiled, or a profile cannot be read."""


class PreviewError(UserError, OSError):
    """The live page cannot be served."""


class StageError(RuntimeError):
    """A stage failed by a fault in the program, not by the user's input."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"stage {stage} failed: {type(error).__name__}: {error}")
        self.stage = stage


class Stuck(UserError):
    """A stage hangs in a call to the system, so the run ends without it."""
