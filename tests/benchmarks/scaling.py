"""The rate of threads and queues in small frames a second, by number of cores.

    python -m tests.benchmarks.scaling [--frames 2000] [--size 320x180]

The network is SqueezeDet with a very small input that takes almost no time, so the benchmark
measures the pipeline: reading, hand-over between threads, boxes, drawing, encoding. Each run is a
process of its own that may use the first 1, 2, 4, ... cores. The benchmark prints frames a second
and milliseconds of processor time a frame.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path

import yaml

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import load_config
from tests.benchmarks.stages import cpu_seconds
from tests.street.clip import write_clip
from tests.street.spec import StreetSpec

INPUT = {"width": 160, "height": 64}
ROUNDS = 3


def small_network(folder: Path) -> Path:
    """Write a network file with the shipped weights and a very small input."""
    shipped = CONFIGS / "squeezedet.yaml"
    values = yaml.safe_load(shipped.read_text())
    values["weights"] = str((shipped.parent / values["weights"]).resolve())
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values | {"input": INPUT}))
    return path


def measure(cores: set[int], clip: Path, network: Path, output: Path | None) -> tuple[float, float]:
    """Return frames a second and processor milliseconds a frame of a run on these cores."""
    os.sched_setaffinity(0, cores)
    settings = [
        ("network", "network", str(network)),
        ("threads", "cpu.threads", 1),
        ("video", "video.write", output is not None),
    ]
    config = load_config(settings=settings)
    outputs = Outputs({} if output is None else {"output": output}, overwrite=True)
    fps, cpu = 0.0, 0.0
    for _ in range(2):  # the first run loads compiled functions and fills caches
        with open_session([str(clip)], config, outputs) as session:
            before = cpu_seconds()
            session.pipeline.run()
            frames = session.pipeline.processed
            fps = frames / session.pipeline.seconds
            cpu = (cpu_seconds() - before) / frames * 1e3
    return fps, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", default="320x180")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    usable = sorted(os.sched_getaffinity(0))
    counts = [1 << power for power in range(len(usable).bit_length())]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "street.mp4"
        write_clip(clip, StreetSpec(width=width, height=height, frames=arguments.frames))
        network = small_network(folder)
        for output in (None, folder / "out.mp4"):
            for count in counts:
                with spawn.Pool(1, maxtasksperchild=1) as pool:
                    task = (set(usable[:count]), clip, network, output)
                    runs = [pool.apply(measure, task) for _ in range(ROUNDS)]
                fps, cpu = sorted(runs)[ROUNDS // 2]
                what = "boxes only" if output is None else "annotated video"
                print(
                    f"{what:<16} {count:2d} cores {fps:7.1f} fps {cpu:6.2f} ms a frame", flush=True
                )


if __name__ == "__main__":
    main()
