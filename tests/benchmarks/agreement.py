"""The agreement of weights with a data set's labels, for example a teacher's, on visible objects.

    python -m tests.benchmarks.agreement DATA... [--weights FILE.npz ...] [--fit band]

It prints recall and precision at IoU 0.5 of boxes with a score of 0.4 or more (the threshold for
drawing), for objects more than 40 px high, and false alarms per picture. Boxes in regions to ignore
are not counted. Weights with an int8 model run in int8, others in fp32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.datasets.dataset import EVERY_CLASS, Dataset, LabelledImage
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.engines.evaluation.run import find_all
from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
from squeezedrive.kernels.params import DetectParams

HEIGHT = 40  # pixels
OVERLAP = 0.5


def count(
    item: LabelledImage, found: ImageDetections, class_index: int
) -> tuple[int, int, int, int]:
    """Return the numbers of objects, found objects, counted boxes and right boxes of a picture."""
    labels = item.labels[item.labels.classes == class_index]
    mine = found.classes == class_index
    order = np.argsort(-found.scores[mine], kind="stable")
    boxes = found.boxes[mine][order]
    overlaps = iou(boxes, labels.boxes)
    matched = np.full(len(boxes), -1)
    for row in range(len(boxes)):
        free = np.where(np.isin(np.arange(len(labels)), matched), 0, overlaps[row])
        if len(free) and free.max() >= OVERLAP:
            matched[row] = int(free.argmax())
    large = (labels.height > HEIGHT) & ~labels.neighbour
    applies = np.isin(item.ignore_classes, (EVERY_CLASS, class_index))
    ignored = (coverage(boxes, item.ignore_boxes[applies]) > 0.5).any(axis=1)
    ignored |= (coverage(boxes, labels.boxes[labels.neighbour]) > 0.5).any(axis=1)
    ignored |= boxes[:, 3] - boxes[:, 1] <= HEIGHT
    hit = matched >= 0
    # A box on a small object or on a neighbour is neither right nor wrong.
    right = hit & large[matched.clip(min=0)] if len(labels) else hit
    counted = right | (~hit & ~ignored)
    return int(large.sum()), int(right.sum()), int(counted.sum()), int(right.sum())


def row(dataset: Dataset, results: list[ImageDetections]) -> list[str]:
    """Return recall and precision of each class, and false alarms per picture."""
    cells, alarms = [], 0
    for index in range(len(dataset.classes)):
        sums = np.sum(
            [count(i, f, index) for i, f in zip(dataset.items, results, strict=True)], axis=0
        )
        objects, hits, boxes, right = sums.tolist()
        recall = f"{hits / objects:.2f}" if objects else "-"
        precision = f"{right / boxes:.2f}" if boxes else "-"
        cells.append(f"{recall} / {precision} ({objects})")
        alarms += boxes - right
    return [*cells, f"{alarms / len(dataset):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--weights", nargs="+", type=Path, default=[DEFAULT])
    parser.add_argument("--split", default="train")
    parser.add_argument("--fit", default="band")
    arguments = parser.parse_args()
    for path in arguments.weights:
        weights = load_weights(path)
        pixels, classes = weights.profile.input, weights.profile.output.classes
        settings = EngineSettings(
            weights,
            pixels.width,
            pixels.height,
            DetectParams(),
            fit=arguments.fit,
            int8=int8_model(path),
        )
        backend = CpuBackend(settings, CpuOptions(), "benchmark")
        print(f"{weights.profile.name}: recall / precision (objects); false alarms per picture")
        print("| set | " + " | ".join(classes) + " | false |")
        print("|---" * (len(classes) + 2) + "|")
        for root in arguments.data:
            dataset = load_dataset(root, arguments.split, classes)
            cells = row(dataset, find_all(backend, classes, dataset))
            print(f"| {root.name} | " + " | ".join(cells) + " |", flush=True)
        backend.close()


if __name__ == "__main__":
    main()
