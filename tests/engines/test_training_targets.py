"""The assignment of objects to anchors."""

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.training.boxes import BoxDecoder, corners
from squeezedrive.engines.training.targets import (
    NOTHING,
    Truth,
    assign_by_iou,
    assign_dynamic,
    assign_published,
)
from tests.support.heads import small_head

# A row of four cells; each has a flat anchor (even numbers) and a tall one (odd numbers).
HEAD = small_head(64, 16, classes=2, shapes=((20, 10), (8, 16)))
ANCHORS = torch.from_numpy(HEAD.anchors)


def truth(boxes: list[list[float]], classes: list[int]) -> Truth:
    return Truth(
        torch.tensor([boxes]).reshape(1, -1, 4),
        torch.tensor([classes], dtype=torch.int64),
        torch.zeros(1, 0, 4),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.ones(1, 2, dtype=torch.bool),
    )


def around(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def test_published_takes_the_free_anchor_of_highest_iou() -> None:
    same = around(24, 8, 20, 10)
    assigned = assign_published(truth([same, same, same], [0, 1, 0]), ANCHORS)[0]
    # The first object gets the equal anchor 2. The tall anchor 3 overlaps it by 80 of 200 + 128 -
    # 80 px, each flat neighbour by 40 of 360. So the second object gets 3, and the third gets 0,
    # the first of 0 and 4.
    assert assigned.tolist() == [2, NOTHING, 0, 1, NOTHING, NOTHING, NOTHING, NOTHING]


def test_published_falls_back_on_the_nearest_anchor() -> None:
    far = around(62, -40, 4, 4)  # overlaps no anchor; anchor 7 (56, 8, 8, 16) is the nearest
    assigned = assign_published(truth([far], [0]), ANCHORS)[0]
    assert assigned.tolist() == [NOTHING] * 7 + [0]


def test_padding_is_not_assigned() -> None:
    labels = truth([around(24, 8, 20, 10), [0, 0, 0, 0]], [0, NOTHING])
    for assigned in (assign_published(labels, ANCHORS), assign_by_iou(labels, ANCHORS, 0.2)):
        assert set(assigned[0].tolist()) == {NOTHING, 0}


def test_batch_is_assigned_picture_by_picture() -> None:
    a, b = truth([around(24, 8, 20, 10)], [0]), truth([around(40, 8, 8, 16)], [0])
    both = Truth(*(torch.cat([getattr(a, k), getattr(b, k)]) for k in vars(a)))
    assigned = assign_published(both, ANCHORS)
    assert assigned.argmax(dim=1).tolist() == [2, 5]


def test_by_iou_adds_anchors_that_overlap_enough() -> None:
    labels = truth([around(26, 8, 16, 12)], [1])
    # IoU with the flat anchor 2 is 160/232 = 0.69, with the tall anchor 3 96/224 = 0.43.
    assert assign_by_iou(labels, ANCHORS, 0.5)[0].tolist().count(0) == 1
    assert assign_by_iou(labels, ANCHORS, 0.4)[0, 2:4].tolist() == [0, 0]
    assert (assign_by_iou(labels, ANCHORS, 0.9)[0] == 0).sum() == 1  # at least one anchor


def predict(deltas: torch.Tensor, confidence: float = 0.0):  # type: ignore[no-untyped-def]
    values = torch.zeros(1, 8, 7)
    values[..., 2] = confidence
    values[..., 3:] = deltas
    raw = values.reshape(1, 1, 4, 14).permute(0, 3, 1, 2)
    return BoxDecoder(HEAD, torch.device("cpu"))(raw)


def test_dynamic_follows_the_predicted_boxes() -> None:
    labels = truth([around(24, 8, 20, 10)], [0])
    untouched = predict(torch.zeros(8, 4))
    torch.testing.assert_close(untouched.boxes[0], corners(ANCHORS))
    # The IoUs near the centre are 1 and 80/248; their sum allows one anchor.
    assert assign_dynamic(labels, ANCHORS, untouched, 10, 12).tolist() == [[-1, -1, 0] + [-1] * 5]
    # If the cell's tall anchor predicts the same box, the object gets two anchors.
    deltas = torch.zeros(8, 4)
    deltas[3, 2:] = torch.log(torch.tensor([20 / 8, 10 / 16]))
    learned = predict(deltas)
    assert assign_dynamic(labels, ANCHORS, learned, 10, 12).tolist() == [[-1, -1, 0, 0] + [-1] * 4]
    assert (assign_dynamic(labels, ANCHORS, learned, 1, 12) == 0).sum() == 1


def test_dynamic_gives_an_anchor_to_the_object_of_lowest_cost() -> None:
    labels = truth([around(24, 8, 18, 10), around(24, 8, 20, 10)], [0, 0])
    assigned = assign_dynamic(labels, ANCHORS, predict(torch.zeros(8, 4)), 10, 12)
    assert assigned[0, 2] == 1


def test_dynamic_takes_only_anchors_near_the_object() -> None:
    labels = truth([around(24, 8, 4, 4)], [0])
    deltas = torch.zeros(8, 4)
    deltas[6] = torch.tensor([(24 - 56) / 20, 0, 0, 0])  # predicts a box on the object
    assigned = assign_dynamic(labels, ANCHORS, predict(deltas), 10, 12)
    assert assigned[0, 6] == NOTHING
    assert (assigned == 0).sum() == 1


def test_dynamic_finds_anchors_for_a_centre_beyond_the_input() -> None:
    labels = truth([around(24, 60, 20, 96)], [0])
    assigned = assign_dynamic(labels, ANCHORS, predict(torch.zeros(8, 4)), 10, 4)
    assert (assigned == 0).sum() == 1
    assert assigned[0, 2:4].max() == 0


def test_no_objects_at_all() -> None:
    labels = truth([], [])
    for assigned in (
        assign_published(labels, ANCHORS),
        assign_by_iou(labels, ANCHORS, 0.5),
        assign_dynamic(labels, ANCHORS, predict(torch.zeros(8, 4)), 10, 12),
    ):
        assert assigned.tolist() == [[NOTHING] * 8]
