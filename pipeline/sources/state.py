"""How a live source is doing, and the line of the log when that changes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Literal

log = logging.getLogger("squeezedrive")

ConnectionState = Literal["connecting", "connected", "stalled", "reconnecting", "given up"]


@dataclass(frozen=True)
class SourceState:
    """How a live source is doing at one moment; never changed, so that any thread may look.

    Attributes
    ----------
    condition : str
        "connecting" until there was a picture, "connected" while they come, "stalled" when none
        comes though the connection stands, "reconnecting" while it is opened again, "given up".
    since : float
        When that began, in seconds of `time.monotonic`.
    last_picture : float or None
        When the last picture came, in seconds of `time.monotonic`.
    reconnects : int
        How often pictures came again over a new connection.
    last_error : str or None
        What the last attempt or connection failed with, without passwords.
    """

    condition: ConnectionState
    since: float
    last_picture: float | None = None
    reconnects: int = 0
    last_error: str | None = None


class StateKeeper:
    """Keeps the state of one source and logs each change of it as one line.

    That it is given up is not logged: the error says so that the source raises then.

    Its methods are called by one thread at a time.

    Parameters
    ----------
    name : str
        The source, without passwords.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tries = 0
        self._began = time.monotonic()
        self.state = SourceState("connecting", self._began)

    @property
    def quiet_since(self) -> float:
        """When the last picture came, or else when waiting for the first one began."""
        last = self.state.last_picture
        return self._began if last is None else last

    def trying(self) -> None:
        """Count an attempt to open the source."""
        self._tries += 1

    def picture(self) -> None:
        """Take notice of a picture."""
        now, state = time.monotonic(), self.state
        if state.condition != "connected":
            tries = f", {self._tries} {'try' if self._tries == 1 else 'tries'}"
            quiet = f"after {now - self.quiet_since:.1f} s"
            if state.condition == "stalled":
                log.info("%s: pictures again %s", self._name, quiet)
            elif state.last_picture is not None:
                log.info("%s: connected again %s%s", self._name, quiet, tries)
                state = replace(state, reconnects=state.reconnects + 1)
            elif self._tries:
                log.info("%s: connected %s%s", self._name, quiet, tries)
            state = replace(state, condition="connected", since=now)
            self._tries = 0
        self.state = replace(state, last_picture=now)

    def stalled(self) -> None:
        """Take notice that no picture comes."""
        now = time.monotonic()
        log.warning("%s: no picture for %.1f s", self._name, now - self.quiet_since)
        self.state = replace(self.state, condition="stalled", since=now)

    def failed(self, reason: str, for_good: bool) -> None:
        """Take notice that a connection, or an attempt to make one, has failed."""
        condition: ConnectionState = "given up" if for_good else "reconnecting"
        if self.state.condition != condition:
            if not for_good:
                log.warning("%s; trying again", reason)
            self.state = replace(self.state, condition=condition, since=time.monotonic())
        self.state = replace(self.state, last_error=reason)
