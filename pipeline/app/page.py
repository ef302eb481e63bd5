"""Opens the live page, which stays open while a run goes from file to file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.pipeline.core.sink import FrameResult, Sink

if TYPE_CHECKING:
    from squeezedrive.pipeline.app.network import NetworkDescription
    from squeezedrive.pipeline.config import Config, PreviewConfig
    from squeezedrive.pipeline.core.controls import Controls
    from squeezedrive.pipeline.preview.sink import PreviewSink
    from squeezedrive.pipeline.preview.status import Status

log = logging.getLogger("squeezedrive")


class LivePage:
    """The page of one session, or of several one after the other.

    Parameters
    ----------
    preview : PreviewConfig
        Where it is.
    controls : Controls
        What it changes.
    count : int
        Sources of a session.

    Raises
    ------
    ConfigError, PreviewError
        As `PreviewServer`.
    """

    def __init__(self, preview: PreviewConfig, controls: Controls, count: int) -> None:
        from squeezedrive.pipeline.preview.server import PreviewServer
        from squeezedrive.pipeline.preview.sink import PreviewSink

        assert preview.address is not None
        self._pictures = [PreviewSink() for _ in range(count)]
        self._ask: Callable[[], Status] | None = None
        token = None if preview.token is None else preview.token.get_secret_value()
        tls = None if preview.tls is None else Path(preview.tls)
        self._server = PreviewServer(
            preview.address, token, self._status, controls, self._pictures, tls
        )

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def sinks(self) -> list[Sink]:
        """A sink for each source of the next session, whose end leaves the page open."""
        return [_KeptOpen(pictures) for pictures in self._pictures]

    def show(self, status: Callable[[], Status]) -> None:
        """Show a session that begins; `status` is asked in the server's threads from now on."""
        begins = self._ask is None
        self._ask = status
        if begins:
            self._server.start()
            log.info("live page: %s", self._server.url)

    def _status(self) -> Status:
        assert self._ask is not None  # it is started by the first session
        return self._ask()


class _KeptOpen(Sink):
    """Hands pictures to the page and leaves it open at the end."""

    name = "preview"
    draws = takes_yuv = is_display = True

    def __init__(self, pictures: PreviewSink) -> None:
        self._pictures = pictures

    def write(self, result: FrameResult) -> None:
        """Take a picture as the newest."""
        self._pictures.write(result)

    def close(self) -> None:
        """Do nothing: the page closes what it shows."""


def open_page(config: Config, network: NetworkDescription, count: int) -> LivePage | None:
    """Take the port of the live page, if one is configured; `count` is the number of sources."""
    if config.preview.address is None or network.controls is None:
        return None
    return LivePage(config.preview, network.controls, count)
