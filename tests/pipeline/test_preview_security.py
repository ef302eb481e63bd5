"""Attacks on the live page: guessed passwords, smuggled requests, paths, endless requests."""

import json
from urllib.parse import urlencode

import pytest

from squeezedrive.pipeline.preview import attempts
from squeezedrive.pipeline.preview.attempts import MOST_CLIENTS, MOST_WRONG, PERIOD, Attempts
from squeezedrive.pipeline.preview.handler import FORM, MAX_HEAD, SAFETY
from tests.support.preview import Run, ask, request

GET = b"GET /status HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def url(run):
    with run.server() as server:
        yield server.url


@pytest.fixture
def guarded(run):
    with run.server(token="secret") as server:
        yield server.url


def log_in(url, token):
    return request(url, "/", "POST", urlencode({"token": token}).encode(), {"Content-Type": FORM})


def bearer(url, token):
    return request(url, "/status", headers={"Authorization": f"Bearer {token}"})[0]


# Passwords


def test_the_form_keeps_the_password_out_of_the_address(guarded):
    assert b'method="post"' in request(guarded, "/")[2]
    status, headers, _ = log_in(guarded, "secret")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].split(";")[0]
    assert request(guarded, "/status", headers={"Cookie": cookie})[0] == 200


def test_reports_a_wrong_password_in_the_form(guarded):
    status, headers, page = log_in(guarded, "wrong")
    assert status == 401
    assert b"Wrong password." in page
    assert "set-cookie" not in headers


def test_the_form_has_the_size_limit_of_a_request(guarded):
    assert log_in(guarded, "a" * 5000)[0] == 413


def test_too_many_wrong_passwords_lock_an_address(guarded):
    cookie = log_in(guarded, "secret")[1]["set-cookie"].split(";")[0]
    ways = [
        lambda: bearer(guarded, "wrong"),
        lambda: log_in(guarded, "wrong")[0],
        lambda: request(guarded, "/?token=wrong")[0],
    ]
    assert [ways[i % 3]() for i in range(MOST_WRONG)] == [401] * MOST_WRONG
    # The right password is refused as well: otherwise an attacker could go on guessing.
    assert bearer(guarded, "secret") == log_in(guarded, "secret")[0] == 429
    status, headers, _ = request(guarded, "/?token=secret")
    assert (status, headers["retry-after"]) == (429, "60")
    assert request(guarded, "/status", headers={"Cookie": cookie})[0] == 200
    assert request(guarded, "/")[0] == 401  # a request without a password is not a guess


def test_the_lock_ends_after_a_minute(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])
    tries = Attempts()
    for _ in range(MOST_WRONG):
        assert tries.allowed("a")
        tries.wrong("a")
    assert not tries.allowed("a")
    assert tries.allowed("b")
    now[0] += PERIOD + 1
    assert tries.allowed("a")
    tries.wrong("a")  # the first wrong password of a new minute
    assert tries.allowed("a")


@pytest.mark.parametrize(
    ("clients", "other"),
    [
        ([f"2001:db8::{n:x}" for n in range(MOST_WRONG)], "2001:db8:0:1::1"),
        ([f"::ffff:192.0.2.{n}" for n in (1,) * MOST_WRONG], "::ffff:192.0.2.2"),
        (["192.0.2.1"] * MOST_WRONG, "192.0.2.2"),
        (["fe80::1%eth0"] * MOST_WRONG, "192.0.2.2"),
    ],
)
def test_a_machine_with_many_addresses_is_one_client(clients, other):
    remembered = Attempts()
    for client in clients:
        assert remembered.allowed(client)
        remembered.wrong(client)
    assert not remembered.allowed(clients[0])
    assert remembered.allowed(other)


@pytest.mark.parametrize("destination", ["image", "iframe", "script"])
def test_other_pages_cannot_use_up_the_guesses(guarded, destination):
    for _ in range(2 * MOST_WRONG):
        headers = {"Sec-Fetch-Dest": destination}
        assert request(guarded, "/?token=wrong", headers=headers)[0] == 401
    assert log_in(guarded, "secret")[0] == 303


def test_the_memory_of_guesses_is_bounded():
    tries = Attempts()
    for _ in range(MOST_WRONG):
        tries.wrong("first")
    for number in range(MOST_CLIENTS):
        assert not tries.allowed("first")
        tries.wrong(str(number))
    assert tries.allowed("first")  # forgotten: the number of clients in memory is limited


# Headers


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"garbage\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_every_answer_has_the_security_headers(url, data):
    head = ask(url, data).partition(b"\r\n\r\n")[0].decode()
    found = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert {name: found.get(name) for name in SAFETY} == SAFETY
    assert "frame-ancestors 'none'" in found["Content-Security-Policy"]
    assert "Python" not in head
    assert "Access-Control-Allow-Origin" not in found


def test_request_text_is_echoed_only_as_plain_text(url):
    answer = ask(url, b"<script>alert(1)</script>\r\n\r\n")
    assert b"text/plain" in answer.partition(b"\r\n\r\n")[0]


# Size limits


@pytest.mark.parametrize("lines", [80, 99])
def test_the_head_of_a_request_has_a_size_limit(url, lines):
    data = GET + (b"A: " + b"b" * (MAX_HEAD // lines) + b"\r\n") * lines + b"\r\n"
    assert ask(url, data).startswith(b"HTTP/1.1 431")


def test_the_size_limit_starts_anew_for_each_request(url):
    long = GET + b"A: " + b"b" * (MAX_HEAD // 2) + b"\r\n\r\n"
    assert ask(url, long * 4).count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"Content-Length: %d\r\n", b"400"),
        (GET + b"Content-Length: 0\r\nContent-Length: %d\r\n", b"400"),
        (GET + b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"411"),
        (
            b"POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\nContent-Length: %d\r\n",
            b"400",
        ),
        (GET + b"Content-Length : %d\r\n", b"400"),
        (GET + b"no header\r\nContent-Length: %d\r\n", b"400"),
        (GET + b"From me\r\nContent-Length: %d\r\n", b"400"),
        (GET + b"Transfer-Encoding : chunked\r\nX: %d\r\n", b"400"),
    ],
)
def test_no_second_request_hides_in_the_body_of_the_first(url, head, status):
    hidden = GET + b"\r\n"
    answer = ask(url, head % len(hidden) + b"\r\n" + hidden)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1") == 1


def test_one_request_has_one_host(url):
    assert ask(url, GET + b"Host: evil.example\r\n\r\n").startswith(b"HTTP/1.1 400")


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/../handler.py", "/../../../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd",
        "/%2e%2e/handler.py", "/page.js/../handler.py", "/page.js%00.py", "/./page.js",
        "/handler.py", "/login.html", "/..\\..\\handler.py", "/pictures/../../etc/passwd", "/file:///etc/passwd",
        "http://localhost/../handler.py", "/page.css/", "/PAGE.JS",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(url, path):
    answer = ask(url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"root:" not in answer
    assert b"import " not in answer


def test_names_on_the_page_cannot_inject_markup(run, url):
    """Check that the page shows file names as plain text, and that JSON is not sent as HTML."""
    run.sources[0]["name"] = "<img src=x onerror=alert(1)>"
    status, headers, body = request(url, "/status")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["sources"][0]["name"] == run.sources[0]["name"]
    page = request(url, "/page.js")[2]
    for unsafe in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval("):
        assert unsafe not in page
