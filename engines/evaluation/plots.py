"""Draw curves and the confusion between classes as PNG. Only this module needs matplotlib."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from squeezedrive.engines.evaluation.coco import RECALLS, CocoCurve
from squeezedrive.engines.evaluation.evaluate import Evaluation
from squeezedrive.engines.evaluation.kitti import DIFFICULTIES, POSITIONS, KittiCurve

CURVES = "precision-recall.png"
CONFUSION = "confusion.png"


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the plots into an existing folder and return the files.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    figures = {CURVES: _curves(evaluation), CONFUSION: _confusion(evaluation)}
    paths = []
    for name, figure in figures.items():
        FigureCanvasAgg(figure)  # Agg is set here because pyplot would look for a display
        figure.savefig(folder / name, dpi=110)
        paths.append(folder / name)
    return paths


def _curves(evaluation: Evaluation) -> Figure:
    classes = evaluation.dataset.classes
    columns = min(3, len(classes))
    rows = -(-len(classes) // columns)
    figure = Figure(figsize=(4 * columns, 3.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for index, axes in enumerate(grid):
        if index >= len(classes):
            axes.set_axis_off()
            continue
        if evaluation.kitti:
            _draw_kitti(axes, evaluation.kitti.curves[index])
            axes.set_title(f"{classes[index]}, IoU over {evaluation.min_iou[index]:g}")
        else:
            _draw_coco(axes, evaluation.coco[index])
            axes.set_title(classes[index])
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
    return figure


def _draw_kitti(axes: Axes, curves: tuple[KittiCurve, ...]) -> None:
    recall = np.linspace(0, 1, POSITIONS)
    for curve, difficulty in zip(curves, DIFFICULTIES, strict=True):
        label = f"{difficulty.name}, {_ap('AP11', curve.ap(11))}"
        axes.plot(recall, curve.precision, label=label)


def _draw_coco(axes: Axes, curve: CocoCurve) -> None:
    for row, min_iou in ((0, 0.5), (5, 0.75)):
        label = f"IoU {min_iou}, {_ap('AP', curve.ap(min_iou))}"
        axes.plot(RECALLS, curve.precision[row], label=label)


def _ap(name: str, value: float) -> str:
    return "no objects" if math.isnan(value) else f"{name} {100 * value:.1f} %"


def _confusion(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix, shaded by each count's share of its row."""
    classes = evaluation.dataset.classes
    counts = evaluation.mistakes.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share[-1] = 0  # false boxes on background have no total
    size = 2.2 + 0.9 * len(counts)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if (row, column) == (len(classes), len(classes)):
            continue
        text = str(count) if row == len(classes) else f"{count}\n{100 * share[row, column]:.0f} %"
        shade = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=shade)
    ticks = range(len(counts))
    axes.set_xticks(ticks, [*classes, "nothing"], rotation=30, ha="right")
    axes.set_yticks(ticks, [*classes, "background"])
    axes.set(xlabel="taken for", ylabel="is")
    axes.set_title(f"boxes with a score of {evaluation.mistakes.score:g} or more", fontsize=10)
    return figure
