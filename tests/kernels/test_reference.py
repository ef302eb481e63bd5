"""The specification, compared with cases worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from squeezedrive.kernels.params import DetectParams
from squeezedrive.kernels.reference import decode, detect, nms, top_n
from tests.support.heads import kitti_head, pack, silent, small_head

EVERYTHING = {"threshold": 0.0, "top_n": 10**6, "nms_iou": 1.0}


@pytest.mark.parametrize("layout", ["per_anchor", "by_kind"])
@pytest.mark.parametrize(("exp_threshold", "height"), [(1.0, 37 * 4.077), (math.inf, 37 * 4.482)])
def test_decode_of_a_hand_computed_logit(layout: str, exp_threshold: float, height: float) -> None:
    head = kitti_head(layout, exp_threshold)  # type: ignore[arg-type]
    values = silent(head)
    anchor = (10 * 78 + 20) * 9  # row 10, column 20, shape 36x37: centre (328, 168)
    values[anchor] = [1, 3, 2, 0.5, 0.25, -0.5, math.log(2), 1.5]
    boxes, scores, classes = decode(pack(head, values), head)

    assert classes[anchor] == 1
    softmax = math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(2))
    assert scores[anchor] == pytest.approx(softmax / (1 + math.exp(-0.5)), rel=1e-6)
    cx, cy, w = 328 + 0.25 * 36, 168 - 0.5 * 37, 36 * 2
    corners = (cx - w / 2, cy - height / 2, cx + w / 2, cy + height / 2)
    assert boxes[anchor] == pytest.approx(corners, abs=0.02)
    others = np.delete(scores, anchor)
    assert (others == 0).all()


def test_decode_clips_to_the_last_pixel() -> None:
    head = kitti_head()
    values = silent(head)
    values[0, 6:] = 50
    values[-1, 4:6] = 100
    boxes, _, _ = decode(pack(head, values), head)
    assert boxes[0].tolist() == [0, 0, 1247, 383]
    assert boxes[-1].tolist() == [1247, 383, 1247, 383]
    assert boxes.min() == 0


def test_decode_of_half_precision_is_float32() -> None:
    # Near 1247, float16 resolves only whole pixels: 36 * 0.0078125 = 0.28 would be lost.
    head = kitti_head()
    values = silent(head)
    anchor = 77 * 9
    values[anchor, 4] = -0.0078125
    boxes, scores, _ = decode(pack(head, values).astype(np.float16), head)
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes[anchor, 0] == 1240 - 36 / 2 - 36 * 0.0078125


def test_top_n_prefers_the_lower_index_of_equals() -> None:
    scores = np.array([0.1, 0.5, 0.9, 0.5, 0.9, 0.5], np.float32)
    assert top_n(scores, 4).tolist() == [2, 4, 1, 3]
    assert top_n(scores, 99).tolist() == [2, 4, 1, 3, 5, 0]
    assert top_n(scores[:0], 4).tolist() == []


# Each box overlaps the next by 70/130 = 0.54, and the one after that by 40/160 = 0.25.
CHAIN = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [9, 0, 19, 10]], np.float32)


@pytest.mark.parametrize(
    ("greedy", "kept"), [(True, [0, 2]), (False, [0])], ids=["greedy", "original"]
)
def test_nms_of_boxes_that_overlap_in_a_chain(greedy: bool, kept: list[int]) -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    classes = np.zeros(4, np.int32)
    assert nms(CHAIN, scores, classes, 0.4, greedy).tolist() == kept


def test_nms_is_per_class_and_by_score() -> None:
    scores = np.array([0.6, 0.9, 0.8, 0.7], np.float32)
    assert nms(CHAIN, scores, np.array([0, 0, 1, 1], np.int32), 0.4).tolist() == [1, 2]
    assert nms(CHAIN, scores, np.array([0, 1, 2, 3], np.int32), 0.4).tolist() == [1, 2, 3, 0]


def test_nms_keeps_boxes_that_overlap_by_exactly_the_threshold() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32)
    assert nms(boxes, scores, classes, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, classes, 0.4999).tolist() == [0]
    assert nms(boxes[:0], scores[:0], classes[:0], 0.5).tolist() == []


def test_detect_applies_thresholds_before_top_n() -> None:
    head = small_head()
    values = silent(head)
    best = math.log(0.9 / 0.1)
    values[0, :4] = [1000, 0, 0, best]  # class 0, 0.9
    values[7, :4] = [0, 1000, 0, 1]  # class 1, 0.73
    values[3, :4] = [0, 0, 1000, 0]  # class 2, 0.5
    output = pack(head, values)

    every = detect(output, head, DetectParams(threshold=0.1))
    assert every.classes.tolist() == [0, 1, 2]
    assert every.scores == pytest.approx([0.9, 0.7310586, 0.5])
    assert every.boxes[0].tolist() == [0, 3, 18, 13]
    assert detect(output, head, DetectParams(threshold=0.5)).classes.tolist() == [0, 1, 2]
    assert detect(output, head, DetectParams(threshold=0.51)).classes.tolist() == [0, 1]
    assert detect(output, head, DetectParams(threshold=0.1, top_n=1)).classes.tolist() == [0]
    others = DetectParams(threshold=0.1, top_n=1, classes=(2, 1))
    assert detect(output, head, others).classes.tolist() == [1]
    second = DetectParams(threshold=0.1, class_thresholds=((0, 0.95), (2, 0.5)))
    assert detect(output, head, second).classes.tolist() == [1, 2]
    third = DetectParams(threshold=0.95, top_n=1, class_thresholds=((2, 0.4),))
    assert detect(output, head, third).classes.tolist() == [2]
    assert detect(output, head, replace(third, classes=(0, 1))).classes.tolist() == []
    assert len(detect(output, head, DetectParams(classes=()))) == 0
    assert len(detect(output, head, DetectParams(threshold=1.0))) == 0


@pytest.mark.parametrize("greedy", [True, False])
def test_thresholding_before_nms_gives_the_same_as_after(greedy: bool) -> None:
    head = small_head(exp_threshold=math.inf)
    rng = np.random.default_rng(7)
    for _ in range(50):
        output = rng.normal(scale=1.5, size=head.output_shape).astype(np.float32)
        late = detect(output, head, DetectParams(0.0, 10, 0.3, greedy))
        early = detect(output, head, DetectParams(0.3, 10, 0.3, greedy))
        assert (late[late.scores >= 0.3].boxes == early.boxes).all()


def test_nan_is_never_a_detection() -> None:
    head = small_head()
    output = np.full(head.output_shape, np.nan, np.float32)
    assert len(detect(output, head, DetectParams(**EVERYTHING))) == 0


def test_detect_rejects_an_output_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"expected a network output of shape \(16, 2, 4\)"):
        detect(np.zeros((16, 4, 2), np.float32), small_head(), DetectParams())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": -0.1}, "-0.1"),
        ({"threshold": 1.1}, "1.1"),
        ({"threshold": math.nan}, "nan"),
        ({"class_thresholds": ((1, 1.1),)}, "1.1"),
        ({"top_n": 0}, "top N"),
        ({"nms_iou": 2.0}, "IoU"),
    ],
)
def test_rejects_wrong_params(params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectParams(**params)


@pytest.mark.parametrize("classes", [(3,), (0, -1)])
def test_rejects_classes_that_do_not_exist(classes: tuple[int, ...]) -> None:
    head = small_head()
    with pytest.raises(ValueError, match="expected classes 0 to 2"):
        detect(pack(head, silent(head)), head, DetectParams(classes=classes))
    own = tuple((index, 0.5) for index in classes)
    with pytest.raises(ValueError, match="expected classes 0 to 2"):
        detect(pack(head, silent(head)), head, DetectParams(class_thresholds=own))
