from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.kernels.boxes import coverage, iou


def shared_area(a: NDArray[Any], b: NDArray[Any]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(width * height) if width > 0 and height > 0 else 0.0


def area(box: NDArray[Any]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_compares_all_pairs_in_the_precision_of_the_boxes(dtype: Any, tolerance: float) -> None:
    generator = np.random.default_rng(2)
    low = generator.uniform(0, 50, (12, 2))
    boxes = np.concatenate([low, low + generator.uniform(1, 40, (12, 2))], axis=1).astype(dtype)
    first, second = boxes[:7], boxes[7:]
    overlaps, covered = iou(first, second), coverage(first, second)
    assert overlaps.dtype == covered.dtype == dtype
    for i, a in enumerate(first.astype(float)):
        for j, b in enumerate(second.astype(float)):
            shared = shared_area(a, b)
            expected = shared / (area(a) + area(b) - shared)
            assert overlaps[i, j] == pytest.approx(expected, abs=tolerance)
            assert covered[i, j] == pytest.approx(shared / area(a), abs=tolerance)
    assert 5 < (overlaps > 0).sum() < 35


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [3, 0, 3, 10], [9, 9, 1, 1]], np.float32)
    assert iou(boxes, boxes)[0] == pytest.approx([1, 1 / 3, 0, 0])
    assert not iou(boxes, boxes)[2:].any()
    assert iou(boxes, boxes[:0]).shape == (4, 0)
