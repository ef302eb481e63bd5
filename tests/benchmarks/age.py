"""The age of frames when they are shown, with a detector that is slower than the camera.

    python -m tests.benchmarks.age [--seconds 3600] [--policy latest bounded_age]

The camera has 30 frames a second and the network takes 100 ms, both in real time; the queues are
those of configs/live.yaml. The benchmark prints the state each minute, and at the end the
distribution of ages, the highest age and the number of dropped frames.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction

import numpy as np

from squeezedrive.engines.backends.base import Backend, BackendInfo, Slot
from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.queues import Policy
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source, SourceInfo
from squeezedrive.pipeline.core.timing import Durations
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.fakes import feed_of

FPS = 30
NETWORK_SECONDS = 0.1
MAX_AGE = 0.149  # seconds


class Camera(Source):
    """A source that gives pictures at its frame rate until the benchmark ends."""

    def __init__(self, seconds: float) -> None:
        self.info = SourceInfo("camera", "camera", 64, 48, Fraction(FPS), None, Fraction(1, FPS))
        super().__init__()
        self._start = time.monotonic()
        self._count, self._end = 0, round(seconds * FPS)
        self._image = np.zeros((48, 64, 3), np.uint8)

    def read(self) -> Frame | None:
        if self._count == self._end:
            return None
        time.sleep(max(self._start + self._count / FPS - time.monotonic(), 0))
        frame = Frame(0, self._count, self._count, Fraction(1, FPS), time.monotonic(), self._image)
        self._count += 1
        return frame

    def close(self) -> None:
        pass


class SlowNetwork(Backend, Slot):
    """A back end that only waits."""

    info = BackendInfo("slow", "none", "none", "none", "benchmark")
    parallel = max_batch = 1
    batch_pays = False

    def new_slot(self, batch: int = 1) -> SlowNetwork:
        return self

    def preprocess(self, images: object) -> None:
        pass

    def infer(self) -> None:
        time.sleep(NETWORK_SECONDS)

    def detect(self) -> list[Detections]:
        return [Detections.empty()]

    def close(self) -> None:
        pass


class Screen(Sink):
    """A sink that records the age of each frame."""

    name = "screen"

    def __init__(self) -> None:
        self.ages = Durations()
        self.worst = 0.0

    def write(self, result: FrameResult) -> None:
        age = time.monotonic() - result.frame.captured_at
        self.ages.add(age)
        self.worst = max(self.worst, age)

    def close(self) -> None:
        pass


def measure(policy: Policy, seconds: float) -> None:
    """Run for `seconds` and print the ages of the frames."""
    queue = load_config(CONFIGS / "live.yaml").queue
    screen = Screen()
    options = QueueOptions(policy=policy, depth=queue.depth, max_age=MAX_AGE, slots=queue.slots)
    feed = feed_of(Camera(seconds), [screen], options)
    pipeline = Pipeline([feed], SlowNetwork(), options)
    due = time.monotonic() + 60

    def tick(running: Pipeline) -> None:
        nonlocal due
        if time.monotonic() > due:
            due += 60
            print(f"  {running.processed} shown, worst {screen.worst * 1e3:.1f} ms", flush=True)

    pipeline.run(tick)
    ages = [f"p{p} {screen.ages.percentile(p) * 1e3:.0f}" for p in (50, 95, 99)]
    print(
        f"{policy}: {pipeline.read} read, {pipeline.processed} shown in {pipeline.seconds:.0f} s;"
        f" age {', '.join(ages)}, worst {screen.worst * 1e3:.1f} ms;"
        f" dropped {dict(pipeline.dropped)}",
        flush=True,
    )


def main() -> None:
    """Measure each policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--policy", nargs="+", default=["latest", "bounded_age"])
    arguments = parser.parse_args()
    print(f"camera {FPS} fps, network {NETWORK_SECONDS * 1e3:.0f} ms, {arguments.seconds:g} s each")
    for policy in arguments.policy:
        measure(policy, arguments.seconds)


if __name__ == "__main__":
    main()
