"""The speed of the pipeline, compared with the limit of the processor and with a plain loop.

    python -m tests.benchmarks.stages drive.mp4 [--frames 200] [--set key=value ...]

It runs each stage alone over the same frames, then all stages in one thread, frame by frame, then
the pipeline. It repeats this, so a machine that gets slower or faster does so for all of them.
Stages that share the cores cannot all run at their own speed. The limit of the whole is the
processor time of a frame, summed over the stages and divided by the number of cores. The loop runs
with the settings of the pipeline, in which the network uses one core for a frame, and with the best
settings for a loop: all cores for a frame in the network and in the encoder.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from squeezedrive.engines.backends.base import Slot
from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.drawing import Painter

ROUNDS = 3


def measure(work: Callable[[Any], object], items: Iterable[Any]) -> tuple[float, float, list[Any]]:
    """Return wall and processor milliseconds per item, and the results."""
    results = []
    cpu, start = cpu_seconds(), time.perf_counter()
    for item in items:
        results.append(work(item))
    wall = time.perf_counter() - start
    return wall / len(results) * 1e3, (cpu_seconds() - cpu) / len(results) * 1e3, results


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def alone(source: str, config: Any, folder: Path, frames: int) -> dict[str, tuple[float, float]]:
    """Run each stage alone; return its wall and processor ms per frame."""
    with open_session([source], config, Outputs({"output": folder / "alone.mp4"})) as session:
        (video,) = session.sinks
        slots = [session.backend.new_slot() for _ in range(session.backend.parallel)]
        slot = slots[0]
        painter = Painter(session.class_names)
        times = {}
        reads = itertools.repeat(None, frames)
        *times["capture"], pictures = measure(lambda _: session.source.read(), reads)
        if None in pictures:
            raise SystemExit(f"{source}: has fewer than {frames} frames; give --frames")
        for one in slots:
            one.preprocess([pictures[0].picture])
            one.infer()
            one.detect()
        *times["preprocess"], _ = measure(lambda f: slot.preprocess([f.picture]), pictures)
        times["inference"] = infer_all(slots, len(pictures))
        *times["postprocess"], found = measure(lambda f: slot.detect()[0], pictures)
        results = [FrameResult(f, d) for f, d in zip(pictures, found, strict=True)]
        *times["render"], _ = measure(
            lambda r: painter.draw(r.frame.yuv or r.frame.image, r.detections, "25 fps  60 ms"),
            results,
        )
        wall, cpu = time.perf_counter(), cpu_seconds()
        for result in results:
            video.write(result)
        video.close()  # the encoder's own threads work until here
        per_frame = 1e3 / len(results)
        times["sinks"] = [
            (time.perf_counter() - wall) * per_frame,
            (cpu_seconds() - cpu) * per_frame,
        ]
        for one in slots:
            one.close()
    return {name: (wall, cpu) for name, (wall, cpu) in times.items()}


def infer_all(slots: list[Slot], frames: int) -> list[float]:
    """Run the network with as many frames at once as in the pipeline; return its ms per frame."""

    def work(slot: Slot) -> None:
        for _ in range(frames // len(slots)):
            slot.infer()

    wall, cpu = time.perf_counter(), cpu_seconds()
    with ThreadPoolExecutor(len(slots)) as pool:
        list(pool.map(work, slots))
    per_frame = 1e3 / (frames // len(slots) * len(slots))
    return [(time.perf_counter() - wall) * per_frame, (cpu_seconds() - cpu) * per_frame]


def in_one_thread(source: str, config: Any, folder: Path, frames: int) -> tuple[float, float]:
    """Read, resize, infer, draw and write in a plain loop; return wall and processor ms a frame."""
    with open_session(
        [source], config, Outputs({"output": folder / "loop.mp4"}, overwrite=True)
    ) as session:
        (video,) = session.sinks
        slot = session.backend.new_slot()
        painter = Painter(session.class_names)
        count, start, cpu = 0, time.perf_counter(), cpu_seconds()
        while count < frames and (frame := session.source.read()) is not None:
            slot.preprocess([frame.picture])
            slot.infer()
            (found,) = slot.detect()
            painter.draw(frame.yuv or frame.image, found, "25 fps  60 ms")
            video.write(FrameResult(frame, found))
            count += 1
        video.close()
        wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        slot.close()
    return wall / count * 1e3, cpu / count * 1e3


def together(source: str, config: Any, folder: Path) -> tuple[float, float]:
    """Run the pipeline; return wall and processor ms per frame."""
    with open_session(
        [source], config, Outputs({"output": folder / "together.mp4"}, overwrite=True)
    ) as session:
        cpu = cpu_seconds()
        session.pipeline.run()
        frames = session.pipeline.processed
        return session.pipeline.seconds / frames * 1e3, (cpu_seconds() - cpu) / frames * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    settings = [parse_setting(text) for text in arguments.set]
    settings.append(("--frames", "source.frames", arguments.frames))
    config = load_config(settings=settings)
    cores = len(os.sched_getaffinity(0))
    single = [("loop", "cpu.streams", 1), ("loop", "video.threads", cores)]
    configs = {"loop": config, "best loop": load_config(settings=settings + single)}
    rounds = []
    runs: dict[str, list[tuple[float, float]]] = {"loop": [], "best loop": [], "pipeline": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rounds.append(alone(arguments.source, config, folder, arguments.frames))
            for kind, chosen in configs.items():
                run = in_one_thread(arguments.source, chosen, folder, arguments.frames)
                runs[kind].append(run)
            runs["pipeline"].append(together(arguments.source, config, folder))

    print(f"{'stage':<12} {'fps alone':>9} {'ms':>7} {'cpu ms':>7}   median of {ROUNDS}")
    total, slowest = 0.0, 0.0
    for stage in rounds[0]:
        wall = statistics.median(r[stage][0] for r in rounds)
        cpu = statistics.median(r[stage][1] for r in rounds)
        total += cpu
        slowest = max(slowest, wall)
        print(f"{stage:<12} {1e3 / wall:9.1f} {wall:7.1f} {cpu:7.1f}")
    for name, times in runs.items():
        wall = statistics.median(w for w, _ in times)
        cpu = statistics.median(c for _, c in times)
        print(f"{name:<12} {1e3 / wall:9.1f} {wall:7.1f} {cpu:7.1f}")
    bound = max(slowest, total / cores)
    print(f"slowest stage alone: {1e3 / slowest:.1f} fps")
    print(
        f"{total:.1f} ms of processor time a frame on {cores} cores: {cores * 1e3 / total:.1f} fps"
    )
    print(f"the pipeline reaches {bound / wall:.0%} of the lower of the two")
    print(f"cores busy {cpu / wall / cores:.0%}")
    for kind in configs:
        ratios = (a / b for (a, _), (b, _) in zip(runs[kind], runs["pipeline"], strict=True))
        print(f"{statistics.median(ratios):.2f} times as fast as the {kind}")


if __name__ == "__main__":
    main()
