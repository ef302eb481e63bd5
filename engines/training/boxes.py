"""Boxes in PyTorch: decoding of the network's output, and measures of overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from squeezedrive.kernels.head import Head

EPSILON = 1e-7


@dataclass(frozen=True)
class Prediction:
    """The network's output for a batch, ordered by anchor, in float32.

    Attributes
    ----------
    logits : tensor (B, A, classes)
    confidence : tensor (B, A)
        Logits of the confidence.
    deltas : tensor (B, A, 4)
        dx, dy, dw, dh.
    boxes : tensor (B, A, 4)
        Decoded corners x1, y1, x2, y2 in input pixels, not clipped.
    """

    logits: torch.Tensor
    confidence: torch.Tensor
    deltas: torch.Tensor
    boxes: torch.Tensor


class BoxDecoder:
    """Decodes boxes from a network's output as `kernels.reference.decode` does, with gradients.

    Attributes
    ----------
    anchors : tensor (A, 4)
        cx, cy, w, h in input pixels.
    width, height : int
        Size of the input in pixels.
    """

    def __init__(self, head: Head, device: torch.device) -> None:
        self.width, self.height = head.grid.width, head.grid.height
        self.anchors = torch.from_numpy(head.anchors).to(device)
        self._channels = torch.from_numpy(head.channels.reshape(-1)).to(device)
        self._values = head.channels.shape[1]
        self._classes = head.classes
        self._threshold = head.exp_threshold
        self._reach = head.reach

    def __call__(self, output: torch.Tensor) -> Prediction:
        """Split and decode an output (B, channels, rows, columns) of any float type."""
        batch, _, rows, columns = output.shape
        values = output.float().index_select(1, self._channels)
        values = values.reshape(batch, -1, self._values, rows, columns)
        values = values.permute(0, 3, 4, 1, 2).reshape(batch, -1, self._values)
        logits, confidence, deltas = values.split((self._classes, 1, 4), dim=2)
        return Prediction(logits, confidence[..., 0], deltas, self._corners(deltas))

    def _corners(self, deltas: torch.Tensor) -> torch.Tensor:
        sizes = self.anchors[:, 2:]
        centre = self.anchors[:, :2] + deltas[..., :2] * sizes
        half = sizes * torch_safe_exp(deltas[..., 2:], self._threshold) / 2
        return torch.cat([centre - half, centre + half], dim=-1)

    def clip(self, boxes: torch.Tensor) -> torch.Tensor:
        """Clip corners to 0..width - 1 and 0..height - 1, each side farther by the head's reach."""
        last = boxes.new_tensor([self.width - 1, self.height - 1] * 2) + self._reach
        return torch.minimum(boxes.clamp(min=-self._reach), last)

    def encode(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return the deltas (B, A, 4) that turn each anchor into a box (B, A, 4), given by corners.

        They are (gx - ax) / aw, (gy - ay) / ah, ln(gw / aw), ln(gh / ah), as in arXiv 1612.01051.
        """
        size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        shift = (centre - self.anchors[:, :2]) / self.anchors[:, 2:]
        return torch.cat([shift, (size / self.anchors[:, 2:]).log()], dim=-1)


def torch_safe_exp(x: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return e^x, and its tangent above `threshold`; see `kernels.formulas.safe_exp`."""
    if math.isinf(threshold):
        return x.exp()
    # The clamp keeps the unused branch finite, because its gradient is multiplied by 0.
    line = math.exp(threshold) * (x - threshold + 1)
    return torch.where(x <= threshold, x.clamp(max=threshold).exp(), line)


def corners(anchors: torch.Tensor) -> torch.Tensor:
    """Convert cx, cy, w, h to x1, y1, x2, y2."""
    half = anchors[..., 2:] / 2
    return torch.cat([anchors[..., :2] - half, anchors[..., :2] + half], dim=-1)


def shared_area(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the common area of boxes (..., 4); the shapes are broadcast."""
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    return sides.clamp(min=0).prod(dim=-1)


def area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the area of boxes (..., 4)."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return intersection over union of boxes (..., 4); the shapes are broadcast."""
    shared = shared_area(first, second)
    return shared / (area(first) + area(second) - shared).clamp(min=EPSILON)


def giou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return generalised IoU, -1 to 1 (Rezatofighi et al., arXiv 1902.09630)."""
    shared = shared_area(first, second)
    union = (area(first) + area(second) - shared).clamp(min=EPSILON)
    hull = _hull_sides(first, second).prod(dim=-1).clamp(min=EPSILON)
    return shared / union - (hull - union) / hull


def ciou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return complete IoU: IoU minus terms for the distance of centres and the aspect ratio.

    Zheng et al., arXiv 1911.08287. The weight of the aspect term carries no gradient.
    """
    overlap = iou(first, second)
    diagonal = _hull_sides(first, second).square().sum(dim=-1).clamp(min=EPSILON)
    centres = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = centres.square().sum(dim=-1) / diagonal
    aspect = (2 / math.pi * (_aspect(first) - _aspect(second))).square()
    with torch.no_grad():
        weight = aspect / (1 - overlap + aspect).clamp(min=EPSILON)
    return overlap - distance - weight * aspect


def _hull_sides(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2]
    )


def _aspect(boxes: torch.Tensor) -> torch.Tensor:
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=EPSILON)
    return torch.atan(sides[..., 0] / sides[..., 1])
