"""Get the boxes to evaluate, from a network or from files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.progress import counting

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import BackendOptions
    from squeezedrive.engines.backends.cpu.options import CpuPrecision
    from squeezedrive.engines.backends.cuda.options import CudaPrecision
    from squeezedrive.engines.datasets.dataset import Dataset
    from squeezedrive.engines.evaluation.results import ImageDetections


@dataclass(frozen=True)
class Found:
    """The boxes found in several data sets.

    Attributes
    ----------
    boxes : list of list of ImageDetections
        For each data set, the boxes of each picture.
    sources : list of dict
        For each data set, a description of the network or the files.
    variant : str
        The number format, or "files".
    """

    boxes: list[list[ImageDetections]]
    sources: list[dict[str, Any]]
    variant: str


def read_found(folders: Sequence[Path], datasets: Sequence[Dataset]) -> Found:
    """Read KITTI result files, a folder for each data set."""
    from squeezedrive.engines.evaluation.results import read_results

    found = [read_results(*pair) for pair in zip(folders, datasets, strict=True)]
    return Found(found, [{"detections": str(folder)} for folder in folders], "files")


def find_boxes(
    arguments: argparse.Namespace, weights_path: Path, datasets: Sequence[Dataset], precision: str
) -> Found:
    """Find the boxes with a network in one number format."""
    from squeezedrive.engines.backends.base import EngineSettings
    from squeezedrive.engines.backends.cpu.options import CpuOptions
    from squeezedrive.engines.backends.cuda.options import CudaOptions
    from squeezedrive.engines.backends.select import open_backend
    from squeezedrive.engines.evaluation.run import DETECT, find_all
    from squeezedrive.engines.model.weights import int8_model, load_weights

    weights = load_weights(weights_path)
    profile = weights.profile
    width, height = arguments.size or profile.input.size
    detect = replace(DETECT, top_n=arguments.top_n)
    name: str = arguments.backend
    options: list[BackendOptions] = [CpuOptions(precision=cast("CpuPrecision", precision))]
    if precision == "bf16":
        if name not in ("auto", "cpu"):
            raise ConfigError(f"--precision bf16: not for the back end {name}, only for cpu")
        name = "cpu"
    elif precision != "auto":
        options.append(CudaOptions(precision=cast("CudaPrecision", precision)))
    fit, centre = arguments.fit, arguments.band_centre
    int8 = int8_model(weights_path)
    settings = EngineSettings(weights, width, height, detect, fit, centre, int8)
    found = []
    with closing(open_backend(name, settings, options)) as backend:
        for dataset in datasets:
            with counting(len(dataset)) as progress:
                found.append(find_all(backend, profile.output.classes, dataset, progress))
    info = backend.info
    source = {
        "weights": profile.name,
        "backend": info.name,
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "width": width,
        "height": height,
        "fit": fit,
        "band_centre": centre,
        "threshold": detect.threshold,
        "top_n": detect.top_n,
        "nms_iou": detect.nms_iou,
    }
    return Found(found, [source] * len(datasets), info.precision)
