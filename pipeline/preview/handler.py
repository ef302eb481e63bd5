"""Answer the requests of one connection to the live page."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Mapping
from email import errors
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST

from squeezedrive.pipeline.preview.access import TooManyAttempts
from squeezedrive.pipeline.preview.attempts import PERIOD
from squeezedrive.pipeline.preview.listener import REQUEST_SECONDS, Listener
from squeezedrive.pipeline.preview.status import health
from squeezedrive.pipeline.preview.view import View

Query = dict[str, list[str]]

PICTURE_SECONDS = 1.0  # for which a request for a picture waits for the next one
MAX_HEAD = 65536  # bytes of a request before its body
MAX_BODY = 4096

FOLDER = Path(__file__).parent
TEXT = "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
FOR_EVERYBODY = ("/page.css", "/icon.svg")  # what the page that asks for the password needs

# What Python's parser of messages passes over, and the lines after it: a proxy may not.
NO_HEADERS = (
    errors.FirstHeaderLineIsContinuationDefect,
    errors.InvalidHeaderDefect,
    errors.MisplacedEnvelopeHeaderDefect,
    errors.MissingHeaderBodySeparatorDefect,
)

# Against other pages in the same browser, and against traces of what the camera saw.
SAFETY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refusal(Exception):
    """A request that is refused, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Head(io.BufferedReader):
    """Reads the lines of a request, `MAX_HEAD` bytes at most."""

    left = MAX_HEAD

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, whole or `size` bytes of it."""
        line = super().readline(size)
        self.left -= len(line)
        if self.left < 0 and size is not None and len(line) < size:
            raise http.client.LineTooLong("request")  # which is answered with 431
        return line


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of a client from a `View`, until it leaves or takes too long."""

    protocol_version = "HTTP/1.1"
    timeout = REQUEST_SECONDS
    # An answer is written in two pieces; the second one would wait for the first one's receipt.
    disable_nagle_algorithm = True
    default_request_version = "HTTP/1.0"  # garbage also gets an answer with a status
    error_content_type = TEXT
    error_message_format = "%(code)d %(message)s\n"
    server_version = "SqueezeDrive"
    sys_version = ""

    def __init__(self, request: Any, client_address: Any, server: Listener, view: View) -> None:
        self._listener = server
        self._view = view
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        """Prepare to read; see `_Head`."""
        super().setup()
        self.rfile.close()
        self._head = _Head(self.connection.makefile("rb", buffering=0))
        self.rfile = self._head

    def handle_one_request(self) -> None:
        """Serve one request, within its time."""
        self._listener.begin_request(self.connection)
        self._head.left = MAX_HEAD
        super().handle_one_request()

    def end_headers(self) -> None:
        """Add the headers of every answer, also of the base class's answers to garbage."""
        for name, value in SAFETY.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        """Answer a request for something to look at."""
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answer a request to change something."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line for each request would bury the others, and may hold a token."""

    def _answer(self, method: Callable[[str, Query], None]) -> None:
        try:
            try:
                url = urlsplit(self.path)
            except ValueError:
                raise Refusal(HTTPStatus.BAD_REQUEST, "not a valid address") from None
            self._check_head()
            if not self._view.access.allows_host(self.headers):
                raise Refusal(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "this page is for this machine only; open it as http://localhost:PORT/",
                )
            if url.path not in FOR_EVERYBODY and not self._let_in(url.path, url.query):
                return
            method(url.path, parse_qs(url.query))
        except Refusal as refusal:
            # What follows on this connection may be the rest of a request that was not read.
            self.close_connection = True
            self._send(refusal.status, TEXT, f"{refusal.reason}\n".encode())
        except TooManyAttempts:
            self.close_connection = True
            text = b"too many wrong passwords from this address: wait a minute\n"
            self._send(HTTPStatus.TOO_MANY_REQUESTS, TEXT, text, {"Retry-After": f"{PERIOD:.0f}"})

    def _check_head(self) -> None:
        """Reject a request whose end or host a proxy might read differently than this server."""
        if any(isinstance(defect, NO_HEADERS) for defect in self.headers.defects):
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected headers: NAME: VALUE")
        if len(self.headers.get_all("Host", [])) > 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected one Host")
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
        if len(lengths) > 1 or (self.command != "POST" and lengths not in ([], ["0"])):
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected no body, and one Content-Length")

    def _let_in(self, path: str, query: str) -> bool:
        """Check the password; return False if this has answered the request already."""
        access, client = self._view.access, str(self.client_address[0])
        logging_in = self.command == "POST" and path == "/"
        tokens = self._tokens(query, logging_in)
        if tokens and access.is_token(tokens[0], client):
            # To the address without the token, which would stay in history and bookmarks; to no
            # other host, of which // and /\ are the beginning in a browser.
            headers = {"Location": "/" + path.lstrip("/\\"), "Set-Cookie": access.cookie()}
            self._send(HTTPStatus.SEE_OTHER, TEXT, b"", headers)
            return False
        if not logging_in and access.allows(self.headers, client):
            return True
        self.close_connection = True
        headers = {"WWW-Authenticate": "Bearer"}
        if path == "/":
            said = "Wrong password. " if tokens else ""
            page = (FOLDER / "login.html").read_text("utf-8").replace("{said}", said)
            self._send(HTTPStatus.UNAUTHORIZED, FILES["/"][1], page.encode(), headers)
        else:
            text = b"expected the token: Authorization: Bearer TOKEN\n"
            self._send(HTTPStatus.UNAUTHORIZED, TEXT, text, headers)
        return False

    def _tokens(self, query: str, logging_in: bool) -> list[str]:
        """Return the password in the address, or in the form of the page that asks for it.

        Not that of a picture or frame in another page, which could use up all attempts.
        """
        if self.headers.get("Sec-Fetch-Dest", "document") != "document":
            return []
        if self.command == "GET":
            return parse_qs(query).get("token", [])
        if logging_in and self.headers.get_content_type() == FORM:
            return parse_qs(self._body().decode(errors="replace")).get("token", [])
        return []

    def _get(self, path: str, query: Query) -> None:
        view = self._view
        if path in FILES:
            name, kind = FILES[path]
            self._send(HTTPStatus.OK, kind, (FOLDER / name).read_bytes())
        elif path == "/status":
            self._send_json(HTTPStatus.OK, view.page_status())
        elif path == "/health":
            found = health(view.status())
            good = found["healthy"]
            self._send_json(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, found)
        elif path == "/metrics":
            self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, view.metrics.render())
        elif path.startswith("/pictures/"):
            self._get_picture(path.removeprefix("/pictures/"), query.get("last", ["0"])[0])
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such page")

    def _get_picture(self, source: str, last: str) -> None:
        sinks = self._view.sinks
        if not _is_count(source) or int(source) >= len(sinks):
            raise Refusal(HTTPStatus.NOT_FOUND, f"expected a source from 0 to {len(sinks) - 1}")
        if not _is_count(last):
            raise Refusal(HTTPStatus.BAD_REQUEST, "last: expected the number of a picture")
        jpeg = sinks[int(source)].picture(int(last), PICTURE_SECONDS)
        if jpeg is None:
            self._send(HTTPStatus.NO_CONTENT, None, b"")
        else:
            number = {"X-Picture": str(jpeg.number)}
            self._send(HTTPStatus.OK, "image/jpeg", jpeg.data, number)

    def _post(self, path: str, query: Query) -> None:
        if path != "/controls":
            raise Refusal(HTTPStatus.NOT_FOUND, "expected changes at /controls only")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json"
            )
        if not self._view.access.from_own_page(self.headers):
            raise Refusal(HTTPStatus.FORBIDDEN, "another site may not change the controls")
        try:
            self._view.change(self._body())
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._send_json(HTTPStatus.OK, self._view.controls_status())

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not _is_count(length):
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
        if int(length) > MAX_BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(
        self,
        status: HTTPStatus,
        kind: str | None,
        body: bytes,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if kind is not None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12
