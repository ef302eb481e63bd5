"""A training step with `paper.yaml`, compared with the published formulas in plain code.

arXiv 1612.01051, equation 2, and the authors' code: each object gets the free anchor of highest
IoU; SGD with momentum, weight decay of kernels, gradients clipped by variable, conv1 frozen.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.model.weights import DEFAULT
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.device import Compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.loader import TrainingBatch, collate
from tests.support.rectangles import SIZE, write_kitti

SHAPES = ((36, 37), (366, 174), (115, 59), (162, 87), (38, 90), (258, 173), (224, 108), (78, 170))
SHAPES = (*SHAPES, (72, 43))
COLUMNS, ROWS = SIZE[0] // 16, SIZE[1] // 16
Array = NDArray[np.float64]


@pytest.fixture
def learner_and_batch(tmp_path: Path) -> tuple[Learner, TrainingBatch]:
    """Return a network with a random head, and three pictures, one of them without objects."""
    root = write_kitti(tmp_path / "set", 3)
    for number in range(3):
        path = root / f"training/label_2/{number:06}.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[1:] if number < 2 else []))  # without regions to ignore
    config = load_train_config(
        CONFIGS / "training" / "paper.yaml",
        [
            ("data.sets", [{"root": str(root)}]), ("network.init", str(DEFAULT)), ("batch", 3),
            ("network.input.width", SIZE[0]), ("network.input.height", SIZE[1]),
            ("network.padding", "symmetric"),  # the padding of the initial weights
            ("network.dropout", 0), ("augment.drift", [0, 0]), ("threads", 1), ("device", "cpu"),
        ],
    )  # fmt: skip
    data = TrainingSet(config)
    learner = Learner(config, Compute(torch.device("cpu"), "fp32", 0, 1), data)
    torch.manual_seed(5)
    with torch.no_grad():
        head = learner.model.unit("conv12").conv
        head.weight.normal_(std=3e-5)
        head.bias.normal_(std=0.7)
    return learner, collate([data[key] for key in data.order(0)])


def anchors() -> Array:
    """Return each anchor's centre and size (A, 4), in the order of row, column and shape."""
    return np.array(
        [
            ((x + 1) * SIZE[0] / (COLUMNS + 1), (y + 1) * SIZE[1] / (ROWS + 1), w, h)
            for y in range(ROWS)
            for x in range(COLUMNS)
            for w, h in SHAPES
        ]
    )


def overlap(a: Array, b: Array) -> float:
    """Return the IoU of two boxes, each given by its corners."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def published(output: Array, boxes: Array, classes: NDArray[np.int64]) -> list[float]:
    """Return the four parts of one picture's loss, in the order of `LossParts`."""
    # 27 class logits, 9 confidences, 36 deltas; each ordered by anchor and then by value.
    cells = output.transpose(1, 2, 0).reshape(-1, 72)
    logits = cells[:, :27].reshape(-1, 3)
    confidence = 1 / (1 + np.exp(-cells[:, 27:36].reshape(-1)))
    deltas = cells[:, 36:].reshape(-1, 4)
    grid = anchors()
    last = [SIZE[0] - 1, SIZE[1] - 1] * 2

    responsible: dict[int, int] = {}
    for number, box in enumerate(boxes):
        corners = np.hstack([grid[:, :2] - grid[:, 2:] / 2, grid[:, :2] + grid[:, 2:] / 2])
        free = [index for index in range(len(grid)) if index not in responsible]
        best = max(free, key=lambda index: overlap(corners[index], box))
        assert overlap(corners[best], box) > 0
        responsible[best] = number

    class_loss = positive = box_loss = 0.0
    for index, number in responsible.items():
        box, a, d = boxes[number], grid[index], deltas[index]
        exponentials = np.exp(logits[index])
        class_loss -= math.log(exponentials[classes[number]] / exponentials.sum())
        size = [
            a[2 + k] * (math.exp(d[2 + k]) if d[2 + k] <= 1 else math.e * d[2 + k]) for k in (0, 1)
        ]
        centre = [a[k] + d[k] * a[2 + k] for k in (0, 1)]
        predicted = [centre[0] - size[0] / 2, centre[1] - size[1] / 2]
        predicted += [centre[0] + size[0] / 2, centre[1] + size[1] / 2]
        positive += (overlap(np.clip(predicted, 0, last), box) - confidence[index]) ** 2
        wanted = [
            ((box[0] + box[2]) / 2 - a[0]) / a[2], ((box[1] + box[3]) / 2 - a[1]) / a[3],
            math.log((box[2] - box[0]) / a[2]), math.log((box[3] - box[1]) / a[3]),
        ]  # fmt: skip
        box_loss += sum((d - w) ** 2 for d, w in zip(d, wanted, strict=True))
    others = [c for index, c in enumerate(confidence) if index not in responsible]
    count = max(len(boxes), 1)
    negative = sum(c * c for c in others) / (len(grid) - len(boxes))
    return [class_loss / count, 75 * positive / count, 100 * negative, 5 * box_loss / count]


def test_loss_matches_the_published_formulas(
    learner_and_batch: tuple[Learner, TrainingBatch],
) -> None:
    learner, batch = learner_and_batch
    with torch.no_grad():
        outputs = learner.model(batch.pixels).double().numpy()
    objects = [classes[classes >= 0] for classes in batch.truth.classes.numpy()]
    assert sorted(map(len, objects)) == [0, 3, 3]
    expected = [
        published(output, boxes[: len(classes)], classes)
        for output, boxes, classes in zip(
            outputs, batch.truth.boxes.double().numpy(), objects, strict=True
        )
    ]
    found = learner.loss(batch).stack().numpy()
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)
    assert found.min() > 0.1  # no part is zero


def test_step_matches_the_published_optimiser(
    learner_and_batch: tuple[Learner, TrainingBatch],
) -> None:
    learner, batch = learner_and_batch
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.loss(batch).total.backward()
    gradients = {
        name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None
    }
    assert before.keys() - gradients.keys() == {
        "units.conv1.conv.weight", "units.conv1.conv.bias"
    }  # fmt: skip
    assert max(g.norm() for g in gradients.values()) > 1  # some gradients are clipped
    learner.step(batch, 0.01)
    for name, parameter in learner.model.named_parameters():
        expected = before[name]
        if name in gradients:
            gradient = gradients[name]
            gradient = gradient / max(1.0, float(gradient.norm()))
            decay = 1e-4 if parameter.ndim > 1 else 0.0
            expected = expected - 0.01 * (gradient + decay * expected)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)
