"""Compare AP and speed of a quantised model with those of the weights in fp32."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.base import Backend, EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import core
from squeezedrive.engines.backends.cpu.options import CpuOptions, CpuPrecision
from squeezedrive.engines.datasets.dataset import Dataset
from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.evaluation.evaluate import evaluate
from squeezedrive.engines.evaluation.run import find_all
from squeezedrive.engines.progress import counting

_ROUNDS = 60
_WARM_UP = 5


def compare(settings: EngineSettings, dataset: Dataset) -> str:
    """Evaluate a model and its weights on the CPU, time both, and return the figures as text.

    The network is timed on the first picture.
    """
    backends = open_variants(settings)
    kind, before = average_precision(backends["fp32"], settings, dataset)
    _, after = average_precision(backends["int8"], settings, dataset)
    width = max(map(len, before))
    lines = [
        f"{kind}, in %; {dataset.split} of {dataset.root}, {len(dataset)} pictures",
        f"{'':{width}}   fp32    int8    lost",
    ]
    for name, ap in before.items():
        row = (ap, after[name], ap - after[name])
        lines.append(f"{name:{width}}  " + "  ".join(map(_percent, row)))

    times = median_times(backends, dataset)
    info = backends["int8"].info
    for backend in backends.values():
        backend.close()
    lines += [
        "",
        f"time of the network in ms, median of {_ROUNDS} in turn; {info.runtime}, {info.device}",
        ", ".join(f"{name} {value:.2f}" for name, value in times.items()),
        f"int8 is {times['fp32'] / times['int8']:.2f} times as fast as fp32",
    ]
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{'-':>6}" if np.isnan(value) else f"{100 * value:6.2f}"


def open_variants(settings: EngineSettings) -> dict[str, Backend]:
    """Open the CPU back end once for each number format.

    Returns
    -------
    dict of str to Backend
        "fp32", "bf16" if the processor computes in it, and "int8".
    """
    formats: list[CpuPrecision] = ["fp32", "int8"]
    if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        formats.insert(1, "bf16")
    return {
        name: CpuBackend(settings, CpuOptions(precision=name), "to be compared") for name in formats
    }


def average_precision(
    backend: Backend, settings: EngineSettings, dataset: Dataset
) -> tuple[str, dict[str, float]]:
    """Evaluate a back end.

    Returns
    -------
    str
        The kind of AP: KITTI's if the layout has its difficulties, else COCO's.
    dict of str to float
        The AP of each class, and last their "mean"; NaN if there are no objects.
    """
    with counting(len(dataset)) as progress:
        names = settings.weights.profile.output.classes
        result = evaluate(dataset, find_all(backend, names, dataset, progress))
    if result.kitti:
        kind = "KITTI AP, 11 recall points, mean of the difficulties"
        values = result.kitti.ap(11)
    else:
        kind = "COCO AP50-95"
        values = np.array([[curve.ap()] for curve in result.coco])
    by_class = [_mean(row) for row in values]
    return kind, dict(zip((*dataset.classes, "mean"), (*by_class, _mean(values)), strict=True))


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")


def median_times(backends: Mapping[str, Backend], dataset: Dataset) -> dict[str, float]:
    """Measure the network's time for a picture in each back end, in milliseconds.

    The back ends take turns, so that other load on the machine affects all of them.
    """
    image = read_image(dataset.items[0].image)
    slots = {name: backend.new_slot() for name, backend in backends.items()}
    times: dict[str, list[float]] = {name: [] for name in backends}
    for slot in slots.values():
        slot.preprocess([image])
    for _ in range(_WARM_UP + _ROUNDS):
        for name, slot in slots.items():
            start = time.perf_counter()
            slot.infer()
            times[name].append(1000 * (time.perf_counter() - start))
    for slot in slots.values():
        slot.close()
    return {name: median(values[_WARM_UP:]) for name, values in times.items()}
