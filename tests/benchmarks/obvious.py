"""The obvious way to detect on a GPU, as a reference: OpenCV, PyTorch, torchvision."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.model.pytorch import plain_convolutions, run_network
from squeezedrive.kernels.detections import Detections

NMS = "torchvision" if find_spec("torchvision") is not None else "torch operations"


def obvious_way(settings: EngineSettings, device: str) -> Callable[[np.ndarray], Detections]:
    """Return a function from a BGR picture to detections in pixels of the network's input.

    OpenCV resizes on the processor. PyTorch normalises the picture, runs the network in half
    precision and decodes its output. torchvision suppresses boxes, if it is installed.
    """
    import torch

    half = torch.float16 if device.startswith("cuda") else torch.float32
    torch.backends.cudnn.benchmark = True
    profile, head, params = settings.weights.profile, settings.head(), settings.detect
    steps = settings.weights.profile.operations(settings.width, settings.height)
    parameters = {}
    for name, array in settings.weights.arrays.items():
        tensor = torch.from_numpy(array).to(device, half)
        form = torch.channels_last if array.ndim == 4 else torch.contiguous_format
        parameters[name] = tensor.contiguous(memory_format=form)
    convolutions = plain_convolutions(parameters)
    mean = torch.tensor(profile.input.mean, device=device).reshape(1, 3, 1, 1)
    anchors = torch.from_numpy(head.anchors).to(device)
    channels = torch.from_numpy(head.channels).to(device)
    corners = torch.tensor([head.grid.width - 1, head.grid.height - 1] * 2, device=device)
    corners = corners + head.reach
    pixels = np.empty((settings.height, settings.width, 3), np.uint8)

    @torch.inference_mode()
    def find(picture: np.ndarray) -> Detections:
        fit = settings.fit_of(picture.shape[1::-1])
        fit.preprocess(picture, settings.weights.profile.input.fill, pixels)
        x = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float()
        if profile.input.channels == "RGB":
            x = x.flip(1)
        x = ((x - mean) * profile.input.scale).to(half)
        x = x.contiguous(memory_format=torch.channels_last)
        output = run_network(steps, convolutions, x)
        values = output[0].float()[channels]  # (anchor, value, y, x)
        values = values.permute(2, 3, 0, 1).reshape(len(anchors), -1)
        logits, confidence, deltas = values.split([head.classes, 1, 4], dim=1)
        probability, classes = logits.softmax(1).max(1)
        scores = probability * confidence[:, 0].sigmoid()
        scores, best = scores.topk(params.top_n)
        kept = scores >= params.threshold
        scores, best = scores[kept], best[kept]
        anchor, delta, classes = anchors[best], deltas[best], classes[best]
        limit = head.exp_threshold
        line = np.exp(min(limit, 50.0)) * (delta[:, 2:] - limit + 1)
        grow = torch.where(delta[:, 2:] <= limit, delta[:, 2:].exp(), line)
        centre = anchor[:, :2] + delta[:, :2] * anchor[:, 2:]
        sides = anchor[:, 2:] * grow / 2
        boxes = torch.cat([centre - sides, centre + sides], 1)
        boxes = torch.minimum(boxes.clamp(min=-head.reach), corners)
        keep = _nms(boxes, scores, classes, params.nms_iou)
        return Detections(
            boxes[keep].cpu().numpy(),
            scores[keep].cpu().numpy(),
            classes[keep].cpu().numpy().astype(np.int32),
        )

    return find


def _nms(boxes: Any, scores: Any, classes: Any, limit: float) -> Any:
    if NMS == "torchvision":
        from torchvision.ops import batched_nms

        return batched_nms(boxes, scores, classes, limit)
    import torch

    first = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    last = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (last - first).clamp(min=0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    overlap = (shared > limit * (area[:, None] + area[None] - shared)).cpu()
    same = (classes[:, None] == classes[None]).cpu()
    kept: list[int] = []
    for i in range(len(boxes)):
        if not any(overlap[i, j] and same[i, j] for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
