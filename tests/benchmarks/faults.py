"""Live sources during faults: `python -m tests.benchmarks.faults [--times N]`.

Real servers on the loopback interface have all faults of `tests.servers.faults`, N times, while a
source is read. A frame is lost if it was due and never came. The time of recovery is from the end
of the fault to the first picture that was made after it.
"""

from __future__ import annotations

import argparse
import os
import random
import threading
import time
from dataclasses import dataclass, field

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.sources.reconnect import ReconnectingSource
from tests.servers.clock import age, moment_of
from tests.servers.faults import FAULTS, fault
from tests.servers.process import Server, rtsp_missing
from tests.servers.proxy import Proxy

FPS = 25
SETTLE = 3.0  # seconds of pictures before a fault
DEADLINE = 60.0  # seconds in which a source has to recover


@dataclass
class Row:
    """The measurements of one fault."""

    lost: list[int] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    reconnects: int = 0


def read(source: ReconnectingSource) -> Frame:
    frame = source.read()
    assert frame is not None, "a live source has no end"
    return frame


def suffer(source: ReconnectingSource, name: str, server: Server, proxy: Proxy, row: Row) -> None:
    """Cause a fault while the source is read, and record the effects."""
    end = time.monotonic() + SETTLE
    while time.monotonic() < end:
        before = read(source)
    reconnects = source.state.reconnects
    lost = 0
    last = before
    deadline = time.monotonic() + DEADLINE
    with fault(name, server, proxy, random.uniform(1.0, 8.0)) as outage:
        # The source has recovered when it gives a picture that was made after the fault.
        while outage.over_at is None or time.monotonic() - age(last.image) < outage.over_at:
            frame = read(source)
            assert frame.pts > last.pts, "time runs backwards"
            assert frame.frame_id > last.frame_id, "numbers run backwards"
            lost += max(round((frame.seconds - last.seconds) * FPS) - 1, 0)
            last = frame
            assert time.monotonic() < deadline, "does not recover"
    recovered = time.monotonic()
    wall = (moment_of(last.image) - moment_of(before.image)) / 1000
    row.lost.append(lost)
    row.recovery.append(recovered - outage.over_at)
    row.drift.append(last.seconds - before.seconds - wall)
    row.reconnects += source.state.reconnects - reconnects


def mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=5, help="number of times for each fault")
    parser.add_argument("--kinds", default="rtsp,mjpeg")
    arguments = parser.parse_args()
    random.seed(0)
    print("| camera | fault | times | reconnected | frames lost, mean (most) |", end="")
    print(" seconds to recover, mean (most) | timestamps off by, most |")
    print("|---|---|---|---|---|---|---|")
    for kind in arguments.kinds.split(","):
        if kind == "rtsp" and rtsp_missing():
            print(f"rtsp: {rtsp_missing()}")
            continue
        measure(kind, arguments.times)


def measure(kind: str, times: int) -> None:
    server = Server(kind, f"--fps={FPS}")
    proxy = Proxy(server.port)
    options = SourceOptions(open_timeout=3.0, read_timeout=2.0)
    url = server.url(proxy.port)
    source = ReconnectingSource(url, lambda: open_source(url, options), limit=None)
    rows = {name: Row() for name in FAULTS}
    try:
        for time_ in range(times):
            for name, row in rows.items():
                suffer(source, name, server, proxy, row)
            if time_ == 0:
                handles = len(os.listdir("/proc/self/fd"))
        for name, row in rows.items():
            print(
                f"| {kind} | {name} | {times} | {row.reconnects}"
                f" | {mean(row.lost):.0f} ({max(row.lost)})"
                f" | {mean(row.recovery):.1f} ({max(row.recovery):.1f})"
                f" | {max(map(abs, row.drift)):.2f} s |",
                flush=True,
            )
        more = len(os.listdir("/proc/self/fd")) - handles
        print(f"{kind}: {threading.active_count()} threads, {more:+d} file handles")
    finally:
        source.close()
        proxy.close()
        server.kill()


if __name__ == "__main__":
    main()
