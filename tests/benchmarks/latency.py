"""The latency of a live stream from decoded picture to outputs, and the number of frames shown.

    python -m tests.benchmarks.latency CLIP [--seconds 20] [--fps 30] [--set key=value ...]

A process of its own sends the clip's packets again and again over UDP on the loopback interface, at
the rate of a camera, so no encoder shares the processor with the pipeline. The pipeline runs with
configs/live.yaml and draws. Its only output is a sink that measures the time, like a live page
without viewers. The latency of a frame begins when its picture has been decoded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import time
from collections.abc import Iterator
from fractions import Fraction

import av

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.timing import Durations
from tests.benchmarks.stages import cpu_seconds

WARM_UP = 30  # frames that are not measured


class Screen(Sink):
    """A sink that records the age of each frame."""

    name = "screen"
    draws = True
    is_display = True

    def __init__(self) -> None:
        self.ages = Durations()
        self.count = 0

    def write(self, result: FrameResult) -> None:
        self.count += 1
        if self.count > WARM_UP:
            self.ages.add(time.monotonic() - result.frame.captured_at)

    def close(self) -> None:
        pass


def free_port() -> int:
    """Return a free UDP port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def packets(clip: str) -> Iterator[av.Packet]:
    """Yield the packets of a clip's video track in an endless loop."""
    while True:
        with av.open(clip) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    yield packet


def send(clip: str, address: str, fps: int) -> None:
    """Send a clip's packets as a transport stream, each when it is due."""
    with av.open(clip) as container, av.open(address, "w", format="mpegts") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        begin = time.monotonic()
        for number, packet in enumerate(packets(clip)):
            time.sleep(max(begin + number / fps - time.monotonic(), 0))
            packet.stream = stream
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, fps)
            out.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    settings = [parse_setting(text) for text in arguments.set]
    config = load_config(CONFIGS / "live.yaml", settings=[*settings, ("", "video.write", False)])
    address = f"udp://127.0.0.1:{free_port()}"
    spawn = multiprocessing.get_context("spawn")
    task = (arguments.clip, f"{address}?pkt_size=1316", arguments.fps)
    camera = spawn.Process(target=send, args=task, daemon=True)
    camera.start()
    screen = Screen()
    try:
        with open_session([address], config, Outputs(), [screen]) as session:
            pipeline = session.pipeline
            cpu = cpu_seconds()
            end = time.monotonic() + arguments.seconds
            pipeline.run(lambda running: running.stop() if time.monotonic() > end else None)
            cpu = (cpu_seconds() - cpu) / pipeline.processed * 1e3
            size = session.source.info
    finally:
        camera.terminate()
        camera.join(5)
    ages = [f"p{p} {screen.ages.percentile(p) * 1e3:.0f}" for p in (50, 90, 99)]
    print(
        f"{size.width}x{size.height} at {arguments.fps} fps: {pipeline.read} read,"
        f" {pipeline.processed} shown, dropped {dict(pipeline.dropped)};"
        f" {', '.join(ages)} ms from picture to outputs, {cpu:.1f} ms of processor time a frame"
    )


if __name__ == "__main__":
    main()
