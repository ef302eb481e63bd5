"""Serve the live page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.preview.access import Access
from squeezedrive.pipeline.preview.address import check_reach, parse_address
from squeezedrive.pipeline.preview.handler import Handler
from squeezedrive.pipeline.preview.listener import Listener
from squeezedrive.pipeline.preview.sink import PreviewSink
from squeezedrive.pipeline.preview.status import Status
from squeezedrive.pipeline.preview.tls import load_certificate
from squeezedrive.pipeline.preview.view import View


class PreviewServer:
    """An HTTP server for the live page, in threads of its own, that never holds up the pipeline.

    It binds the port at once, so that a port in use is reported before a network is loaded, and
    answers from `start` on.

    =========================== ====================================================================
    GET /                       the page
    POST /                      the password, from the form that asks for it
    GET /pictures/N?last=K      the newest picture of source N as JPEG and its number as X-Picture,
                                as soon as it is another one than K; 204 if none comes in a second
    GET /status                 what the page shows as JSON, see `pipeline.preview.status`
    POST /controls              sets {"threshold": 0.4, "classes": ["car"]} or one of them;
                                answers with what is in force
    GET /health                 200 if every source delivers, else 503; the reasons as JSON
    GET /metrics                for Prometheus
    =========================== ====================================================================

    Parameters
    ----------
    address : str or int
        [HOST:]PORT; without a host this machine only.
    token : str or None
        Password, as `Authorization: Bearer TOKEN` or once as `?token=TOKEN`, which leaves a cookie.
    tls : Path, optional
        PEM file with certificate and key: HTTPS, and nothing else at this port.
    status : callable
        Returns the status of the run. Called in the server's threads, one at a time.
    controls : Controls
        What the page changes.
    sinks : sequence of PreviewSink
        The pictures, in the order of the sources.

    Attributes
    ----------
    url : str
        Where the page is, without the token.

    Raises
    ------
    ConfigError
        If the address is not valid, others can reach it without a token, or `tls` cannot be used.
    PreviewError
        If the port is in use or not allowed.
    """

    def __init__(
        self,
        address: str | int,
        token: str | None,
        status: Callable[[], Status],
        controls: Controls,
        sinks: Sequence[PreviewSink],
        tls: Path | None = None,
    ) -> None:
        parsed = parse_address(address)
        check_reach(parsed, token)
        context = None if tls is None else load_certificate(tls)
        self._sinks = sinks
        self._listener = Listener(
            parsed,
            lambda socket, client, server: Handler(socket, client, server, self._view),
            context,
        )
        bound = self._listener.address
        access = Access(token, bound.loopback, bound.port, encrypted=context is not None)
        self._view = View(status, controls, sinks, access)
        self.url = f"{'http' if context is None else 'https'}://{bound}/"

    def __enter__(self) -> PreviewServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start()

    def close(self) -> None:
        """End all connections and threads, within a second; may be called more than once."""
        for sink in self._sinks:
            sink.close()  # ends requests that wait for a picture
        self._listener.close()
