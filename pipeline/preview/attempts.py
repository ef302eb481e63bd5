"""Limit how often passwords can be guessed."""

from __future__ import annotations

import ipaddress
import threading
import time

MOST_WRONG = 10  # passwords of one client within
PERIOD = 60.0  # seconds
MOST_CLIENTS = 1024  # that are remembered
IPV6_PREFIX = 64  # bits: every machine can give itself all addresses with the same ones


class Attempts:
    """Counts wrong passwords by client, in memory that does not grow with their number.

    A client is an IPv4 address, or all IPv6 addresses of a network.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: dict[str, tuple[float, int]] = {}  # since when, and how many

    def allowed(self, client: str) -> bool:
        """Return whether a client may still give a password, right or wrong."""
        client = _network_of(client)
        with self._lock:
            since, count = self._wrong.get(client, (0.0, 0))
            return count < MOST_WRONG or time.monotonic() - since > PERIOD

    def wrong(self, client: str) -> None:
        """Count a wrong password."""
        client = _network_of(client)
        now = time.monotonic()
        with self._lock:
            since, count = self._wrong.pop(client, (now, 0))
            if now - since > PERIOD:
                since, count = now, 0
            if len(self._wrong) >= MOST_CLIENTS:  # the client whose last wrong one is oldest
                del self._wrong[next(iter(self._wrong))]
            self._wrong[client] = since, count + 1


def _network_of(client: str) -> str:
    """Return the address of a client, or of its network if it is one of IPv6."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> IPV6_PREFIX << IPV6_PREFIX))
