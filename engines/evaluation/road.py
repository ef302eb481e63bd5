"""Evaluate boxes on road pictures of any camera; the labels need no occlusion.

The boxes of a class are matched as in COCO's evaluation at IoU 0.5 (`engines.evaluation.coco`),
over all pictures together, the best scores first. Some objects are ignored, that is, they are
neither found nor missed: objects lower than a least height, neighbours (vans for cars, sitting
persons for pedestrians), regions to ignore and, for pedestrians, cyclists, because the rider is a
person. A box half covered by such an object is not a mistake. A box that finds nothing and is lower
than the least height is not a mistake either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import Dataset, LabelledImage, class_key
from squeezedrive.engines.datasets.images import image_size
from squeezedrive.engines.datasets.parts import split_parts
from squeezedrive.engines.evaluation.coco import match, precision_at_recalls
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.kernels.fit import Fit, FitMode, make_fit

MIN_HEIGHT = 12.5  # pixels of a picture that is `WIDTH` wide
WIDTH = 640
PRECISION = 0.9
BANDS = ((16.0, 25.0), (25.0, 40.0), (40.0, 80.0), (80.0, 180.0), (180.0, np.inf))
IOU = np.array([0.5])
ALSO_PERSONS = {"pedestrian": "cyclist"}  # objects of the second are ignored for the first


@dataclass(frozen=True)
class Ranking:
    """The boxes of one class, each right or wrong, and the objects that were to be found.

    Attributes
    ----------
    scores : float64 array (n,)
        Scores of the boxes, the best first.
    true : bool array (n,)
        Whether the box has found an object.
    heights : float64 array (n,)
        Height of that object, else of the box, in pixels of the network's input. It is the whole
        height, even if the input shows only a part.
    objects : float64 array (m,)
        Heights of the objects in the same pixels.
    pictures : int
        Number of pictures.
    """

    scores: NDArray[np.float64]
    true: NDArray[np.bool_]
    heights: NDArray[np.float64]
    objects: NDArray[np.float64]
    pictures: int

    @classmethod
    def together(cls, rankings: Sequence[Ranking], pictures: int) -> Ranking:
        """Combine the boxes and objects of several pictures or classes."""
        nothing = np.empty(0)
        scores = np.concatenate([nothing, *(ranking.scores for ranking in rankings)])
        order = np.argsort(-scores, kind="stable")
        return cls(
            scores[order],
            np.concatenate([nothing.astype(np.bool_), *(r.true for r in rankings)])[order],
            np.concatenate([nothing, *(r.heights for r in rankings)])[order],
            np.concatenate([nothing, *(r.objects for r in rankings)]),
            pictures,
        )

    def ap(self) -> float:
        """Return the mean precision at 101 recall positions; NaN without objects."""
        if not len(self.objects):
            return float("nan")
        if not len(self.true):
            return 0.0
        return float(precision_at_recalls(self.true, ~self.true, len(self.objects)).mean())

    def cut(self, precision: float = PRECISION) -> float:
        """Return the lowest score at which the boxes reach a precision; infinity if none does."""
        right = self.true.cumsum() / np.arange(1, len(self.true) + 1)
        enough = np.flatnonzero(right >= precision)
        return float(self.scores[enough[-1]]) if len(enough) else float("inf")

    def recall(self, score: float) -> float:
        """Return the part of the objects that boxes from a score on find; NaN without objects."""
        found = int(self.true[self.scores >= score].sum())
        return found / len(self.objects) if len(self.objects) else float("nan")

    def precision(self, score: float) -> float:
        """Return the part of the boxes from a score on that are right; NaN without boxes."""
        chosen = self.true[self.scores >= score]
        return float(chosen.mean()) if len(chosen) else float("nan")

    def false(self, score: float) -> float:
        """Return the mean number of wrong boxes per picture, from a score on."""
        return int((~self.true[self.scores >= score]).sum()) / self.pictures

    def band(self, low: float, high: float) -> Ranking:
        """Return the boxes and objects of at least `low` and less than `high` pixels in height."""
        here = (self.heights >= low) & (self.heights < high)
        objects = self.objects[(self.objects >= low) & (self.objects < high)]
        return Ranking(
            self.scores[here], self.true[here], self.heights[here], objects, self.pictures
        )


@dataclass(frozen=True)
class RoadResult:
    """The figures of a data set or of a part of it.

    Attributes
    ----------
    name : str
        "" for the whole set, else the list of the part, as "val-night".
    classes : tuple of str
        Class names.
    pictures : int
        Number of pictures.
    min_height : float
        Least height of an object in pixels of a picture 640 wide.
    rankings : tuple of Ranking
        One for each class, with objects from the least height on.
    by_height : tuple of Ranking
        One for each class, with all objects that are at least as high in the input as the lowest of
        `BANDS`.
    parts : tuple of RoadResult
        The results of the parts that the data set names.
    """

    name: str
    classes: tuple[str, ...]
    pictures: int
    min_height: float
    rankings: tuple[Ranking, ...]
    by_height: tuple[Ranking, ...]
    parts: tuple[RoadResult, ...] = ()

    def mean_ap(self) -> float:
        """Return the mean AP of the classes that have objects; NaN if no class has any."""
        return mean([ranking.ap() for ranking in self.rankings])


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def dataset_fits(
    dataset: Dataset, kind: FitMode, input_size: tuple[int, int], centre: float
) -> list[Fit]:
    """Return the fit of each picture of a data set into the network's input.

    Raises
    ------
    DatasetError
        If a picture is missing or damaged.
    """
    sizes = [item.size or image_size(item.image) for item in dataset.items]
    return [make_fit(kind, size, input_size, centre) for size in sizes]


def evaluate_road(
    dataset: Dataset,
    found: Sequence[ImageDetections],
    fits: Sequence[Fit],
    min_height: float = MIN_HEIGHT,
) -> RoadResult:
    """Evaluate boxes on a data set and on each of its parts; see `engines.datasets.parts`.

    Parameters
    ----------
    fits : sequence of Fit
        The fit of each picture into the network's input.
    min_height : float
        Least height of an object in pixels of a picture 640 wide; it grows with the width.
    """
    parts: dict[str, Sequence[int]] = {"": range(len(dataset)), **split_parts(dataset)}
    whole, *rest = (
        _evaluate(name, chosen, dataset, found, fits, min_height) for name, chosen in parts.items()
    )
    return replace(whole, parts=tuple(rest))


def _evaluate(
    name: str,
    chosen: Sequence[int],
    dataset: Dataset,
    found: Sequence[ImageDetections],
    fits: Sequence[Fit],
    min_height: float,
) -> RoadResult:
    """Evaluate boxes on the pictures with the indices `chosen`."""
    items, boxes = [dataset.items[i] for i in chosen], [found[i] for i in chosen]
    views = [fits[i] for i in chosen]
    scales = [(f.target[3] - f.target[1]) / (f.crop[3] - f.crop[1]) for f in views]
    least = least_heights([f.source_size[0] for f in views], min_height)
    lowest = [BANDS[0][0] / scale for scale in scales]
    classes = dataset.classes
    return RoadResult(
        name,
        classes,
        len(items),
        min_height,
        rank(items, boxes, classes, least, scales),
        rank(items, boxes, classes, lowest, scales),
    )


def least_heights(widths: Sequence[int], min_height: float = MIN_HEIGHT) -> list[float]:
    """Return the least height of an object in pixels, for pictures of these widths."""
    return [min_height * width / WIDTH for width in widths]


def rank(
    items: Sequence[LabelledImage],
    found: Sequence[ImageDetections],
    classes: Sequence[str],
    least: Sequence[float],
    scales: Sequence[float],
) -> tuple[Ranking, ...]:
    """Rank the boxes of each class.

    Parameters
    ----------
    least : sequence of float
        The least height of an object in each picture, in pixels of the picture.
    scales : sequence of float
        Vertical scale from each picture to the network's input.
    """
    keys = [class_key(name) for name in classes]
    rankings = []
    for index, key in enumerate(keys):
        also = keys.index(ALSO_PERSONS[key]) if ALSO_PERSONS.get(key) in keys else index
        parts = [
            _rank_picture(*picture, index, also)
            for picture in zip(items, found, least, scales, strict=True)
        ]
        rankings.append(Ranking.together(parts, len(items)))
    return tuple(rankings)


def _rank_picture(
    item: LabelledImage, found: ImageDetections, least: float, scale: float, index: int, also: int
) -> Ranking:
    """Rank the boxes of one class in one picture; objects of the class `also` are ignored."""
    labels = item.labels
    wanted = (labels.classes == index) & ~labels.neighbour & (labels.height >= least)
    ignored = labels.boxes[np.isin(labels.classes, (index, also)) & ~wanted]
    view = replace(
        item,
        labels=labels[wanted],
        ignore_boxes=np.concatenate([item.ignore_boxes, ignored]),
        ignore_classes=np.append(item.ignore_classes, np.full(len(ignored), index)),
    )
    mine = np.flatnonzero(found.classes == index)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")]
    boxes = found.boxes[mine]
    (taken,), (skip,) = match(view, boxes, index, IOU)
    heights = boxes[:, 3] - boxes[:, 1]
    true = (taken >= 0) & ~skip
    judged = true | ((taken < 0) & (heights >= least))
    objects = labels.height[wanted]
    heights[true] = objects[taken[true]]
    return Ranking(
        found.scores[mine][judged], true[judged], heights[judged] * scale, objects * scale, 1
    )
