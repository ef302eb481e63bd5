"""Format several data sets and number formats in one table, and objects by their height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.evaluation.evaluate import Evaluation
from squeezedrive.engines.evaluation.report import format_table, number, percent
from squeezedrive.engines.evaluation.road import (
    BANDS,
    PRECISION,
    WIDTH,
    Ranking,
    RoadResult,
    mean,
)

ALL = "all"


@dataclass(frozen=True)
class SetFigures:
    """The figures of a data set in one number format.

    Attributes
    ----------
    name : str
        Name of the data set.
    variant : str
        The number format, or "files".
    evaluation : Evaluation
        The evaluation that contains KITTI's figures.
    road : RoadResult
        All other figures.
    """

    name: str
    variant: str
    evaluation: Evaluation
    road: RoadResult

    @property
    def score(self) -> float:
        """The score from which boxes are shown."""
        return self.evaluation.mistakes.score

    def mean_ap(self) -> float:
        """Return KITTI's mean AP (11 points) if the labels suit it, else the mean AP50."""
        kitti = self.evaluation.kitti
        return kitti.mean_ap(11) if kitti else self.road.mean_ap()


@dataclass(frozen=True)
class _Line:
    """The figures of one class in one set: the number of objects, then the columns of `_HEAD`."""

    name: str
    class_name: str
    variant: str
    objects: int
    values: tuple[float, ...]


_AT_P = f"R at P {100 * PRECISION:g}"
_HEAD = ("KITTI", "AP50", _AT_P, "recall", "precision", "false")


def format_overview(figures: Sequence[SetFigures]) -> str:
    """Format all sets, their parts and the mean over the sets as one table, in percent.

    Parameters
    ----------
    figures : sequence of SetFigures
        The figures set by set; the number formats of a set follow each other.
    """
    sets: list[_Line] = []
    lines: list[_Line] = []
    for name in dict.fromkeys(f.name for f in figures):
        same = [f for f in figures if f.name == name]
        own = [_lines(f.name, f, f.road) for f in same]
        sets += [line for of_variant in own for line in of_variant]
        lines += _by_class(own)
        for place, part in enumerate(same[0].road.parts):
            own = [_lines(f"{name} {part.name}", f, f.road.parts[place]) for f in same]
            lines += _by_class(own)
    names = list(dict.fromkeys(line.name for line in sets))
    if len(names) > 1:
        lines += _means(sets, f"mean of {len(names)} sets")
    rows = [["set", "class", "format", "objects", *_HEAD]]
    for name, group in groupby(lines, lambda line: line.name):
        rows += [] if name == names[0] else [[""] * len(rows[0])]
        for line in group:
            *fractions, false = line.values
            cells = [line.name, line.class_name, line.variant, str(line.objects or "")]
            rows.append([*cells, *map(percent, fractions), _plain(false)])
    first = figures[0]
    title = (
        "KITTI: KITTI AP, 11 recall points, mean of the difficulties.\n"
        "AP50: AP at IoU 0.5, 101 recall points. AP50 and later columns count objects of"
        f" {first.road.min_height:g} px and more\n"
        f"in a picture {WIDTH} px wide. {_AT_P}: recall at a precision of {100 * PRECISION:g} %.\n"
        f"recall, precision, false (boxes per picture): at a score of {first.score:g} or more.\n"
        f"all: for KITTI, AP50 and {_AT_P} the mean of the classes, else all boxes together."
    )
    return f"{title}\n\n{format_table(rows, left=3)}"


def format_means(figures: Sequence[SetFigures]) -> str:
    """Format a line for each number format: the mean of the sets' AP."""
    text = []
    for variant in dict.fromkeys(f.variant for f in figures):
        same = [f for f in figures if f.variant == variant]
        parts = ", ".join(f"{f.name} {percent(f.mean_ap())}" for f in same)
        total = percent(mean([f.mean_ap() for f in same]))
        text.append(f"mean AP of the sets, {variant}: {total} ({parts})")
    return "\n".join(text)


def _lines(name: str, figures: SetFigures, road: RoadResult) -> list[_Line]:
    """Return a line for each class that the data set labels, and last a line for all."""
    kitti = None if road.name else figures.evaluation.kitti
    by_class = kitti.ap(11) if kitti else np.full((len(road.classes), 1), math.nan)
    lines, chosen = [], []
    counts = figures.evaluation.dataset.counts()
    for class_name, ranking, row, count in zip(
        road.classes, road.rankings, by_class.tolist(), counts, strict=True
    ):
        if count:
            chosen.append(ranking)
            values = (mean(row), ranking.ap(), ranking.recall(ranking.cut()))
            lines.append(_line(name, class_name, figures, ranking, values))
    ap, recall = (mean([line.values[column] for line in lines]) for column in (1, 2))
    values = (kitti.mean_ap(11) if kitti else math.nan, ap, recall)
    together = Ranking.together(chosen, road.pictures)
    return [*lines, _line(name, ALL, figures, together, values)]


