"""The processor time that the live page takes.

    python -m tests.benchmarks.preview VIDEO [--seconds 4] [--fps 30]

Frames of the video, resized to 1920x1080, go to a sink at the rate of a camera, with 0, 1 and 3
clients in turn, three times. Each client is a process of its own that fetches pictures as fast as
it can. The figures are medians of the processor time a frame, of the whole program and of `write`
in the pipeline's thread.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import multiprocessing
import statistics
import time
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import av
import cv2
import numpy as np

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from tests.support.preview import Run

CLIENTS = (0, 1, 3)
ROUNDS = 3
SIZE = 1920, 1080


def watch(url: str, stop: Any, seen: Any) -> None:
    """Send the requests of a page: one picture after the other, and the status once a second."""
    count, last, next_status = 0, "0", 0.0
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    while not stop.is_set():
        connection.request("GET", f"/pictures/0?last={last}")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            count, last = count + 1, answer.headers["X-Picture"]
        if time.monotonic() > next_status:
            connection.request("GET", "/status")
            connection.getresponse().read()
            next_status = time.monotonic() + 1
    connection.close()
    seen.put(count)


def measure(
    clients: int, results: list[FrameResult], seconds: float, fps: float
) -> dict[str, float]:
    """Return milliseconds a frame, in all and in `write`, and pictures a second for each client."""
    run = Run()
    context = multiprocessing.get_context("spawn")
    stop, seen = context.Event(), context.Queue()
    with run.server() as server:
        watchers = [
            context.Process(target=watch, args=(server.url, stop, seen)) for _ in range(clients)
        ]
        for watcher in watchers:
            watcher.start()
        frames = itertools.cycle(results)
        if clients:
            run.sinks[0].write(next(frames))
            while run.asked < 1:  # waits for the first client
                time.sleep(0.1)
            time.sleep(1.0)
        count, in_write = 0, 0.0
        cpu, begin = time.process_time(), time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            before = time.thread_time()
            run.sinks[0].write(next(frames))
            in_write += time.thread_time() - before
            count += 1
            time.sleep(max(begin + count / fps - now, 0))
        cpu = time.process_time() - cpu
        stop.set()
        shown = sum(seen.get(timeout=30) for _ in watchers)
        for watcher in watchers:
            watcher.join(30)
    return {
        "cpu": cpu / count * 1e3,
        "write": in_write / count * 1e3,
        "pictures": shown / seconds / clients if clients else 0.0,
    }


def main() -> None:
    """Measure with each number of clients and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--fps", type=float, default=30.0)
    arguments = parser.parse_args()
    with av.open(arguments.video) as container:
        pictures = [
            np.ascontiguousarray(cv2.resize(frame.to_ndarray(format="bgr24"), SIZE))
            for frame in itertools.islice(container.decode(video=0), 30)
        ]
    results = [
        FrameResult(Frame(0, i, i, Fraction(1, 30), 0.0, image), Detections.empty())
        for i, image in enumerate(pictures)
    ]
    rounds = [
        {n: measure(n, results, arguments.seconds, arguments.fps) for n in CLIENTS}
        for _ in range(ROUNDS)
    ]
    print("clients  cpu ms a frame  of it in write  pictures/s each")
    for n in CLIENTS:
        cpu, write, shown = (
            statistics.median(one[n][key] for one in rounds) for key in ("cpu", "write", "pictures")
        )
        print(f"{n:7}  {cpu:14.3f}  {write:14.4f}  {shown:15.1f}")


if __name__ == "__main__":
    main()
