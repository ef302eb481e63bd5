"""Requests to the live page, byte by byte."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hypothesis import strategies as st

from squeezedrive.pipeline.preview.attempts import Attempts
from squeezedrive.pipeline.preview.server import PreviewServer
from tests.fuzz.case import Case
from tests.fuzz.mutate import damaged_one_of
from tests.fuzz.targets.base import Target
from tests.fuzz.values import json_bytes, odd_json, odd_texts
from tests.support.preview import Run, preview_threads

TOKEN = "secret"
HOST = "Host: localhost"
AUTHORISED = f"Authorization: Bearer {TOKEN}"
ANSWER_SECONDS = 5.0  # a request for a picture waits up to one second
PATHS = (
    "/", "/page.js", "/page.css", "/icon.svg", "/pictures/0", "/pictures/0?last=1", "/pictures/1",
    "/status", "/controls", "/health", "/metrics", "/?token=secret", "/status?token=x", "//", "/..",
    "/../../etc/passwd", "/%2e%2e/%2fetc/passwd", "http://localhost/status", "http://[", "*", "",
    "/pictures/", "/pictures/-1", "/pictures/99999999999999999999", "/pictures/0?last=-1",
    "/pictures/%30", "/pictures/٠", "/pictures/0?last=" + "9" * 5000, "/a?" + "&" * 3000,
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", "G" * 300, "")
HEADERS = (
    "Host: 127.0.0.1", "Host: evil.example", "Host: localhost:1", "Host:", "Host: [::1]",
    "Host: \xff",
    "Content-Length: -1", "Content-Length: 5", "Content-Length: 99999999999999999999",
    "Content-Length: 0x5", "Content-Length: ٥", "Content-Length: 1, 2", "Content-Length: +2",
    "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close",
    "Connection: keep-alive", "Connection: upgrade", "Upgrade: websocket", "Origin: http://evil",
    "Cookie: token=secret", "Cookie: =; ;;==", "Cookie: " + "a=b; " * 2000,
    "Authorization: Basic x",
    "Authorization: Bearer", "Authorization: Bearer \xff\xfe", "Range: bytes=0-", " folded",
    "\0: \0",
    "If-None-Match: *", "Content-Type: text/plain", "Content-Type: application/json; charset=x",
    "A: " + "b" * 70000,
)  # fmt: skip
BODIES = (
    b'{"threshold": 0.4}', b'{"classes": ["car"]}', b'{"threshold": NaN, "classes": null}',
    b'{"threshold": 1e999}', b"[]", b"{", b"\xff", b"[" * 2000, b'{"classes": [[1]]}',
    b"5\r\n{}\r\n0\r\n",
)  # fmt: skip
GOOD = (
    f"GET /status HTTP/1.1\r\n{HOST}\r\n{AUTHORISED}\r\n\r\n".encode(),
    f"GET /?token={TOKEN} HTTP/1.1\r\n{HOST}\r\n\r\n".encode(),
    (
        f"POST /controls HTTP/1.1\r\n{HOST}\r\n{AUTHORISED}\r\nContent-Type: application/json\r\n"
        'Content-Length: 18\r\n\r\n{"threshold": 0.4}'
    ).encode(),
    f"GET /pictures/0?last=0 HTTP/1.1\r\n{HOST}\r\nCookie: token_1={TOKEN}\r\n\r\n".encode(),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
)


def _request(
    method: str, path: str, version: str, headers: Sequence[str], body: bytes, counted: bool
) -> bytes:
    if counted:
        headers = [*headers, f"Content-Length: {len(body)}", "Content-Type: application/json"]
    head = "\r\n".join((f"{method} {path} {version}", *headers))
    return head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def requests() -> st.SearchStrategy[Case]:
    """Return a strategy for the bytes that a client sends, and for the way it sends them."""
    some = st.lists(
        st.one_of(st.sampled_from(HEADERS), odd_texts.map("X: {}".format), odd_texts), max_size=3
    )
    known = st.lists(st.sampled_from((HOST, AUTHORISED)), min_size=1, max_size=2, unique=True)
    keys = st.one_of(st.sampled_from(("threshold", "classes")), odd_texts)
    bodies = st.one_of(
        st.sampled_from(BODIES), st.dictionaries(keys, odd_json, max_size=2).map(json_bytes),
        st.just(b""),
    )  # fmt: skip
    one = st.builds(
        _request,
        st.sampled_from(("GET", "POST", *METHODS)),
        st.one_of(st.sampled_from(PATHS), odd_texts.map("/{}".format)),
        st.sampled_from(("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/9.9", "HTTP/1.1.1", "", "\0")),
        st.builds(lambda first, rest: [*first, *rest], known, some),
        bodies,
        st.booleans(),
    )
    content = st.one_of(one, one, damaged_one_of(GOOD), st.lists(one, max_size=3).map(b"".join))
    return st.builds(
        lambda content, ending: Case((ending,), {"request": content}),
        content,
        st.sampled_from(("shut", "shut", "shut", "reset", "pieces")),
    )


class _Page:
    """The page that is served during the requests."""

    server: PreviewServer | None = None


@contextmanager
def serving() -> Iterator[None]:
    """Serve the live page, with a password and a picture."""
    run = Run()
    run.sources[0]["name"] = "drive"
    log = logging.getLogger("squeezedrive")
    with run.server(token=TOKEN) as server, run.feeding():
        _Page.server = server
        while len(preview_threads()) != 1:
            time.sleep(0.01)
        handler = logging.StreamHandler(sys.stderr)
        log.addHandler(handler)
        yield


def send(case: Case) -> int:
    """Send a request; raise if the answer is not HTTP, or if the page fails the next request."""
    server = _Page.server
    assert server is not None
    # The listener reports only its first error, and sys.stderr may have changed since then.
    server._listener._reported = False
    # A fast machine sends more wrong passwords in a minute than the page allows all clients.
    server._view.access._attempts = Attempts()
    for handler in logging.getLogger("squeezedrive").handlers:
        handler.setStream(sys.stderr)  # type: ignore[attr-defined]
    answer = _ask(bytes(case.files["request"]), case.arguments[0])
    if answer and not answer.startswith(b"HTTP/1."):
        raise AssertionError(f"not an HTTP answer: {answer[:100]!r}")
    if b"root:" in answer:
        raise AssertionError("the answer contains a system file")
    good = _ask(GOOD[0], "shut")
    if not good.startswith(b"HTTP/1.1 200") or not _is_json(good.partition(b"\r\n\r\n")[2]):
        raise AssertionError(f"the next request got {good[:100]!r}")
    return 0


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _ask(data: bytes, ending: str) -> bytes:
    server = _Page.server
    assert server is not None
    answer = b""
    address = server._listener.server_address[:2]
    client = socket.create_connection(address, ANSWER_SECONDS)
    with client, suppress(OSError):  # once the server has closed the connection: ENOTCONN too
        if ending == "pieces":
            for at in range(0, min(len(data), 40), 7):
                client.sendall(data[at : at + 7])
            client.sendall(data[42:])
        else:
            client.sendall(data)
        if ending == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return b""
        client.shutdown(socket.SHUT_WR)
        while len(answer) < 1 << 20 and (piece := client.recv(65536)):
            answer += piece
    return answer


TARGETS = {"http": Target(requests, send, 100, 60, serving, connects=True)}
