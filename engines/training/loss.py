"""Compute the loss and its four parts: class, confidence of objects and background, box."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch.nn import functional as F

from squeezedrive.engines.training.boxes import BoxDecoder, Prediction, ciou, giou, iou
from squeezedrive.engines.training.config import LossConfig
from squeezedrive.engines.training.targets import NOTHING, Truth, background

BOX_IOU = {"giou": giou, "ciou": ciou}


@dataclass(frozen=True)
class LossParts:
    """The weighted parts of a loss as scalar tensors; their sum is minimised."""

    class_: torch.Tensor
    confidence_positive: torch.Tensor
    confidence_negative: torch.Tensor
    box: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The sum of the parts."""
        return self.class_ + self.confidence_positive + self.confidence_negative + self.box

    def stack(self) -> torch.Tensor:
        """Return the parts as one tensor (4,) without gradient, in the order of `NAMES`."""
        return torch.stack([getattr(self, f.name).detach() for f in fields(self)])


NAMES = tuple(field.name.rstrip("_") for field in fields(LossParts))


def compute_loss(
    prediction: Prediction,
    truth: Truth,
    assigned: torch.Tensor,
    decoder: BoxDecoder,
    config: LossConfig,
) -> LossParts:
    """Compute the loss of the configured kind.

    `assigned`, int64 (B, A), is the object of each anchor; see `engines.training.targets`.
    """
    negative = background(assigned, truth, prediction, decoder)
    function = published_loss if config.kind == "published" else iou_loss
    return function(prediction, truth, assigned, negative, decoder, config)


def published_loss(
    prediction: Prediction,
    truth: Truth,
    assigned: torch.Tensor,
    negative: torch.Tensor,
    decoder: BoxDecoder,
    config: LossConfig,
) -> LossParts:
    """Compute the loss of the paper (arXiv 1612.01051, equation 2), averaged over the pictures.

    The parts of a picture with N objects are: the cross-entropy of the class, divided by N; (IoU -
    confidence)^2 of the anchors with an object, divided by N; confidence^2 of the other anchors,
    divided by their number; the squared errors of the deltas, divided by N. The IoU is that of the
    predicted box with the object and is a target without gradient. A picture without objects has
    only the third part.
    """
    positive = assigned != NOTHING
    boxes, classes = _objects(truth, assigned)
    per_object = positive / positive.sum(dim=1, keepdim=True).clamp(min=1)
    per_other = negative / negative.sum(dim=1, keepdim=True).clamp(min=1)
    pictures = len(assigned)

    entropy = F.cross_entropy(prediction.logits.transpose(1, 2), classes, reduction="none")
    quality = iou(decoder.clip(prediction.boxes), boxes).detach()
    confidence = prediction.confidence.sigmoid()
    errors = (prediction.deltas - decoder.encode(boxes)).square().sum(dim=2)
    return LossParts(
        config.class_ * (entropy * per_object).sum() / pictures,
        config.confidence_positive
        * ((quality - confidence).square() * per_object).sum() / pictures,
        config.confidence_negative * (confidence.square() * per_other).sum() / pictures,
        config.box * (errors * per_object).sum() / pictures,
    )  # fmt: skip


def iou_loss(
    prediction: Prediction,
    truth: Truth,
    assigned: torch.Tensor,
    negative: torch.Tensor,
    decoder: BoxDecoder,
    config: LossConfig,
) -> LossParts:
    """Compute a loss based on overlap; each part is a sum over the number of assigned anchors.

    Class: cross-entropy with smoothed labels. Confidence: quality focal loss, a cross-entropy with
    the IoU of the predicted box as target, weighted by |target - confidence|^focal (Li et al.,
    arXiv 2006.04388). Box: 1 - GIoU or CIoU of the predicted box.
    """
    positive = assigned != NOTHING
    boxes, classes = _objects(truth, assigned)
    count = positive.sum().clamp(min=1)

    entropy = F.cross_entropy(
        prediction.logits[positive],
        classes[positive],
        reduction="sum",
        label_smoothing=config.label_smoothing,
    )
    predicted, wanted = prediction.boxes[positive], boxes[positive]
    quality = torch.zeros_like(prediction.confidence)
    quality[positive] = iou(decoder.clip(predicted), wanted).detach()
    cross = F.binary_cross_entropy_with_logits(prediction.confidence, quality, reduction="none")
    difference = (quality - prediction.confidence.sigmoid()).abs()
    focal = cross * difference.pow(config.focal)
    overlap = BOX_IOU[config.box_iou](predicted, wanted)
    return LossParts(
        config.class_ * entropy / count,
        config.confidence_positive * (focal * positive).sum() / count,
        config.confidence_negative * (focal * negative).sum() / count,
        config.box * (1 - overlap).sum() / count,
    )


def _objects(truth: Truth, assigned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return box (B, A, 4) and class (B, A) of each anchor's object; arbitrary without object."""
    if not truth.classes.shape[1]:
        zeros = assigned.new_zeros(assigned.shape)
        return truth.boxes.new_zeros((*assigned.shape, 4)), zeros
    index = assigned.clamp(min=0)
    boxes = truth.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return boxes, truth.classes.gather(1, index).clamp(min=0)
