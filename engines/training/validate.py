"""Evaluate a model during its training, on pictures that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import Dataset
from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.datasets.load import set_names
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.evaluation.coco import evaluate_coco
from squeezedrive.engines.evaluation.kitti import DIFFICULTIES, evaluate_kitti, has_difficulties
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.engines.evaluation.road import MIN_HEIGHT, WIDTH, least_heights, mean, rank
from squeezedrive.engines.evaluation.run import DETECT
from squeezedrive.engines.files import readable
from squeezedrive.engines.training.config import SetConfig, TrainConfig
from squeezedrive.engines.training.data import load_labelled
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.kernels.cpu import detect
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import FitMode as FitKind
from squeezedrive.kernels.fit import make_fit


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Attributes
    ----------
    mean_ap : float
        The mean of the data sets' mAP, by which the best weights are chosen. Sets without labels
        are left out; NaN if no set has labels.
    by_set : dict of str to float
        The mAP of each data set by its name: that of its folder, with those of parent folders if
        needed to distinguish the sets.
    metrics : dict of str to float
        All figures by name, such as "AP11/car/moderate". With several data sets, figures of the
        first have no prefix, and figures of the others begin with the set's name; "mAP" is
        `mean_ap`, and the mAP of each set begins with its name.
    summary : dict
        The same figures for people and profiles.
    """

    mean_ap: float
    by_set: dict[str, float]
    metrics: dict[str, float]
    summary: dict[str, Any]

    def __str__(self) -> str:
        """Return "mAP 0.6234 (kitti 0.6612, fog 0.5856)"; for one set, without the brackets."""
        parts = ", ".join(f"{name} {value:.4f}" for name, value in self.by_set.items())
        return f"mAP {self.mean_ap:.4f}" + (f" ({parts})" if len(self.by_set) > 1 else "")


@dataclass(frozen=True)
class ValidationSet:
    """A data set to evaluate on, the fit of its pictures, and its name in figures."""

    dataset: Dataset
    fit: FitKind
    name: str


class Validator:
    """Data sets to evaluate on, which are loaded once for all evaluations.

    Sets that are also trained on are read with the same names and the same fit.

    Raises
    ------
    DatasetError
        If a data set cannot be used.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        entries = config.evaluated_sets()
        datasets = [_load(entry, config) for entry in entries]
        names = set_names(datasets, [entry.root for entry in entries])
        self.sets = [
            ValidationSet(dataset, entry.fit or config.data.fit, name)
            for dataset, entry, name in zip(datasets, entries, names, strict=True)
        ]
        self._head = config.profile("new", 0).head(*config.network.input.size)

    def evaluate(self, model: TrainableNetwork, stopped: Callable[[], bool]) -> Scores | None:
        """Evaluate a model in float32 on all pictures.

        Returns None as soon as `stopped` returns True.
        """
        metrics: dict[str, float] = {}
        by_set: dict[str, float] = {}
        summary: dict[str, Any] = {}
        for number, chosen in enumerate(self.sets):
            dataset, name = chosen.dataset, chosen.name
            found, widths = [], []
            for image, boxes in self.detect(model, chosen):
                if stopped():
                    return None
                found.append(ImageDetections.from_detections(boxes, dataset.classes, dataset))
                widths.append(image.shape[1])
            values, lines = _score(dataset, found, widths)
            by_set[name] = values["mAP"]
            prefix = f"{name}:" if number else ""
            metrics |= {f"{prefix}{key}": value for key, value in values.items()}
            summary[f"{readable(name)}/{dataset.split}, {len(dataset)} pictures"] = lines
        mean_ap = mean(list(by_set.values()))
        if len(self.sets) > 1:
            metrics |= {f"{name}:mAP": value for name, value in by_set.items()}
            metrics["mAP"] = mean_ap
            summary["mean of the sets"] = {"mAP": _rounded(mean_ap)}
        return Scores(mean_ap, by_set, metrics, summary)

    @torch.no_grad()
    def detect(
        self, model: TrainableNetwork, chosen: ValidationSet
    ) -> Iterator[tuple[NDArray[np.uint8], Detections]]:
        """Yield each picture of a data set, and the boxes found in it in pixels of the picture."""
        model.eval()
        data, pixels = self._config.data, self._config.network.input
        network_input = np.empty((pixels.height, pixels.width, 3), np.uint8)
        for item in chosen.dataset.items:
            image = read_image(item.image, item.size)
            source = (image.shape[1], image.shape[0])
            beyond = self._head.reach > 0
            fit = make_fit(chosen.fit, source, pixels.size, data.band_centre, beyond)
            fit.preprocess(image, pixels.fill, network_input)
            ordered = network_input if pixels.channels == "BGR" else network_input[..., ::-1]
            batch = torch.from_numpy(np.ascontiguousarray(ordered))[None].to(self._device)
            output = model(batch.permute(0, 3, 1, 2))
            boxes = detect(output[0].float().cpu().contiguous().numpy(), self._head, DETECT)
            yield image, Detections(fit.to_source(boxes.boxes), boxes.scores, boxes.classes)


def _load(entry: SetConfig, config: TrainConfig) -> Dataset:
    classes = config.network.output.classes
    try:
        return load_labelled(entry.root, entry.split, classes, entry.names)
    except DatasetError as error:
        raise DatasetError(
            f"{error} (for the evaluation: evaluate.split chooses another split, evaluate.roots"
            " another set, evaluate.every=0 no evaluation)"
        ) from None


def _score(
    dataset: Dataset, found: list[ImageDetections], widths: list[int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the figures of a data set, whose kind depends on its layout.

    KITTI's figures need labels for its difficulties. For other road pictures in its layout, the
    figures are AP at IoU 0.5 of objects from a least height on; see `engines.evaluation.road`.
    """
    metrics: dict[str, float] = {}
    summary: dict[str, Any] = {}
    if has_difficulties(dataset):
        result = evaluate_kitti(dataset.items, found, dataset.classes)
        for name, row in zip(dataset.classes, result.ap(11).tolist(), strict=True):
            for difficulty, value in zip(DIFFICULTIES, row, strict=True):
                metrics[f"AP11/{name}/{difficulty.name}"] = value
            summary[name] = [_rounded(value) for value in row]
        metrics["mAP40"] = result.mean_ap(40)
        metrics["mAP"] = result.mean_ap(11)
        what = "KITTI AP, 11 recall points, easy/moderate/hard"
    elif dataset.layout == "kitti":
        least = least_heights(widths)
        rankings = rank(dataset.items, found, dataset.classes, least, [1.0] * len(least))
        for name, ranking in zip(dataset.classes, rankings, strict=True):
            metrics[f"AP50/{name}"] = ranking.ap()
            summary[name] = _rounded(ranking.ap())
        metrics["mAP"] = mean([ranking.ap() for ranking in rankings])
        what = f"AP at IoU 0.5, objects from {MIN_HEIGHT} px of a picture {WIDTH} wide"
    else:
        curves = evaluate_coco(dataset.items, found, dataset.classes)
        for name, curve in zip(dataset.classes, curves, strict=True):
            metrics[f"AP50/{name}"], metrics[f"AP50-95/{name}"] = curve.ap(0.5), curve.ap()
            summary[name] = [_rounded(curve.ap(0.5)), _rounded(curve.ap())]
        metrics["mAP"] = mean([curve.ap() for curve in curves])
        what = "COCO AP at IoU 0.5 and 0.5 to 0.95"
    return metrics, {"what": what, **summary, "mAP": _rounded(metrics["mAP"])}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
