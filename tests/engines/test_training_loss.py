"""The loss, compared with numbers computed by hand, and the boxes behind it."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.datasets.dataset import EVERY_CLASS
from squeezedrive.engines.training.boxes import BoxDecoder, Prediction, ciou, giou, iou
from squeezedrive.engines.training.config import LossConfig, load_train_config
from squeezedrive.engines.training.loss import LossParts, compute_loss
from squeezedrive.engines.training.targets import NOTHING, Truth
from squeezedrive.kernels.reference import decode
from tests.support.heads import small_head

torch.set_num_threads(1)

# Two anchors of 20x10 in an input of 32x16, centred at (8, 8) and (24, 8).
HEAD = small_head(32, 16, 2, ((20, 10),))
DECODER = BoxDecoder(HEAD, torch.device("cpu"))
PAPER: LossConfig = load_train_config(None, [
    ("loss.kind", "published"), ("loss.class", 1), ("loss.confidence_positive", 75),
    ("loss.confidence_negative", 100), ("loss.box", 5),
]).loss  # fmt: skip


def truth(boxes: list[Any], classes: list[Any], pictures: int = 1) -> Truth:
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(pictures, -1, 4),
        torch.tensor(classes, dtype=torch.int64).reshape(pictures, -1),
        torch.zeros(pictures, 0, 4),
        torch.zeros(pictures, 0, dtype=torch.int64),
        torch.ones(pictures, 2, dtype=torch.bool),
    )


def output(*values: list[float]) -> torch.Tensor:
    """Return a network output made of the 7 values of each of two anchors."""
    return torch.tensor(values, dtype=torch.float32).T.reshape(1, 7, 1, 2)


def parts(loss: LossParts) -> list[float]:
    return [float(value) for value in loss.stack()]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Anchor 0 has an object of class 1. The anchor's output: logits 0 and 2, confidence 0.5, deltas 0.
RESPONSIBLE = [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
IDLE = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]
OBJECT = [2.0, 4.0, 18.0, 12.0]  # centre (10, 8), 16 x 8


def test_published_loss_matches_hand_computed_values() -> None:
    loss = compute_loss(
        DECODER(output(RESPONSIBLE, IDLE)),
        truth([OBJECT], [1]),
        torch.tensor([[0, NOTHING]]),
        DECODER,
        PAPER,
    )
    # Anchor 0 gives the box (-2, 3, 18, 13), clipped to (0, 3, 18, 13) with 180 px. The object
    # covers 16 x 8 = 128 of them.
    overlap = 128 / 180
    class_ = -math.log(math.exp(2) / (math.exp(2) + 1))
    positive = 75 * (overlap - 0.5) ** 2
    negative = 100 * sigmoid(-1) ** 2
    deltas = [(10 - 8) / 20, 0, math.log(16 / 20), math.log(8 / 10)]
    box = 5 * sum(d * d for d in deltas)
    np.testing.assert_allclose(parts(loss), [class_, positive, negative, box], rtol=1e-5)
    assert float(loss.total) == pytest.approx(class_ + positive + negative + box, rel=1e-5)


def test_published_loss_is_the_mean_over_all_pictures() -> None:
    one = output(RESPONSIBLE, IDLE)
    batch = DECODER(torch.cat([one, one]))
    labels = truth([OBJECT, [0, 0, 0, 0]], [1, NOTHING], pictures=2)
    assigned = torch.tensor([[0, NOTHING], [NOTHING, NOTHING]])
    both = parts(compute_loss(batch, labels, assigned, DECODER, PAPER))
    alone = parts(
        compute_loss(DECODER(one), truth([OBJECT], [1]), assigned[:1], DECODER, PAPER)
    )  # fmt: skip
    empty = 100 * (0.5**2 + sigmoid(-1) ** 2) / 2
    expected = [alone[0] / 2, alone[1] / 2, (alone[2] + empty) / 2, alone[3] / 2]
    np.testing.assert_allclose(both, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["published", "iou"])
def test_loss_of_a_picture_without_objects_is_finite(kind: str) -> None:
    config = PAPER.model_copy(update={"kind": kind})
    raw = output(RESPONSIBLE, IDLE).requires_grad_()
    loss = compute_loss(
        DECODER(raw), truth([], []), torch.full((1, 2), NOTHING), DECODER, config
    )  # fmt: skip
    values = parts(loss)
    assert values[0] == values[1] == values[3] == 0
    assert values[2] > 0
    loss.total.backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()
    assert raw.grad[0, 2].abs().min() > 0  # only confidences get a gradient
    assert raw.grad[0, [0, 1, 3, 4, 5, 6]].abs().max() == 0


def test_confidence_target_has_no_gradient() -> None:
    raw = output(RESPONSIBLE, IDLE).requires_grad_()
    config = PAPER.model_copy(update={"class_": 0.0, "box": 0.0})
    assigned = torch.tensor([[0, NOTHING]])
    compute_loss(DECODER(raw), truth([OBJECT], [1]), assigned, DECODER, config).total.backward()
    assert raw.grad is not None
    assert raw.grad[0, 3:].abs().max() == 0


def test_iou_loss_matches_hand_computed_values() -> None:
    config = load_train_config(None, [
        ("loss.kind", "iou"), ("loss.focal", 2), ("loss.label_smoothing", 0.1),
        ("loss.box_iou", "giou"), ("loss.class", 1), ("loss.confidence_positive", 1),
        ("loss.confidence_negative", 1), ("loss.box", 2),
    ]).loss  # fmt: skip
    loss = compute_loss(
        DECODER(output(RESPONSIBLE, IDLE)),
        truth([OBJECT], [1]),
        torch.tensor([[0, NOTHING]]),
        DECODER,
        config,
    )
    p = math.exp(2) / (math.exp(2) + 1)
    class_ = -(0.95 * math.log(p) + 0.05 * math.log(1 - p))
    quality = 128 / 180
    positive = (quality - 0.5) ** 2 * math.log(2)
    c = sigmoid(-1)
    negative = c**2 * -math.log(1 - c)
    box = 2 * (1 - 128 / 200)  # this box is not clipped, and the hull is the box itself
    np.testing.assert_allclose(parts(loss), [class_, positive, negative, box], rtol=1e-5)


def test_ignored_and_unlabelled_anchors_are_not_background() -> None:
    prediction = DECODER(output(RESPONSIBLE, IDLE))
    nothing = torch.full((1, 2), NOTHING)
    config = PAPER.model_copy(update={"confidence_negative": 1.0})

    def negative(labels: Truth) -> float:
        return parts(compute_loss(prediction, labels, nothing, DECODER, config))[2]

    plain = truth([], [])
    both = (0.5**2 + sigmoid(-1) ** 2) / 2
    assert negative(plain) == pytest.approx(both)
    # Anchor 0 has the box (0, 3, 18, 13) and class 1; anchor 1 has (14, 3, 31, 13) and class 0.
    left = torch.tensor([[[0.0, 0.0, 12.0, 15.0]]])
    for region_class, expected in ((EVERY_CLASS, sigmoid(-1) ** 2), (0, both)):
        labels = replace(plain, ignore_boxes=left, ignore_classes=torch.tensor([[region_class]]))
        assert negative(labels) == pytest.approx(expected)
    only_class_1 = replace(plain, labelled=torch.tensor([[False, True]]))
    assert negative(only_class_1) == pytest.approx(0.5**2)


def test_decodes_boxes_as_in_the_kernels() -> None:
    rng = np.random.default_rng(3)
    for layout, threshold in (("per_anchor", 1.0), ("by_kind", np.inf)):
        head = small_head(64, 48, 3, ((36, 37), (20, 10)), layout, threshold)  # type: ignore[arg-type]
        values = rng.normal(0, 1, head.output_shape).astype(np.float32)
        decoder = BoxDecoder(head, torch.device("cpu"))
        prediction = decoder(torch.from_numpy(values)[None])
        boxes, scores, classes = decode(values, head)
        np.testing.assert_allclose(
            decoder.clip(prediction.boxes)[0].numpy(), boxes, rtol=1e-5, atol=1e-4
        )
        probability = prediction.logits.softmax(dim=2).max(dim=2)
        found = probability.values * prediction.confidence.sigmoid()
        np.testing.assert_allclose(found[0].numpy(), scores, rtol=1e-5)
        np.testing.assert_array_equal(probability.indices[0].numpy(), classes)


def test_encoded_boxes_decode_to_themselves() -> None:
    boxes = torch.tensor([[[2.0, 4.0, 18.0, 12.0], [20.0, 1.0, 28.0, 5.0]]])
    deltas = DECODER.encode(boxes)
    raw = torch.cat([torch.zeros(1, 2, 3), deltas], dim=2)
    prediction: Prediction = DECODER(raw.permute(0, 2, 1).reshape(1, 7, 1, 2))
    torch.testing.assert_close(prediction.boxes, boxes)


def test_overlaps_match_hand_computed_values() -> None:
    a = torch.tensor([0.0, 0.0, 4.0, 4.0])
    b = torch.tensor([2.0, 0.0, 6.0, 4.0])
    assert float(iou(a, b)) == pytest.approx(8 / 24)
    assert float(giou(a, b)) == pytest.approx(8 / 24)  # the hull is the union
    assert float(ciou(a, b)) == pytest.approx(8 / 24 - 4 / (36 + 16))
    c = torch.tensor([8.0, 0.0, 12.0, 4.0])
    assert float(giou(a, c)) == pytest.approx(-16 / 48)
    d = torch.tensor([0.0, 0.0, 8.0, 4.0])
    aspect = (2 / math.pi * (math.atan(1) - math.atan(2))) ** 2
    weight = aspect / (1 - 0.5 + aspect)
    assert float(ciou(a, d)) == pytest.approx(0.5 - 4 / 80 - weight * aspect)


@pytest.mark.parametrize("function", [iou, giou, ciou])
def test_gradients_are_finite_for_boxes_that_do_not_overlap(function: Any) -> None:
    a = torch.tensor([0.0, 0.0, 4.0, 4.0], requires_grad=True)
    function(a, torch.tensor([50.0, 50.0, 50.0, 50.0])).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
