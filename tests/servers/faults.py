"""Faults between a camera and the program, which tests can begin and end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.servers.process import Server
from tests.servers.proxy import Mode, Proxy


@dataclass(frozen=True)
class Fault:
    """Functions that begin and end a fault of a server behind a proxy."""

    begin: Callable[[Server, Proxy], None]
    end: Callable[[Server, Proxy], None] = lambda server, proxy: None
    lasts: bool = True


def _mode(mode: Mode, cut: bool = False) -> Callable[[Server, Proxy], None]:
    def switch(_: Server, proxy: Proxy) -> None:
        proxy.mode = mode
        if cut:
            proxy.cut()

    return switch


FAULTS = {
    "connection cut": Fault(_mode("pass", cut=True), lasts=False),
    "server killed": Fault(lambda server, _: server.kill(), lambda server, _: server.start()),
    "server frozen": Fault(lambda server, _: server.freeze(), lambda server, _: server.thaw()),
    "network silent": Fault(_mode("stall"), _mode("pass")),
    "bytes garbled": Fault(_mode("garble"), _mode("pass")),
    "connections refused": Fault(_mode("refuse", cut=True), _mode("pass")),
}


@dataclass
class Outage:
    """A fault in progress; `over_at` is its end in seconds of `time.monotonic`, None before."""

    over_at: float | None = None


@contextlib.contextmanager
def fault(name: str, server: Server, proxy: Proxy, seconds: float) -> Iterator[Outage]:
    """Begin a fault now and end it after some seconds."""
    outage = Outage()

    def end() -> None:
        FAULTS[name].end(server, proxy)
        outage.over_at = time.monotonic()

    timer = threading.Timer(seconds if FAULTS[name].lasts else 0, end)
    FAULTS[name].begin(server, proxy)
    timer.start()
    try:
        yield outage
    finally:
        timer.join()
