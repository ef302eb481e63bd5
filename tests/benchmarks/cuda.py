"""The speed of the GPU path, compared with the limits of the GPU and with the obvious way.

    python -m tests.benchmarks.cuda [--size 1920x1080] [--executor tensorrt|torch] [--seconds 1]

It takes a few minutes, and longer if TensorRT has to build an engine. The input is always the same
rendered picture, the output its boxes. GPU times are measured with two events around 20 repetitions
of a step; the repetitions are a CUDA graph, so launches take no time. The floor of a step is the
time to read and write each byte once, at the bandwidth of a copy in the same run. For the network
it is a sum over the layers: the longer of that time and the time of the operations at the rate of a
large matrix product, if PyTorch is installed to measure one. "GPU idle" is the share of time in
which no kernel of this project ran, computed from the GPU times and the rate.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.backend import (
    MAX_BATCH,
    CudaBackend,
    make_kernels,
)
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import GpuContext, open_gpu
from squeezedrive.engines.backends.cuda.executor import Executor
from squeezedrive.engines.backends.cuda.graph import Graph
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels
from squeezedrive.engines.backends.cuda.stream import STEPS
from squeezedrive.engines.backends.select import BACKENDS, open_backend
from squeezedrive.engines.cli.arguments import input_size
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.params import DetectParams
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import Source, SourceInfo
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.benchmarks.obvious import NMS, obvious_way
from tests.street.spec import StreetSpec
from tests.street.street import Street
from tests.support.executors import open_executor
from tests.support.fakes import feed_of

REPEATS = 20
ROUNDS = 5
SLOTS = (1, 2, 3, 4)
COPY = 1 << 29  # bytes


@dataclass
class Machine:
    """The measured limits of the GPU, in bytes and operations a second; None if not measured."""

    bandwidth: float
    bus: float
    operations: float | None


@dataclass
class Report:
    """The rows of the table, and the reasons for missing rows."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, what: str, value: str, remark: str = "") -> None:
        self.rows.append((what, value, remark))
        print(f"  {what}: {value} {remark}".rstrip(), flush=True)

    def __str__(self) -> str:
        lines = [f"not measured: {line}" for line in self.missing]
        lines += ["| what | value | |", "|---|---|---|"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in self.rows])


def elapsed(gpu: GpuContext, stream: Any, work: Callable[[], object]) -> float:
    """Return the seconds that the work takes on the GPU, as the median of several rounds."""
    times = []
    start, end = gpu.driver.Event(), gpu.driver.Event()
    for _ in range(ROUNDS):
        start.record(stream)
        work()
        end.record(stream)
        gpu.wait(end)
        times.append(start.time_till(end) / 1e3)
    return statistics.median(times)


def step_time(gpu: GpuContext, runner: BatchRunner, step: Callable[[], None]) -> tuple[float, str]:
    """Return the seconds of one step on the GPU, and a remark if it was not measured as a graph."""

    def steps() -> None:
        for _ in range(REPEATS):
            step()

    steps()
    gpu.synchronize()
    try:
        graph = Graph(gpu.graphs, runner.stream.handle, steps)
    except Exception as error:
        return elapsed(gpu, runner.stream, steps) / REPEATS, f"with launches; no graph: {error}"
    seconds = elapsed(gpu, runner.stream, graph.launch) / REPEATS
    graph.close()
    return seconds, ""


