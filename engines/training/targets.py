"""Assign objects to anchors, and find the anchors that count as background."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from squeezedrive.engines.datasets.dataset import EVERY_CLASS
from squeezedrive.engines.training.boxes import (
    BoxDecoder,
    Prediction,
    area,
    corners,
    iou,
    shared_area,
)
from squeezedrive.engines.training.config import AssignConfig

NOTHING = -1
"""In an assignment (B, A): the anchor has no object. In `Truth.classes`: padding, no object."""

NO_REGION = -2
"""In `Truth.ignore_classes`: padding, no region."""

COVERED = 0.5
"""A predicted box is not background if regions to ignore cover more than this part of it."""


@dataclass(frozen=True)
class Truth:
    """The labels of a batch, padded to the largest number of objects in a picture.

    Attributes
    ----------
    boxes : tensor (B, M, 4)
        Corners x1, y1, x2, y2 in input pixels.
    classes : int64 tensor (B, M)
        Class of each object; `NOTHING` for padding.
    ignore_boxes : tensor (B, R, 4)
        Regions in which boxes are neither right nor wrong.
    ignore_classes : int64 tensor (B, R)
        The class for which a region is ignored, `EVERY_CLASS`, or `NO_REGION` for padding.
    labelled : bool tensor (B, classes)
        Whether each class is labelled in each picture's data set.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    ignore_boxes: torch.Tensor
    ignore_classes: torch.Tensor
    labelled: torch.Tensor

    def to(self, device: torch.device) -> Truth:
        """Return the labels on a device."""
        moved = (getattr(self, f.name).to(device, non_blocking=True) for f in fields(self))
        return Truth(*moved)


def assign_published(truth: Truth, anchors: torch.Tensor) -> torch.Tensor:
    """Assign to each object the anchor of highest IoU that no earlier object has taken.

    If no free anchor overlaps the object, it gets the nearest anchor by squared distance of (cx,
    cy, w, h), as in the authors' code.

    Parameters
    ----------
    truth : Truth
    anchors : tensor (A, 4)
        cx, cy, w, h in input pixels.

    Returns
    -------
    int64 tensor (B, A)
        Index of the anchor's object, or `NOTHING`.
    """
    batch, objects = truth.classes.shape
    assigned = truth.classes.new_full((batch, len(anchors)), NOTHING)
    boxes = corners(anchors)
    rows = torch.arange(batch, device=assigned.device)
    for index in range(objects):
        box = truth.boxes[:, index, None]
        taken = assigned != NOTHING
        overlap = iou(boxes, box).masked_fill(taken, -1)
        size = box[..., 2:] - box[..., :2]
        centred = torch.cat([(box[..., :2] + box[..., 2:]) / 2, size], dim=-1)
        distance = (anchors - centred).square().sum(dim=-1).masked_fill(taken, torch.inf)
        best_overlap, best = overlap.max(dim=1)
        chosen = torch.where(best_overlap > 0, best, distance.argmin(dim=1))
        there = truth.classes[:, index] != NOTHING
        assigned[rows[there], chosen[there]] = index
    return assigned


def assign_by_iou(truth: Truth, anchors: torch.Tensor, min_iou: float) -> torch.Tensor:
    """Assign to each anchor the object of highest IoU if it is at least `min_iou`.

    Parameters and result are those of `assign_published`, which first assigns one anchor to each
    object.
    """
    first = assign_published(truth, anchors)
    if not truth.classes.shape[1]:
        return first
    overlaps = iou(corners(anchors)[None, :, None], truth.boxes[:, None])
    overlaps = overlaps.masked_fill((truth.classes == NOTHING)[:, None], -1)
    best, index = overlaps.max(dim=2)
    return torch.where((first == NOTHING) & (best >= min_iou), index, first)


