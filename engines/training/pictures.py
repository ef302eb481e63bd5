"""Draw pictures of a training: detected boxes beside labelled ones, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import LabelledImage
from squeezedrive.kernels.detections import Detections

THRESHOLD = 0.3  # lowest score of a box that is drawn
TRUTH = (80, 220, 80)
IGNORED = (160, 160, 160)
COLOURS = ((60, 160, 255), (255, 120, 60), (60, 60, 255), (255, 80, 255), (255, 255, 80))


def draw_comparison(
    image: NDArray[np.uint8], item: LabelledImage, found: Detections, classes: Sequence[str]
) -> NDArray[np.uint8]:
    """Return a copy of a BGR picture with the labels in green and the detected boxes over them.

    Neighbours and regions to ignore are grey.
    """
    canvas = image.copy()
    for box, neighbour in zip(item.labels.boxes, item.labels.neighbour, strict=True):
        _rectangle(canvas, box, IGNORED if neighbour else TRUTH, 2)
    for box in item.ignore_boxes:
        _rectangle(canvas, box, IGNORED, 1)
    found = found[found.scores >= THRESHOLD]
    for box, score, index in zip(found.boxes, found.scores, found.classes, strict=True):
        colour = COLOURS[index % len(COLOURS)]
        _rectangle(canvas, box, colour, 1)
        at = (int(box[0]), max(10, int(box[1]) - 3))
        text = f"{classes[index]} {score:.2f}"
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return canvas


def _rectangle(
    canvas: NDArray[np.uint8],
    box: NDArray[np.float32],
    colour: tuple[int, int, int],
    thickness: int,
) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)


def plot_curves(epochs: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot losses, learning rate and average precision from the lines of metrics.jsonl as PNG.

    Nothing is drawn if Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    losses = [key for key in epochs[0] if key.startswith("loss/")]
    for axis, title, keys in (
        (axes[0, 0], "Loss", losses),
        (axes[0, 1], "Learning rate", ["rate"]),
    ):
        axis.set_title(title)
        axis.set_yscale("log")
        for name in keys:
            axis.plot(*_series(epochs, name), label=name.removeprefix("loss/"))
    every = list(dict.fromkeys(key for line in epochs for key in line))
    scored = [key for key in every if key.startswith("AP") and ":" not in key]
    means = [key for key in every if key.split(":")[-1] in ("mAP", "mAP40")]
    for axis, title, keys in (
        (axes[1, 0], "Average precision", scored),
        (axes[1, 1], "Mean average precision", means),
    ):
        axis.set_title(title)
        axis.set_ylim(0, 1)
        for name in keys:
            axis.plot(*_series(epochs, name), marker=".", label=name)
    for axis in axes.flat:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def _series(epochs: Sequence[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    there = [(line["epoch"], line[key]) for line in epochs if line.get(key) is not None]
    return [epoch for epoch, _ in there], [value for _, value in there]
