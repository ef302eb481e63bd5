"""Compute all figures of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from squeezedrive.engines.datasets.dataset import Dataset
from squeezedrive.engines.evaluation.coco import CocoCurve, evaluate_coco
from squeezedrive.engines.evaluation.kitti import (
    DIFFICULTIES,
    Kit,
    KittiResult,
    class_iou,
    evaluate_kitti,
    has_difficulties,
)
from squeezedrive.engines.evaluation.mistakes import Mistakes, find_mistakes
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.kernels.params import DetectParams

SHOWN_SCORE = DetectParams().threshold  # the pipeline draws boxes from this score on


@dataclass(frozen=True)
class Evaluation:
    """The figures measured on a data set.

    Attributes
    ----------
    dataset : Dataset
        The pictures and the class names.
    min_iou : tuple of float
        Smallest overlap, exclusive, of a correct box of each class; the COCO figures use their own.
    kitti : KittiResult or None
        KITTI's AP; None if the labels do not suit its difficulties.
    coco : tuple of CocoCurve
        COCO's AP of each class.
    mistakes : Mistakes
        The mistakes among the boxes that are drawn.
    """

    dataset: Dataset
    min_iou: tuple[float, ...]
    kitti: KittiResult | None
    coco: tuple[CocoCurve, ...]
    mistakes: Mistakes


def evaluate(
    dataset: Dataset,
    found: Sequence[ImageDetections],
    min_iou: Mapping[str, float] | None = None,
    kit: Kit = "paper",
    score: float = SHOWN_SCORE,
) -> Evaluation:
    """Evaluate the boxes found in a data set.

    Parameters
    ----------
    found : sequence of ImageDetections
        The boxes in each picture, with all low scores, because a threshold lowers AP.
    min_iou : mapping of str to float, optional
        Smallest overlap of a correct box for classes by name. The default is 0.5, but 0.7 for cars
        if KITTI's AP is computed.
    kit : str
        The version of KITTI's development kit; see `engines.evaluation.kitti`.
    score : float
        The score from which mistakes are counted.
    """
    classes = dataset.classes
    is_kitti = has_difficulties(dataset)
    defaults = {} if is_kitti else dict.fromkeys(classes, 0.5)
    required = class_iou(classes, {**defaults, **(min_iou or {})})
    return Evaluation(
        dataset,
        required,
        evaluate_kitti(dataset.items, found, classes, min_iou, kit) if is_kitti else None,
        evaluate_coco(dataset.items, found, classes),
        find_mistakes(
            dataset.items, found, required, score, DIFFICULTIES[-1] if is_kitti else None
        ),
    )
