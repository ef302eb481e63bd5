"""Average precision of a model in training, on pictures it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.datasets.dataset import Dataset
from engines.datasets.images import read_image
from engines.datasets.load import load_dataset
from engines.evaluation.coco import evaluate_coco
from engines.evaluation.kitti import DIFFICULTIES, evaluate_kitti
from engines.evaluation.results import Found
from engines.evaluation.run import DETECT
from engines.training.config import TrainConfig
from engines.training.model import Detector
from kernels.cpu import detect
from kernels.detections import Detections
from kernels.fit import make_fit


@dataclass(frozen=True)
class Scores:
    """What an evaluation found out.

    Attributes
    ----------
    mean_ap : float
        The mean AP of the first data set, which decides which weights are best; NaN if nothing
        is labelled there.
    metrics : dict of str to float
        Every figure by name, such as "AP11/car/moderate"; those of further data sets begin with
        the name of their folder.
    summary : dict
        The same for people and profiles.
    """

    mean_ap: float
    metrics: dict[str, float]
    summary: dict[str, Any]


class Validator:
    """Data sets to evaluate on, ready to be used again and again."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        classes = config.network.output.classes
        roots = config.evaluate.roots or (config.data.sets[0].root,)
        self.datasets = [load_dataset(root, config.evaluate.split, classes) for root in roots]
        pixels = config.network.input
        self._head = config.profile("new", 0).head(pixels.width, pixels.height)
        mean = pixels.mean if pixels.channels == "BGR" else pixels.mean[::-1]
        self._fill = (round(mean[0]), round(mean[1]), round(mean[2]))

    def evaluate(self, model: Detector, stopped: Callable[[], bool]) -> Scores | None:
        """Find the boxes in all pictures, in float32, and compare them with the labels.

        Returns None as soon as `stopped` does not return False any more.
        """
        metrics: dict[str, float] = {}
        summary: dict[str, Any] = {}
        for number, dataset in enumerate(self.datasets):
            found = []
            for _, boxes in self.detect(model, dataset):
                if stopped():
                    return None
                found.append(Found.from_detections(boxes, dataset.classes, dataset))
            values, lines = _score(dataset, found)
            name = Path(dataset.root).name
            prefix = f"{name}:" if number else ""
            metrics |= {f"{prefix}{key}": value for key, value in values.items()}
            summary[f"{name}/{dataset.split}, {len(dataset)} pictures"] = lines
        return Scores(metrics["mAP"], metrics, summary)

    @torch.no_grad()
    def detect(
        self, model: Detector, dataset: Dataset
    ) -> Iterator[tuple[NDArray[np.uint8], Detections]]:
        """Yield each picture of a data set with the boxes found in it, in its own pixels."""
        model.eval()
        data, pixels = self._config.data, self._config.network.input
        size = (pixels.width, pixels.height)
        network_input = np.empty((pixels.height, pixels.width, 3), np.uint8)
        for item in dataset.items:
            image = read_image(item.image, item.size)
            source = (image.shape[1], image.shape[0])
            fit = make_fit(data.fit, source, size, data.band_centre)
            fit.preprocess(image, self._fill, network_input)
            ordered = network_input if pixels.channels == "BGR" else network_input[..., ::-1]
            batch = torch.from_numpy(np.ascontiguousarray(ordered))[None].to(self._device)
            output = model(batch.permute(0, 3, 1, 2))
            boxes = detect(output[0].float().cpu().contiguous().numpy(), self._head, DETECT)
            yield image, Detections(fit.to_source(boxes.boxes), boxes.scores, boxes.classes)


def _score(dataset: Dataset, found: list[Found]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return a data set's figures, as KITTI defines them for its layout, else as COCO does."""
    metrics: dict[str, float] = {}
    summary: dict[str, Any] = {}
    if dataset.layout == "kitti":
        result = evaluate_kitti(dataset.items, found, dataset.classes)
        for name, row in zip(dataset.classes, result.ap(11).tolist(), strict=True):
            for difficulty, value in zip(DIFFICULTIES, row, strict=True):
                metrics[f"AP11/{name}/{difficulty.name}"] = value
            summary[name] = [_rounded(value) for value in row]
        metrics["mAP40"] = result.mean_ap(40)
        metrics["mAP"] = result.mean_ap(11)
        what = "KITTI AP, 11 recall points, easy/moderate/hard"
    else:
        curves = evaluate_coco(dataset.items, found, dataset.classes)
        for name, curve in zip(dataset.classes, curves, strict=True):
            metrics[f"AP50/{name}"], metrics[f"AP50-95/{name}"] = curve.ap(0.5), curve.ap()
            summary[name] = [_rounded(curve.ap(0.5)), _rounded(curve.ap())]
        there = [curve.ap() for curve in curves if curve.objects]
        metrics["mAP"] = float(np.mean(there)) if there else float("nan")
        what = "COCO AP at IoU 0.5 and 0.5 to 0.95"
    return metrics, {"what": what, **summary, "mAP": _rounded(metrics["mAP"])}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
