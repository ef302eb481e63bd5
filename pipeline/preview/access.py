"""Access to the live page: the password, and requests that other sites must not make."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from email.message import Message
from urllib.parse import urlsplit

from squeezedrive.pipeline.preview.attempts import Attempts

COOKIE_SECONDS = 365 * 24 * 3600  # a tablet in a vehicle should not need the password again

Headers = Message


class TooManyAttempts(Exception):
    """Too many wrong passwords came from one address."""


class Access:
    """Checks requests: the password, and what other pages in a browser must not do.

    Parameters
    ----------
    token : str or None
        The password; None if every client may see everything.
    loopback : bool
        Whether the server can be reached from this machine only.
    port : int
        Of the server; browsers do not keep the cookies of ports apart.
    encrypted : bool
        Whether the server speaks HTTPS: its cookie then never goes over plain HTTP.
    """

    def __init__(
        self, token: str | None, loopback: bool, port: int, encrypted: bool = False
    ) -> None:
        self._token = token.encode() if token else None
        self._loopback = loopback
        self._attempts = Attempts()
        self._secure = "; Secure" if encrypted else ""
        self._cookie_name = f"squeezedrive_{port}"
        # The same after a restart, so that an open page goes on; it reveals nothing of the token.
        key = self._token or b""
        self._cookie = hmac.new(key, b"squeezedrive live page", hashlib.sha256).hexdigest()

    def allows_host(self, headers: Headers) -> bool:
        """Return whether a request names this machine in a way that means no other machine.

        A name in the domain of a web page can be made to point here (DNS rebinding), and the page
        would pass for this server's own. Servers on the network have their token against that.
        """
        if not self._loopback:
            return True
        given = headers.get("Host", "")
        try:
            url = urlsplit(f"//{given}")
            host = url.hostname or ""
            if url.netloc != given or "@" in given:
                return False
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def allows(self, headers: Headers, client: str) -> bool:
        """Return whether a request has the password, or the cookie that stands for it.

        Raises
        ------
        TooManyAttempts
            As `is_token`.
        """
        if self._token is None:
            return True
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        # Headers arrive decoded as Latin-1, whatever they were.
        given = given.strip().encode("latin-1", errors="replace").decode(errors="replace")
        if scheme.lower() == "bearer" and self.is_token(given, client):
            return True
        for cookie in headers.get("Cookie", "").split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == self._cookie_name:
                return hmac.compare_digest(value.encode(), self._cookie.encode())
        return False

    def is_token(self, text: str, client: str) -> bool:
        """Return whether a text is the password, in a time that does not reveal how much is right.

        `client` is the address from which it comes.

        Raises
        ------
        TooManyAttempts
            If too many recent ones from there were wrong; this one may be right.
        """
        if self._token is None:
            return False
        if not self._attempts.allowed(client):
            raise TooManyAttempts
        right = hmac.compare_digest(text.encode(errors="replace"), self._token)
        if not right:
            self._attempts.wrong(client)
        return right

    def cookie(self) -> str:
        """Return the value of a Set-Cookie header that lets a browser in from now on."""
        return (
            f"{self._cookie_name}={self._cookie}; Path=/; Max-Age={COOKIE_SECONDS};"
            f" HttpOnly; SameSite=Strict{self._secure}"
        )

    @staticmethod
    def from_own_page(headers: Headers) -> bool:
        """Return whether no page of another site can have caused a request to change something.

        Browsers state where a request comes from; other programs do not, and are not a danger.
        """
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        origin, host = headers.get("Origin"), headers.get("Host")
        return origin is None or origin in (f"http://{host}", f"https://{host}")