def measure_machine(gpu: GpuContext) -> Machine:
    """Measure a copy on the GPU, one over the bus, and a matrix product."""
    driver = gpu.driver
    stream = driver.Stream(1)
    size = min(COPY, driver.mem_get_info()[0] // 8)
    source, target = driver.mem_alloc(size), driver.mem_alloc(size)
    pinned = driver.pagelocked_empty((size // 8,), np.uint8)

    def copy() -> None:
        driver.memcpy_dtod_async(int(target), int(source), size, stream)

    def upload() -> None:
        driver.memcpy_htod_async(int(target), pinned, stream)

    copy(), upload()
    bandwidth = 2 * size / elapsed(gpu, stream, copy)
    bus = pinned.nbytes / elapsed(gpu, stream, upload)
    pinned.base.free(), source.free(), target.free()
    return Machine(bandwidth, bus, None if _obstacles("torch") else _matrix_rate(gpu))


def _obstacles(name: str) -> list[str]:
    obstacles = BACKENDS[name].obstacles
    return [] if obstacles is None else obstacles()


def _matrix_rate(gpu: GpuContext) -> float:
    import torch

    side = 8192
    stream = torch.cuda.current_stream()
    a = torch.randn(side, side, dtype=torch.float16, device=f"cuda:{gpu.ordinal}")
    for _ in range(3):
        a @ a
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    for _ in range(10):
        a @ a
    end.record(stream)
    end.synchronize()
    return 10 * 2 * side**3 / (start.elapsed_time(end) / 1e3)


def floors(
    settings: EngineSettings, machine: Machine, executor: Executor, picture: np.ndarray, batch: int
) -> dict[str, float]:
    """Return the shortest possible time of each step for a batch, in seconds."""
    fit = _fit(settings, picture)
    x0, y0, x1, y1 = fit.crop
    seen = (x1 - x0) * (y1 - y0) * 3
    rows = (y1 - y0) * picture.shape[1] * 3  # whole rows are copied
    item = executor.input_type.itemsize
    written = 3 * settings.width * settings.height * item
    steps = settings.weights.profile.operations(settings.width, settings.height)
    network = 0.0
    for step in steps:
        if step.kind == "concat":
            continue  # takes no time if the layers before it write to the right place
        pixels = [w * h for w, h in (step.in_size, step.out_size)]
        values = batch * (step.in_channels * pixels[0] + step.out_channels * pixels[1])
        seconds = (values + step.parameters) * item / machine.bandwidth
        if machine.operations is not None:
            seconds = max(seconds, 2 * step.macs * batch / machine.operations)
        network += seconds
    output = int(np.prod(settings.head().output_shape)) * executor.output_type.itemsize
    return {
        "copy in": batch * rows / machine.bus,
        "preprocess": batch * (seen + written) / machine.bandwidth,
        "network": network,
        "decode, top N, NMS": batch * output / machine.bandwidth,
        "copy out": 0.0,
    }


def throughput(
    runners: Sequence[BatchRunner],
    pictures: list[np.ndarray],
    seconds: float,
) -> float:
    """Return pictures a second from host memory to boxes, with one batch in flight per runner."""
    done = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or done < len(runners):
        runner = runners[done % len(runners)]
        if done >= len(runners):
            runner.collect()
        runner.load(pictures)
        for step in STEPS:
            runner.enqueue(step)
        done += 1
    for runner in runners:
        runner.collect()
    return done * len(pictures) / (time.perf_counter() - start)


def measure_executor(
    gpu: GpuContext,
    executor: Executor,
    kernels: ImageKernels,
    settings: EngineSettings,
    machine: Machine,
    picture: np.ndarray,
    seconds: float,
    report: Report,
) -> float:
    """Add the rows of one executor; return its highest rate at batch 1, in pictures a second."""
    best = 0.0
    name = executor.runtime
    for batch in (1, MAX_BATCH):
        where = f"{name} {executor.precision}, batch {batch}"
        pictures = [picture] * batch
        runners = [BatchRunner(gpu, executor, kernels, batch) for _ in SLOTS]
        try:
            for runner in runners * 2:  # the second pass records graphs
                runner.load(pictures)
                for step in STEPS:
                    runner.enqueue(step)
                runner.collect()
            first = runners[0]
            floor = floors(settings, machine, executor, picture, batch)
            busy = 0.0
            for what, step in (
                ("copy in", first.copy_in),
                ("preprocess", first.preprocess),
                ("network", first.infer),
                ("decode, top N, NMS", first.detect),
                ("copy out", first.copy_out),
            ):
                took, how = step_time(gpu, first, step)
                least = floor[what]
                ratio = f"floor {least * 1e6:.1f} us, {took / least:.1f} times" if least else ""
                remark = "; ".join(part for part in (ratio, how) if part)
                report.add(f"{where}: {what}", f"{took * 1e6:.1f} us", remark)
                if not what.startswith("copy"):
                    busy += took
            report.add(f"{where}: launches and copies in graphs", str(first.launches))
            for slots in SLOTS:
                rate = throughput(runners[:slots], pictures, seconds)
                idle = max(0.0, 1 - busy / batch * rate)
                what = f"{where}: {slots} in flight"
                report.add(what, f"{rate:.0f} pictures/s", f"GPU idle {idle:.0%}")
                if batch == 1:
                    best = max(best, rate)
        finally:
            for runner in runners:
                runner.close()
    return best


class Repeat(Source):
    """A source that gives the same picture for some seconds."""

    def __init__(self, number: int, picture: np.ndarray, seconds: float) -> None:
        size = picture.shape[1], picture.shape[0]
        self.info = SourceInfo("picture", "file", *size, Fraction(25), None, Fraction(1, 25))
        super().__init__()
        self._number, self._picture, self._seconds = number, picture, seconds
        self._read, self._start = 0, 0.0

    def read(self) -> Frame | None:
        now = time.monotonic()
        self._start = self._start or now
        if now - self._start > self._seconds:
            return None
        self._read += 1
        return Frame(self._number, self._read, self._read, Fraction(1, 25), now, self._picture)

    def close(self) -> None:
        pass


def measure_pipeline(
    backend: CudaBackend, picture: np.ndarray, seconds: float, report: Report
) -> None:
    """Add the rates of the whole pipeline for one source and for a batch of sources."""
    for sources, slots in itertools.product((1, MAX_BATCH), SLOTS):
        changed = threading.Condition()
        feeds = [
            feed_of(Repeat(number, picture, seconds), [], changed=changed)
            for number in range(sources)
        ]
        run = Pipeline(feeds, backend, QueueOptions(slots=slots))
        run.run()
        what = f"{backend.info.runtime} {backend.info.precision}: pipeline, {sources} sources"
        rate = f"{run.processed / run.seconds:.0f} pictures/s"
        report.add(f"{what}, {slots} slots", rate, "nothing drawn or written")


def measure_obvious(
    settings: EngineSettings, device: str, picture: np.ndarray, seconds: float, report: Report
) -> float:
    """Add the rate of the obvious way and return it."""
    find = obvious_way(settings, device)
    for _ in range(5):
        find(picture)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        find(picture)
        done += 1
    rate = done / (time.perf_counter() - start)
    report.add(f"obvious way: OpenCV, PyTorch, NMS by {NMS}", f"{rate:.0f} pictures/s")
    return rate


def compare(backend: CudaBackend, settings: EngineSettings, picture: np.ndarray) -> str:
    """Return a text about the difference to the boxes of the processor in single precision."""
    cpu = open_backend("cpu", settings, [CpuOptions(precision="fp32")])
    found = []
    for one in (backend, cpu):
        slot = one.new_slot()
        slot.preprocess([picture])
        slot.infer()
        found += slot.detect()
        slot.close()
    cpu.close()
    here, there = found
    if len(here) != len(there) or (np.sort(here.classes) != np.sort(there.classes)).any():
        return f"{len(here)} boxes, on the processor {len(there)}"
    if not len(here):
        return "no boxes on either"
    apart = np.abs(here.boxes[:, None] - there.boxes[None]).max(2)
    nearest = apart.argmin(1)
    score = np.abs(here.scores - there.scores[nearest]).max()
    return f"{len(here)} boxes, at most {apart.min(1).max():.2f} px and {score:.4f} apart"


def _fit(settings: EngineSettings, picture: np.ndarray) -> Any:

    return settings.fit_of(picture.shape[1::-1])


def run(size: tuple[int, int], names: Sequence[str], seconds: float) -> Report:
    """Measure everything that this machine can."""
    report = Report()
    gpu = open_gpu()
    weights = load_weights(DEFAULT)
    profile = weights.profile
    settings = EngineSettings(weights, profile.input.width, profile.input.height, DetectParams())
    picture = Street(StreetSpec(*size)).render(0)
    driver_version = "{}.{}".format(*divmod(gpu.driver.get_driver_version() // 10, 100))
    report.add("machine", gpu.name, f"CUDA driver {driver_version}, {size[0]}x{size[1]} in")
    with gpu.current():
        machine = measure_machine(gpu)
    report.add("bandwidth of a copy on the GPU", f"{machine.bandwidth / 1e9:.0f} GB/s")
    report.add("bandwidth of the bus, pinned", f"{machine.bus / 1e9:.1f} GB/s")
    if machine.operations is None:
        report.missing.append("the rate of a matrix product, and the obvious way: no PyTorch")
    else:
        report.add("fp16 matrix product", f"{machine.operations / 1e12:.0f} TFLOP/s")
    best = 0.0
    for name in names:
        if found := _obstacles(name):
            report.missing.append(f"{name}: {'; '.join(found)}")
            continue
        with gpu.current():
            executor = open_executor(name, settings, MAX_BATCH, gpu, print)
            kernels = make_kernels(settings, executor)
            rate = measure_executor(
                gpu, executor, kernels, settings, machine, picture, seconds, report
            )
        best = max(best, rate)
        backend = CudaBackend(name, settings, gpu, executor, kernels, "benchmark")
        report.add(f"{executor.runtime}: boxes", compare(backend, settings, picture))
        measure_pipeline(backend, picture, seconds, report)
        backend.close()
    if machine.operations is not None:
        rate = measure_obvious(settings, f"cuda:{gpu.ordinal}", picture, seconds, report)
        report.add("this project against the obvious way, batch 1", f"{best / rate:.1f} times")
    return report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=input_size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--executor", choices=("tensorrt", "torch"), action="append")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each rate (default: 1)")
    arguments = parser.parse_args(argv)
    start = time.monotonic()
    try:
        report = run(arguments.size, arguments.executor or ("tensorrt", "torch"), arguments.seconds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\nmeasured in {time.monotonic() - start:.0f} s\n\n{report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
