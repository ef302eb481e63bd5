"""The address that the live page is served at."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from squeezedrive.engines.errors import ConfigError

EXPECTED = "expected [HOST:]PORT, for example 8080 or 0.0.0.0:8080"


@dataclass(frozen=True)
class Address:
    """A host and port that a server binds to."""

    host: str  # IP address, version 4 or 6
    port: int  # 0 to 65535; 0 for one that is free

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str | int) -> Address:
    """Parse [HOST:]PORT; without a host it is 127.0.0.1, an IPv6 address is in brackets.

    Raises
    ------
    ConfigError
        If it is not such an address, or the host has no address on this network.
    """
    host, colon, port = str(text).rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"preview.address: {EXPECTED}, got {text!r}")
    if not colon:
        return Address("127.0.0.1", int(port))
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        raise ConfigError(f"preview.address: {EXPECTED}, IPv6 as [::1]:8080; got {text!r}")
    host = host[1:-1] if bracketed else host
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConfigError(f"preview.address: {host} is not an address of this machine") from None
    return Address(str(found[0][4][0]), int(port))


def check_reach(address: Address, token: str | None) -> None:
    """Reject an address that other machines can reach without a password.

    Raises
    ------
    ConfigError
        If other machines can reach it and there is no token.
    """
    if not token and not address.loopback:
        raise ConfigError(
            f"preview.address: {address} can be reached from other machines, which needs a"
            " password: set preview.token, or leave out the host to serve this machine only"
        )
