"""A TCP server with a bounded number of connections, none of which lasts for ever."""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from squeezedrive.pipeline.core.errors import PreviewError
from squeezedrive.pipeline.core.timing import name_thread
from squeezedrive.pipeline.preview.address import Address

log = logging.getLogger("squeezedrive")

MAX_CONNECTIONS = 32  # a browser keeps up to six
REQUEST_SECONDS = 15.0  # from the end of an answer to the end of the next one
LOOK_SECONDS = 0.2  # between two checks of the connections
CLOSE_SECONDS = 0.8
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


class Listener(socketserver.TCPServer):
    """Serves every connection in a thread of its own.

    Connections over the limit get a 503 and are closed. A connection that takes too long over a
    request is closed: it sends nothing, sends slowly or does not read the answer.

    Parameters
    ----------
    address : Address
        Where to listen; port 0 for one that is free.
    handler : callable
        Called with the socket, the client's address and this server; returns when it is done with
        the connection.
    tls : SSLContext, optional
        For HTTPS.

    Raises
    ------
    PreviewError
        If it cannot listen there.
    """

    allow_reuse_address = True  # a port is free again at once when a run has ended
    request_queue_size = 16

    def __init__(
        self, address: Address, handler: Callable[..., Any], tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._threads: set[threading.Thread] = set()
        self._accepting: threading.Thread | None = None
        self._reported = False
        try:
            super().__init__((address.host, address.port), handler)
        except OSError as error:
            hint = "; choose another port" if error.errno == errno.EADDRINUSE else ""
            raise PreviewError(
                f"preview.address: cannot serve at {address}: {error.strerror}{hint}"
            ) from None
        self.address = Address(address.host, self.server_address[1])

    def start(self) -> None:
        """Begin to accept connections."""
        self._accepting = threading.Thread(target=self._accept, name="preview", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Close all connections and end all threads; may be called more than once."""
        if self._accepting is not None:
            self.shutdown()
            self._accepting.join(CLOSE_SECONDS)
            self._accepting = None
        self.server_close()
        with self._lock:
            for connection in self._deadlines:
                _hang_up(connection)
            threads = list(self._threads)
        end = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))

    def begin_request(self, connection: socket.socket) -> None:
        """Give a connection its time for the next request and its answer."""
        with self._lock:
            if connection in self._deadlines:
                self._deadlines[connection] = time.monotonic() + REQUEST_SECONDS

    # Called by socketserver.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            connection, client = super().get_request()
        except OSError:
            # Out of file handles, this fails again and again at once.
            time.sleep(LOOK_SECONDS)
            raise
        if self._tls is not None:
            # The handshake comes with the first reading, in the connection's own thread and time.
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, if there is room for it."""
        if len(self._threads) >= MAX_CONNECTIONS:
            with suppress(OSError):
                request.setblocking(False)
                request.send(FULL)
            self.shutdown_request(request)
            return
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="preview", daemon=True
        )
        with self._lock:
            thread.start()  # it waits for the lock before it ends
            self._threads.add(thread)
            self._deadlines[request] = time.monotonic() + REQUEST_SECONDS

    def service_actions(self) -> None:
        """Shut down connections whose time is over; their threads notice and end."""
        now = time.monotonic()
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if now > deadline:
                    _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault in the page, which must neither end the run nor go unseen."""
        level = logging.DEBUG if self._reported else logging.WARNING
        self._reported = True  # once, not for every request
        log.log(level, "preview: a request failed", exc_info=True)

    def _accept(self) -> None:
        name_thread("preview")  # and, by inheritance, the threads of the connections
        self.serve_forever(LOOK_SECONDS)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client has gone
        except Exception:  # any fault while answering is reported and the next one is served
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            with self._lock:
                del self._deadlines[request]
                self._threads.discard(threading.current_thread())


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        # SSLSocket.shutdown would take the encryption away from a thread that is reading.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
