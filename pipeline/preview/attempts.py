"""Limit how often passwords can be guessed."""

from __future__ import annotations

import threading
import time

MOST_WRONG = 10  # passwords of one client within
PERIOD = 60.0  # seconds
MOST_CLIENTS = 1024  # that are remembered


class Attempts:
    """Counts wrong passwords by client, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[float, int]] = {}  # since when, and how many

    def allowed(self, client: str) -> bool:
        """Return whether a client may still give a password, right or wrong."""
        with self._lock:
            since, count = self._wrong.get(client, (0.0, 0))
            return count < MOST_WRONG or time.monotonic() - since > PERIOD

    def wrong(self, client: str) -> None:
        """Count a wrong password."""
        now = time.monotonic()
        with self._lock:
            since, count = self._wrong.pop(client, (now, 0))
            if now - since > PERIOD:
                since, count = now, 0
            if len(self._wrong) >= MOST_CLIENTS:  # the client whose last wrong one is oldest
                del self._wrong[next(iter(self._wrong))]
            self._wrong[client] = since, count + 1
