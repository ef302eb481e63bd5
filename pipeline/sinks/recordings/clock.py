"""Find out when the pictures of a recording were taken."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line imports this for its help, which does not wait for NumPy
    from squeezedrive.pipeline.core.frame import Frame
    from squeezedrive.pipeline.core.source import Source


class RecordingClock:
    """Date pictures by the time in the file, or by this computer's clock if the file has none.

    Parameters
    ----------
    source : Source, optional
        Where the pictures come from; None for this computer's clock.
    """

    def __init__(self, source: Source | None = None) -> None:
        self._source = source
        self._began = Fraction(0)  # when the source's clock was at 0, by this computer's

    def see(self, frame: Frame) -> float:
        """Return when a frame was taken that has just come, in seconds since 1970."""
        if self._own is not None:
            return self.at(frame.pts * frame.time_base)
        now = time.time()
        self._began = Fraction(now) - Fraction(frame.seconds)
        return now

    def at(self, seconds: Fraction) -> float:
        """Return when a frame was taken that came before, by its time on the source's clock."""
        own = self._own
        return float((self._began if own is None else own) + seconds)

    @property
    def began(self) -> Fraction | None:
        """When the source's clock was at 0, in seconds since 1970; None if it is not known."""
        live = self._source is not None and self._source.info.live
        return self._began if live else self._own

    @property
    def _own(self) -> Fraction | None:
        return None if self._source is None else self._source.info.identity.began