def _line(
    name: str,
    class_name: str,
    figures: SetFigures,
    ranking: Ranking,
    values: tuple[float, ...],
) -> _Line:
    score = figures.score
    shown = (ranking.recall(score), ranking.precision(score), ranking.false(score))
    return _Line(name, class_name, figures.variant, len(ranking.objects), (*values, *shown))


def _by_class(variants: Sequence[Sequence[_Line]]) -> list[_Line]:
    """Group the lines by class, with its number formats below each other."""
    return [line for same in zip(*variants, strict=True) for line in same]


def _means(lines: Sequence[_Line], name: str) -> list[_Line]:
    """Return the mean over the sets for each class and number format."""
    rows: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        rows.setdefault((line.class_name, line.variant), []).append(line)
    classes = dict.fromkeys(line.class_name for line in lines if line.class_name != ALL)
    ordered = [
        (class_name, variant)
        for class_name in (*classes, ALL)
        for variant in dict.fromkeys(line.variant for line in lines)
    ]
    return [
        _Line(name, *key, 0, tuple(map(mean, zip(*(r.values for r in rows[key]), strict=True))))
        for key in ordered
    ]


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def format_heights(figures: Sequence[SetFigures]) -> str:
    """Format recall and false boxes by height in the network's input, for one set.

    Parameters
    ----------
    figures : sequence of SetFigures
        The figures of a set in each number format.
    """
    first, score = figures[0], figures[0].score
    rows = [["class", "", "format", *map(_band_name, BANDS)]]
    for index, count in enumerate(first.evaluation.dataset.counts()):
        if not count:
            continue
        name = first.road.classes[index]
        bands = [first.road.by_height[index].band(*limits) for limits in BANDS]
        rows.append([name, "objects", "", *(str(len(band.objects)) for band in bands)])
        shown, wanted, false = [], [], []
        for f in figures:
            cut = f.road.rankings[index].cut()
            bands = [f.road.by_height[index].band(*limits) for limits in BANDS]
            shown.append([name, "recall", f.variant, *(percent(b.recall(score)) for b in bands)])
            wanted.append([name, _AT_P, f.variant, *(percent(b.recall(cut)) for b in bands)])
            false.append([name, "false", f.variant, *(_plain(b.false(score)) for b in bands)])
        rows += [*shown, *wanted, *false]
    title = (
        f"{first.name}: by height in the network's input, px. Recall in %; recall and false boxes"
        f"\nper picture at a score of {score:g} or more."
    )
    return f"{title}\n\n{format_table(rows, left=3)}"


def _band_name(limits: tuple[float, float]) -> str:
    low, high = limits
    return f"over {low:g}" if math.isinf(high) else f"{low:g}-{high:g}"


def road_data(figures: SetFigures) -> dict[str, Any]:
    """Return the road figures as data for JSON; None if there is nothing to measure.

    Classes that the data set does not label are left out.
    """
    counts = figures.evaluation.dataset.counts()
    return {
        "score": figures.score,
        "min_height": figures.road.min_height,
        "precision_wanted": PRECISION,
        **_road_data(figures.road, figures.score, counts),
        "parts": {
            part.name: _road_data(part, figures.score, counts) for part in figures.road.parts
        },
    }


def _road_data(road: RoadResult, score: float, counts: NDArray[np.intp]) -> dict[str, Any]:
    classes = {}
    for name, ranking, by_height, count in zip(
        road.classes, road.rankings, road.by_height, counts, strict=True
    ):
        if not count:
            continue
        cut = ranking.cut()
        bands = {_band_name(limits): by_height.band(*limits) for limits in BANDS}
        classes[name] = {
            "AP50": number(ranking.ap()),
            "score_at_precision": None if math.isinf(cut) else round(cut, 6),
            **_shown(ranking, score, cut),
            "by_height": {key: _shown(band, score, cut) for key, band in bands.items()},
        }
    return {"pictures": road.pictures, "mAP50": number(road.mean_ap()), "classes": classes}


def _shown(ranking: Ranking, score: float, cut: float) -> dict[str, Any]:
    return {
        "objects": len(ranking.objects),
        "recall": number(ranking.recall(score)),
        "precision": number(ranking.precision(score)),
        "false_a_picture": number(ranking.false(score)),
        "recall_at_precision": number(ranking.recall(cut)),
    }