@torch.no_grad()
def assign_dynamic(
    truth: Truth, anchors: torch.Tensor, prediction: Prediction, top: int, radius: float
) -> torch.Tensor:
    """Assign to each object the anchors that predict it well, the cheapest first.

    The method is SimOTA (Ge et al., YOLOX, arXiv 2107.08430). The number of an object's anchors is
    the sum of the `top` highest IoUs of predicted boxes, rounded down, and at least one. An
    anchor's cost is the negative logarithm of its score plus three times that of its IoU.

    Parameters
    ----------
    truth : Truth
    anchors : tensor (A, 4)
        cx, cy, w, h in input pixels.
    prediction : Prediction
        The current output of the network.
    top : int
        The largest number of anchors for an object.
    radius : float
        An object gets only anchors whose centre lies inside it, or within this many pixels of its
        centre in x and in y.

    Returns
    -------
    int64 tensor (B, A)
        Index of the anchor's object, or `NOTHING`.
    """
    batch, objects = truth.classes.shape
    assigned = truth.classes.new_full((batch, len(anchors)), NOTHING)
    if not objects:
        return assigned
    centre = anchors[None, :, None, :2]
    box = truth.boxes[:, None]
    inside = ((centre > box[..., :2]) & (centre < box[..., 2:])).all(dim=-1)
    # The centre of a box that goes beyond the input may have no anchors; the nearest will do.
    points = anchors[:, :2]
    middle = ((box[..., :2] + box[..., 2:]) / 2).clamp(points.amin(dim=0), points.amax(dim=0))
    near = ((centre - middle).abs() < radius).all(dim=-1)
    candidate = (inside | near) & (truth.classes != NOTHING)[:, None]
    overlaps = iou(prediction.boxes[:, :, None], box) * candidate

    log_class = prediction.logits.log_softmax(dim=2)
    index = truth.classes.clamp(min=0)[:, None].expand(-1, len(anchors), -1)
    log_score = log_class.gather(2, index) + torch.nn.functional.logsigmoid(
        prediction.confidence[..., None]
    )
    cost = -log_score - 3 * overlaps.clamp(min=1e-6).log()
    cost = cost.masked_fill(~candidate, torch.inf)

    top = min(top, len(anchors))
    count = overlaps.topk(top, dim=1).values.sum(dim=1).long().clamp(min=1)  # (B, M)
    cheapest, order = cost.topk(top, dim=1, largest=False)
    rank = torch.arange(top, device=count.device)[None, :, None]
    wanted = (rank < count[:, None]) & cheapest.isfinite()
    matched = torch.zeros_like(candidate).scatter_(1, order, wanted)
    # An anchor matched to several objects goes to the object with the lowest cost.
    lowest, chosen = cost.masked_fill(~matched, torch.inf).min(dim=2)
    return torch.where(lowest.isfinite(), chosen, assigned)


@torch.no_grad()
def background(
    assigned: torch.Tensor, truth: Truth, prediction: Prediction, decoder: BoxDecoder
) -> torch.Tensor:
    """Return whether each anchor must have low confidence, a bool tensor (B, A).

    Three kinds of anchors are excluded: anchors with an object; anchors whose predicted box lies
    mostly in a region to ignore for its class; and anchors whose most probable class is not
    labelled in the picture's data set, because the object may well exist.
    """
    predicted = prediction.logits.argmax(dim=2)
    negative = (assigned == NOTHING) & truth.labelled.gather(1, predicted)
    if truth.ignore_classes.shape[1]:
        boxes = decoder.clip(prediction.boxes)
        covered = shared_area(boxes[:, :, None], truth.ignore_boxes[:, None])
        covered = covered / area(boxes)[..., None].clamp(min=1)
        region = truth.ignore_classes[:, None]
        applies = (region == EVERY_CLASS) | (region == predicted[..., None])
        negative &= ~((covered > COVERED) & applies).any(dim=2)
    return negative


def assign(
    config: AssignConfig, truth: Truth, anchors: torch.Tensor, prediction: Prediction
) -> torch.Tensor:
    """Return the object of each anchor, int64 (B, A), by the method of the configuration."""
    if config.method == "published":
        return assign_published(truth, anchors)
    if config.method == "iou":
        return assign_by_iou(truth, anchors, config.min_iou)
    return assign_dynamic(truth, anchors, prediction, config.top, config.radius)
