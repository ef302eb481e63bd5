"""Keeps the state of a live source, and logs its changes."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from squeezedrive.pipeline.core.source import ConnectionState, SourceState

log = logging.getLogger("squeezedrive")


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
