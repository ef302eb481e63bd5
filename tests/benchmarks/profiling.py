"""The time that profiling takes: the same run with and without a profiler, in turn.

    python -m tests.benchmarks.profiling drive.mp4 [--frames 200] [--rounds 5] [--set key=value ...]

It prints medians of the rounds, and the mean of the ratios within a round with its standard error,
which many rounds make small. With a network of small input, frames take little time, so the time of
profiling is larger than the noise.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.profiling.profiler import Profiler


def measure(source: str, config: Any, profiled: bool) -> tuple[float, float]:
    """Return frames per second, and processor milliseconds per frame."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_session([source], config, Outputs({"output": Path(folder) / "out.mp4"})) as session,
    ):
        profiler = Profiler(session) if profiled else None
        before = cpu_seconds()
        session.pipeline.run(None if profiler is None else lambda _: profiler.tick())
        frames = session.pipeline.processed
        return frames / session.pipeline.seconds, (cpu_seconds() - before) / frames * 1e3


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, choices=range(2, 1000), metavar="N", default=5)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    settings = [parse_setting(text) for text in arguments.set]
    settings.append(("--frames", "source.frames", arguments.frames))
    config = load_config(settings=settings)
    measure(arguments.source, config, False)  # fills the file cache, loads compiled functions
    rounds = []
    for number in range(arguments.rounds):
        # The order changes from round to round.
        order = (False, True) if number % 2 == 0 else (True, False)
        result = {profiled: measure(arguments.source, config, profiled) for profiled in order}
        rounds.append(result)
        print("  ".join(
            f"{'profiled' if p else 'plain'} {result[p][0]:.2f} fps, {result[p][1]:.2f} ms"
            for p in (False, True)
        ), flush=True)  # fmt: skip
    for index, name in enumerate(("fps", "processor ms/frame")):
        plain = statistics.median(r[False][index] for r in rounds)
        profiled = statistics.median(r[True][index] for r in rounds)
        ratios = [r[True][index] / r[False][index] - 1 for r in rounds]
        error = statistics.stdev(ratios) / len(ratios) ** 0.5
        print(
            f"{name}: {plain:.2f} plain, {profiled:.2f} profiled; change"
            f" {statistics.mean(ratios):+.2%} ± {error:.2%},"
            f" median {statistics.median(ratios):+.2%}"
        )


if __name__ == "__main__":
    main()
