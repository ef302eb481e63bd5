"""Format an evaluation as text for people and as plain data for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from squeezedrive.engines.evaluation.coco import IOUS, RECALLS
from squeezedrive.engines.evaluation.evaluate import Evaluation
from squeezedrive.engines.evaluation.kitti import DIFFICULTIES, KittiResult
from squeezedrive.engines.evaluation.mistakes import BOX_KINDS, OBJECT_KINDS

KITS = {
    "paper": "the kit of the SqueezeDet paper",
    "current": "the current kit, which ignores boxes lower than the limits",
}


def format_report(evaluation: Evaluation) -> str:
    """Format the figures as tables; AP in percent, "-" without objects."""
    parts = []
    if evaluation.kitti:
        parts += [_kitti_text(evaluation.kitti, positions) for positions in (11, 40)]
    parts += [_coco_text(evaluation), _mistakes_text(evaluation), _confusion_text(evaluation)]
    dataset = evaluation.dataset
    absent = [
        name for name, count in zip(dataset.classes, dataset.counts(), strict=True) if not count
    ]
    if absent:
        parts.append(f"Not labelled in this split and left out of all means: {', '.join(absent)}.")
    return "\n\n".join(parts)


def as_comparison(names: Sequence[str], evaluations: Sequence[Evaluation]) -> str:
    """Format the AP of several evaluations of one data set side by side, in percent."""
    columns = [_figures(evaluation) for evaluation in evaluations]
    rows = [["", *names]]
    rows += [[name, *(percent(column[name]) for column in columns)] for name in columns[0]]
    kind = "KITTI AP in %, 11 recall points" if evaluations[0].kitti else "COCO AP in %"
    return f"{kind}\n{format_table(rows)}"


def _figures(evaluation: Evaluation) -> dict[str, float]:
    """Return AP by name: KITTI's if the data set has its difficulties, else COCO's."""
    classes = evaluation.dataset.classes
    if evaluation.kitti:
        figures = {
            f"{name} {difficulty.name}": float(value)
            for name, row in zip(classes, evaluation.kitti.ap(11), strict=True)
            for difficulty, value in zip(DIFFICULTIES, row, strict=True)
        }
        return {
            **figures,
            "mean": evaluation.kitti.mean_ap(11),
            "mean, 40 points": evaluation.kitti.mean_ap(40),
        }
    figures = {}
    for kind, min_iou in (("AP50", 0.5), ("AP50-95", None)):
        values = [curve.ap(min_iou) for curve in evaluation.coco]
        there = [value for value in values if not math.isnan(value)]
        figures |= {f"{kind} {name}": value for name, value in zip(classes, values, strict=True)}
        figures[f"{kind} mean"] = float(np.mean(there)) if there else math.nan
    return figures


def _kitti_text(result: KittiResult, positions: int) -> str:
    names = [difficulty.name for difficulty in DIFFICULTIES]
    rows = [["class", "IoU over", *names, "objects"]]
    values = result.ap(positions)
    for name, required, curves, ap in zip(
        result.classes, result.min_iou, result.curves, values, strict=True
    ):
        objects = " / ".join(str(curve.objects) for curve in curves)
        rows.append([name, f"{required:g}", *map(percent, ap), objects])
    mean = percent(result.mean_ap(positions))
    title = f"KITTI AP in %, {positions} recall points, {KITS[result.kit]}"
    return f"{title}\n{format_table(rows)}\nmean of {int((~np.isnan(values)).sum())}: {mean}"


def _coco_text(evaluation: Evaluation) -> str:
    rows = [["class", "AP50", "AP75", "AP50-95", "objects"]]
    columns = [
        [curve.ap(0.5), curve.ap(0.75), curve.ap(), curve.objects] for curve in evaluation.coco
    ]
    for name, (ap50, ap75, ap, objects) in zip(evaluation.dataset.classes, columns, strict=True):
        rows.append([name, *map(percent, (ap50, ap75, ap)), str(objects)])
    values = np.array([column for column in columns if column[-1]]).reshape(-1, 4)
    if len(values):
        rows.append(["mean", *map(percent, values[:, :3].mean(axis=0)), ""])
    return f"COCO AP in %, 101 recall points, objects of all sizes\n{format_table(rows)}"


def _mistakes_text(evaluation: Evaluation) -> str:
    mistakes = evaluation.mistakes
    rows = [["class", "boxes", *BOX_KINDS, "objects", *OBJECT_KINDS]]
    for name, boxes, objects in zip(
        evaluation.dataset.classes, mistakes.boxes, mistakes.objects, strict=True
    ):
        cells = [boxes.sum(), *boxes, objects.sum(), *objects]
        rows.append([name, *map(str, cells)])
    rows[0] = [cell.replace("_", " ") for cell in rows[0]]
    limits = " within KITTI's hard limits" if evaluation.kitti else ""
    title = f"Boxes with a score of {mistakes.score:g} or more, and objects{limits}"
    return f"{title}\n{format_table(rows)}"


def _confusion_text(evaluation: Evaluation) -> str:
    names = evaluation.dataset.classes
    rows = [["is", *names, "nothing"]]
    for name, row in zip([*names, "background"], evaluation.mistakes.confusion, strict=True):
        rows.append([name, *map(str, row)])
    rows[-1][-1] = ""  # background without a box cannot be counted
    return f"True class (rows) and class of the box (columns)\n{format_table(rows)}"


def percent(value: float) -> str:
    """Format a fraction in percent; "-" if it is NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def format_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align the first `left` columns to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def report_data(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures as data for JSON; AP 0 to 1, None without objects."""
    dataset, mistakes = evaluation.dataset, evaluation.mistakes
    data: dict[str, Any] = {
        "data": str(dataset.root),
        "split": dataset.split,
        "layout": dataset.layout,
        "images": len(dataset),
        "classes": list(dataset.classes),
        "min_iou": list(evaluation.min_iou),
        "coco": {
            name: {
                "AP50": number(curve.ap(0.5)),
                "AP75": number(curve.ap(0.75)),
                "AP50-95": number(curve.ap()),
                "objects": curve.objects,
                "precision50": _numbers(curve.precision[0]),
            }
            for name, curve in zip(dataset.classes, evaluation.coco, strict=True)
        },
        "coco_recall": _numbers(RECALLS),
        "coco_iou": _numbers(IOUS),
        "mistakes": {
            "score": mistakes.score,
            "boxes": _counts(dataset.classes, BOX_KINDS, mistakes.boxes.tolist()),
            "objects": _counts(dataset.classes, OBJECT_KINDS, mistakes.objects.tolist()),
            "confusion_rows": [*dataset.classes, "background"],
            "confusion_columns": [*dataset.classes, "nothing"],
            "confusion": mistakes.confusion.tolist(),
        },
    }
    if evaluation.kitti:
        data["kitti"] = _kitti_data(evaluation.kitti)
    return data


def _kitti_data(result: KittiResult) -> dict[str, Any]:
    return {
        "kit": result.kit,
        "difficulties": [difficulty.name for difficulty in DIFFICULTIES],
        "mAP11": number(result.mean_ap(11)),
        "mAP40": number(result.mean_ap(40)),
        "classes": {
            name: {
                "AP11": [number(curve.ap(11)) for curve in curves],
                "AP40": [number(curve.ap(40)) for curve in curves],
                "objects": [curve.objects for curve in curves],
                "precision": [_numbers(curve.precision) for curve in curves],
            }
            for name, curves in zip(result.classes, result.curves, strict=True)
        },
    }


def number(value: float) -> float | None:
    """Return a figure for JSON; None if it is NaN."""
    return None if math.isnan(value) else round(value, 6)


def _numbers(values: np.ndarray) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _counts(
    classes: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[int]]
) -> dict[str, dict[str, int]]:
    return {
        name: dict(zip(kinds, row, strict=True)) for name, row in zip(classes, rows, strict=True)
    }
