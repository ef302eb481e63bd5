"""A network that tests can make fail: it forwards TCP connections, or breaks them on demand."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Literal

Mode = Literal["pass", "stall", "garble", "refuse"]

TICK = 0.05  # seconds


class Proxy:
    """A proxy that forwards connections from its port to another port.

    Parameters
    ----------
    target : int
        Port on the loopback interface.

    Attributes
    ----------
    port : int
        Port on which the proxy listens.
    mode : str
        "pass": forward all data; "stall": hold all data back without loss; "garble": change
        some of the bytes from the server; "refuse": close every new connection at once.
    """

    def __init__(self, target: int) -> None:
        self.mode: Mode = "pass"
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TICK)
        self.port = int(self._listener.getsockname()[1])
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._random = random.Random(0)
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Close all connections, also in the middle of a transfer."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all connections and end."""
        self._closed.set()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                if self.mode == "refuse":
                    raise ConnectionError
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            self._threads = [t for t in self._threads if t.is_alive()]
            for pair in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._carry, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, to: socket.socket, is_answer: bool) -> None:
        with self._lock:
            self._open.add(source)
        source.settimeout(TICK)
        try:
            while not self._closed.is_set():
                if self.mode == "stall":
                    self._closed.wait(TICK)
                    continue
                try:
                    data = source.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                to.sendall(self._garbled(data) if is_answer and self.mode == "garble" else data)
        except OSError:
            pass  # the other end has closed the connection
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()

    def _garbled(self, data: bytes) -> bytes:
        garbled = bytearray(data)
        for _ in range(max(len(data) // 100, 1)):
            garbled[self._random.randrange(len(data))] = self._random.randrange(256)
        return bytes(garbled)
