"""Clients that are slow, vanish, send garbage or are too many; the server ends in a second."""

import socket
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from squeezedrive.pipeline.preview import handler, listener
from squeezedrive.pipeline.preview.server import PreviewServer
from tests.support.preview import Run, ask, connect, preview_threads, request, result, until

GET_PICTURE = b"GET /pictures/0 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def url(run):
    with run.server() as server:
        yield server.url
    assert not preview_threads()


@pytest.mark.parametrize(
    ("data", "begin"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"HTTP/1.1 400"),
        (b"GET", b"HTTP/1.1 400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"HTTP/1.1 505"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 431"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 421"),
        (b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 501"),
        (b"GET /pictures/0?last=x HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (
            b"POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{",
            b"HTTP/1.1 400",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)
def test_malformed_requests_do_not_stop_the_server(url, data, begin, capfd):
    answer = ask(url, data)
    assert answer.startswith(begin)
    assert bool(answer) == bool(begin)
    assert request(url, "/")[0] == 200
    assert capfd.readouterr().err == ""


def test_one_connection_serves_many_requests(url):
    data = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3
    assert ask(url, data).count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_never_reads_does_not_delay_others(run, url):
    # The picture is larger than the buffers of both ends: the server has to wait while sending.
    noise = np.random.default_rng(0).integers(0, 256, (900, 960, 3), np.uint8)
    noisy = replace(result(), frame=replace(result().frame, picture=noise))
    stuck = [connect(url) for _ in range(4)]
    for client in stuck:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET_PICTURE * 20)
    with run.feeding(lambda: noisy):
        assert until(lambda: len(preview_threads()) == 5)
        last = 0
        for _ in range(5):
            status, headers, _ = request(url, f"/pictures/0?last={last}")
            assert status == 200
            assert int(headers["x-picture"]) > last
            last = int(headers["x-picture"])
    assert until(lambda: len(preview_threads()) == 5)  # all stuck clients are still connected
    for client in stuck:
        client.close()


def test_vanished_clients_leave_no_thread_or_handle(run, url):
    with run.feeding():
        for _ in range(20):
            client = connect(url)
            client.sendall(GET_PICTURE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            client.close()  # resets the connection before the answer is complete
        assert request(url, "/pictures/0")[0] == 200
        assert until(lambda: len(preview_threads()) == 1)


def test_too_many_connections_are_refused_until_some_close(run, url):
    clients = [connect(url) for _ in range(listener.MAX_CONNECTIONS)]
    assert until(lambda: len(preview_threads()) == listener.MAX_CONNECTIONS + 1)
    for _ in range(50 - listener.MAX_CONNECTIONS):
        with connect(url) as refused:
            assert refused.recv(100).startswith(b"HTTP/1.1 503 ")
    assert len(preview_threads()) == listener.MAX_CONNECTIONS + 1
    for client in clients:
        client.close()
    assert until(lambda: len(preview_threads()) == 1)
    assert request(url, "/")[0] == 200


def test_fifty_clients_get_pictures_at_once(run, url):
    answers = []

    def want() -> None:
        try:
            answers.append(request(url, "/pictures/0")[0])
        except OSError:  # the server had no room and closed the connection during the request
            answers.append(503)

    with run.feeding():
        clients = [threading.Thread(target=want) for _ in range(50)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(100)
    assert len(answers) == 50
    assert set(answers) <= {200, 503}
    assert answers.count(200) >= 10


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_slow_requests_are_cut_off(run, monkeypatch, data):
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.5)
    with run.server() as server, connect(server.url) as client:
        client.sendall(data)
        closed = threading.Event()

        def trickle() -> None:  # single bytes keep each read from timing out
            while data and not closed.wait(0.1):
                try:
                    client.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
        closed.set()
        thread.join()
        assert until(lambda: len(preview_threads()) == 1)


def test_closes_with_clients_in_all_states(run):
    server = run.server()
    run.sinks[0].write(result())
    clients = [connect(server.url) for _ in range(6)]
    clients[0].sendall(b"GET /")
    clients[1].sendall(b"POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    for client in clients[2:5]:
        client.sendall(b"GET /pictures/0?last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert until(lambda: len(preview_threads()) >= 6)
    server.close()
    assert not preview_threads()
    server.close()
    for client in clients:
        client.close()


def test_can_be_closed_before_it_starts():
    run = Run()
    PreviewServer(0, None, run.status, run.controls, run.sinks).close()
    assert not preview_threads()


def test_waiting_for_a_picture_ends_with_the_time_limit_of_a_request():
    assert handler.PICTURE_SECONDS < listener.REQUEST_SECONDS
