"""Errors of sources and sinks; see `engines.errors` for how they are shown."""

from __future__ import annotations

from squeezedrive.engines.errors import UserError


class SourceError(UserError, OSError):
    """A source cannot be opened, or fails while it is read."""


class SourceTimeout(SourceError, TimeoutError):
    """A source did not answer in time."""


class SinkError(UserError, OSError):
    """An output cannot be opened or written."""


class ProfileError(UserError, ValueError):
    """A run cannot be profiled, or a profile cannot be read."""


class PreviewError(UserError, OSError):
    """The live page cannot be served."""
