"""A live page with a fake run."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.preview.server import PreviewServer
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.preview.status import SourceStatus, Status

CLASSES = ("car", "pedestrian", "cyclist")


def result(value: int = 128, height: int = 90, width: int = 160) -> FrameResult:
    image = np.full((height, width, 3), value, np.uint8)
    return FrameResult(Frame(0, 0, 0, Fraction(1, 25), 0.0, image), Detections.empty())


def source_status(number: int = 0, **changes: Any) -> SourceStatus:
    status: Any = {
        "id": number,
        "name": f"rtsp://***@camera{number}/",
        "state": "connected",
        "since_s": 12.5,
        "fps": 14.9,
        "read": 1000,
        "processed": 490,
        "dropped": {"overtaken": 500, "too old": 10},
        "latency_ms": {"p50": 61.0, "p95": 84.0, "p99": 119.0},
        "age_ms": 70.0,
        "now": {"car": 3, "pedestrian": 1},
        "total": {"car": 1234, "pedestrian": 56, "cyclist": 7},
        "reconnects": 2,
    }
    return status | changes


class Run:
    """The part of a run that the live page uses."""

    def __init__(self, sources: int = 1) -> None:
        self.sinks = [PreviewSink() for _ in range(sources)]
        self.controls = Controls(CLASSES, 0.4)
        self.sources = [source_status(i) for i in range(sources)]
        self.asked = 0

    def status(self) -> Status:
        self.asked += 1
        return {
            "uptime_s": 3600.0,
            "model": "squeezedrive-v3",
            "backend": "cpu int8",
            "sources": list(self.sources),
        }

    def server(
        self, address: str | int = 0, token: str | None = None, tls: Path | None = None
    ) -> PreviewServer:
        server = PreviewServer(address, token, self.status, self.controls, self.sinks, tls)
        server.start()
        return server

    @contextmanager
    def feeding(self, picture: Callable[[], FrameResult] = result):
        """Send 25 pictures a second to all sinks."""
        stop = threading.Event()

        def feed() -> None:
            while not stop.wait(0.04):
                for sink in self.sinks:
                    sink.write(picture())

        thread = threading.Thread(target=feed, name="feeder")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=10)


def ask(url: str, data: bytes) -> bytes:
    """Send bytes; return all bytes that come until the server closes the connection."""
    with connect(url) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer += piece
        return answer


def request(
    url: str,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return the status, the headers with names in lower case, and the body."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def post(url: str, value: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send JSON to /controls; return the status, and the answer as JSON or, for errors, as text."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Content-Type": "application/json"} | (headers or {})
    status, _, text = request(url, "/controls", "POST", body, headers)
    return status, json.loads(text) if status == 200 else text.decode().rstrip("\n")


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def preview_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "preview"]


def until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
