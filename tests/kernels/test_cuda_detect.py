"""Detection on the GPU, compared with the specification.

`tests.support.gpu` decides where this runs. As in test_cpu.py, the last bit of an exponential does
not change the results of the chosen outputs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from squeezedrive.kernels import reference
from squeezedrive.kernels.cuda import select
from squeezedrive.kernels.cuda.detect import RESULT, DetectKernels
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams
from tests.support.gpu import SIMULATED, needs_target, simulate_lightly
from tests.support.heads import PALETTES, assert_same, kitti_head, pack, silent, small_head

pytestmark = [pytest.mark.gpu, needs_target]

everything = DetectParams(threshold=0, top_n=40, nms_iou=1)
Dtype = type[np.float16] | type[np.float32]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the simulator, use few threads, and lower the limits so that few anchors reach them."""
    if SIMULATED:
        monkeypatch.setattr(select, "SCORE_BLOCK", 32)
        monkeypatch.setattr(select, "SELECT_BLOCK", 32)
        monkeypatch.setattr(select, "CAPACITY", 64)
        simulate_lightly(monkeypatch, select)


def run(detector: DetectKernels, outputs: NDArray[Any]) -> list[Detections]:
    result = cuda.device_array(detector.result_shape(len(outputs)), RESULT)
    # A copy, because an axis added by None has stride 0, which Numba refuses to reshape.
    detector.enqueue(cuda.to_device(outputs.copy()), result, 0)
    found, counts = detector.unpack(result.copy_to_host())
    return found.split(counts)


def check(head: Head, params: DetectParams, *outputs: NDArray[np.float32], dtype: Dtype) -> None:
    batch = np.stack(outputs).astype(dtype)
    detector = DetectKernels(head, params, np.dtype(dtype), len(batch))
    for actual, output in zip(run(detector, batch), batch, strict=True):
        assert_same(actual, reference.detect(output, head, params), score_error=2e-6)


def random_output(
    rng: np.random.Generator, head: Head, distinct: int, params: DetectParams
) -> NDArray[np.float32]:
    """Return an output of few different scores, in which no IoU is close to the threshold."""
    logits = PALETTES[head.classes][0]
    while True:
        values = silent(head)
        few = logits[rng.choice(len(logits), min(distinct, len(logits)))]
        values[:, :-4] = few[rng.integers(len(few), size=len(values))]
        values[:, -4:] = rng.normal(scale=0.6, size=(len(values), 4)).astype(np.float16)
        output = pack(head, values)
        found = [
            reference.detect(output, head, replace(params, nms_iou=params.nms_iou + nudge))
            for nudge in (-1e-4, 0, 1e-4)
        ]
        if len({f.boxes.tobytes() for f in found}) == 1:
            return output


@pytest.mark.parametrize("distinct", [1, 5, 400])
@pytest.mark.parametrize(
    ("layout", "greedy", "dtype"),
    [
        ("per_anchor", True, np.float16),
        ("by_kind", True, np.float32),
        ("per_anchor", False, np.float32),
        ("by_kind", False, np.float16),
    ],
)
def test_matches_reference_on_random_and_tied_outputs(
    layout: Any, greedy: bool, distinct: int, dtype: Dtype
) -> None:
    rng = np.random.default_rng(distinct)
    head = small_head(width=100, height=40, layout=layout, exp_threshold=0.5)  # 7x3 cells
    levels = PALETTES[3][1]
    params = DetectParams(
        threshold=float(levels[len(levels) // 4 : len(levels) // 4 + 2].mean()),
        top_n=20,
        nms_iou=0.3,
        greedy=greedy,
    )
    outputs = [random_output(rng, head, distinct, params) for _ in range(2)]
    check(head, params, *outputs, dtype=dtype)


def test_boxes_go_beyond_the_input_by_the_reach() -> None:
    head = small_head(reach=6)
    params = DetectParams(threshold=0, top_n=16, nms_iou=0.9)
    output = random_output(np.random.default_rng(5), head, 400, params)
    found = reference.detect(output, head, params)
    assert found.boxes.min() == -6
    assert (found.boxes.max(axis=0)[2:] == [69, 37]).any()
    check(head, params, output, dtype=np.float32)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("wanted", [None, (0,), ()])
def test_keeps_only_the_wanted_classes(classes: int, wanted: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(classes)
    head = small_head(classes=classes, shapes=((20, 10), (8, 16), (30, 30)))
    params = DetectParams(threshold=0, top_n=10, classes=wanted)
    check(head, params, random_output(rng, head, 400, params), dtype=np.float32)


@pytest.mark.parametrize(("distinct", "top_n"), [(1, 40), (3, 7), (3, 60), (400, 60)])
def test_matches_reference_if_more_anchors_survive_than_are_sorted_at_once(
    distinct: int, top_n: int
) -> None:
    # On a GPU, only the full-size test has more anchors than are sorted at once.
    head = small_head(width=160, height=96)
    assert len(head.anchors) > 64
    rng = np.random.default_rng(top_n)
    params = replace(everything, top_n=top_n, nms_iou=0.5)
    check(head, params, random_output(rng, head, distinct, params), dtype=np.float32)


def test_suppresses_across_the_words_of_the_bit_mask() -> None:
    # Many boxes overlap: boxes of the first word suppress boxes of the second and third word.
    head = small_head(width=64, height=64, shapes=((60, 60),) * 6, classes=2)  # 96 anchors
    rng = np.random.default_rng(5)
    params = DetectParams(threshold=0, top_n=64, nms_iou=0.35)
    check(head, params, random_output(rng, head, 400, params), dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_matches_reference_on_extreme_logits(dtype: Dtype) -> None:
    head = small_head()
    rng = np.random.default_rng(1)
    values = silent(head)
    values[:, :-4] = rng.choice([-math.inf, -65504, -200, 0, 200, 65504], values[:, :-4].shape)
    values[:, -4:] = rng.choice([-65504, -88, 0, 0.5, 80, 65504], (len(values), 4))
    for threshold in (0.0, 0.3, 1.0):
        check(head, replace(everything, threshold=threshold), pack(head, values), dtype=dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_is_never_a_detection(dtype: Dtype) -> None:
    head = small_head()
    values = silent(head)
    values[:, 3] = 3
    values[0, 3] = values[1, 0] = values[2, 2] = math.nan
    values[3, 0] = math.inf  # inf - inf in the softmax
    broken = np.full(head.output_shape, math.nan, np.float32)
    outputs = np.stack([pack(head, values), broken]).astype(dtype)
    found, none = run(DetectKernels(head, everything, np.dtype(dtype), 2), outputs)
    assert len(found) == len(values) - 4
    assert len(none) == 0


def test_boxes_without_area_suppress_nothing() -> None:
    head = small_head()
    values = silent(head)
    values[:, 3] = 0
    values[:, 4] = 1000  # all on the right edge
    check(head, replace(everything, nms_iou=0), pack(head, values), dtype=np.float32)
    detector = DetectKernels(head, replace(everything, nms_iou=0), np.dtype(np.float32), 1)
    assert len(run(detector, pack(head, values)[None])[0]) == len(values)


def test_broken_deltas_change_no_other_box() -> None:
    head = small_head()
    values = silent(head)
    values[:, 3] = np.linspace(3, 1, len(values))
    values[1, 4:] = math.nan
    detector = DetectKernels(head, replace(everything, nms_iou=0.4), np.dtype(np.float32), 1)
    (found,) = run(detector, pack(head, values)[None])
    good = np.isfinite(found.boxes).all(axis=1)
    values[1, 3] = -1000
    expected = reference.detect(pack(head, values), head, replace(everything, nms_iou=0.4))
    assert found.boxes[good][: len(expected) - 1].tolist() == expected.boxes[:-1].tolist()


@pytest.mark.parametrize(("greedy", "kept"), [(True, [0, 2]), (False, [0])])
def test_greedy_and_original_suppression_differ(greedy: bool, kept: list[int]) -> None:
    # Three boxes 32 wide, each 8 further right: IoU 24/40 with the next, 16/48 with the last.
    head = small_head(shapes=((32, 16),))
    values = silent(head)
    values[:3, 3] = [2, 1, 0]
    values[:3, 4] = [0.5, 0.25, 0]  # the anchors are 16 apart
    params = DetectParams(threshold=0.01, nms_iou=0.5, greedy=greedy)
    (actual,) = run(DetectKernels(head, params, np.dtype(np.float32), 1), pack(head, values)[None])
    assert actual.boxes[:, 2].tolist() == [40 + 8 * i for i in kept]


def test_a_score_equal_to_the_threshold_is_kept() -> None:
    head = small_head()
    values = silent(head)
    values[5, :4] = [1000, 0, 0, 0]
    output = pack(head, values)[None]
    detector = DetectKernels(head, DetectParams(threshold=0.5), np.dtype(np.float32), 1)
    assert len(run(detector, output)[0]) == 1
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    detector.params = replace(detector.params, threshold=above)
    assert len(run(detector, output)[0]) == 0


def test_one_detector_serves_many_batches() -> None:
    """A batch does not change the results of the next one; new parameters apply at once."""
    head = small_head()
    rng = np.random.default_rng(9)
    params = replace(everything, nms_iou=0.5)
    full = random_output(rng, head, 400, params)
    empty = pack(head, silent(head))
    some = random_output(rng, head, 5, params)
    detector = DetectKernels(head, params, np.dtype(np.float32), 3)
    for params_now, outputs in (
        (params, [full, replace_with_zero_scores(head), some]),
        (replace(params, threshold=0.5), [empty]),
        (replace(params, threshold=0.2, classes=(1,)), [some, empty]),
        (replace(params, threshold=0.2, class_thresholds=((0, 0.5), (2, 0.1))), [full, some]),
        (replace(params, greedy=False, nms_iou=0.4), [full, full, some]),
    ):
        detector.params = params_now
        for actual, output in zip(run(detector, np.stack(outputs)), outputs, strict=True):
            assert_same(actual, reference.detect(output, head, params_now), score_error=2e-6)


def replace_with_zero_scores(head: Head) -> NDArray[np.float32]:
    """Return an output in which every score is 0; a threshold of 0 keeps them."""
    return np.full(head.output_shape, -1000, np.float32)


def test_result_is_small_and_unpack_copies_it() -> None:
    head = kitti_head()
    detector = DetectKernels(head, DetectParams(), np.dtype(np.float16), 2)
    rows, values = detector.result_shape(2)
    assert rows == 2
    assert values * RESULT.itemsize <= 8192
    host = np.zeros((rows, values), RESULT)
    host[1, :7] = [1, 10, 20, 30, 40, 0.5, 2]
    found, counts = detector.unpack(host)
    host[:] = -1
    none, one = found.split(counts)
    assert len(none) == 0
    assert one.boxes.tolist() == [[10, 20, 30, 40]]
    assert (one.scores.tolist(), one.classes.tolist()) == ([0.5], [2])


def test_rejects_invalid_arguments() -> None:
    head = small_head()
    half = np.dtype(np.float16)
    with pytest.raises(ValueError, match="top N of at most 256 on the GPU, got 257"):
        DetectKernels(head, DetectParams(top_n=257), half, 1)
    with pytest.raises(ValueError, match="float16 or float32, got float64"):
        DetectKernels(head, DetectParams(), np.dtype(np.float64), 1)
    with pytest.raises(ValueError, match="batch of at least 1, got 0"):
        DetectKernels(head, DetectParams(), half, 0)
    with pytest.raises(ValueError, match="expected classes 0 to 2"):
        DetectKernels(head, DetectParams(classes=(3,)), half, 1)
    detector = DetectKernels(head, DetectParams(), half, 2)
    result = cuda.device_array(detector.result_shape(1), RESULT)
    for shape, dtype, message in (
        ((3, 16, 2, 4), half, "1 to 2 pictures, got 3"),
        ((1, 16, 4, 2), half, r"shape \(1, 16, 2, 4\).* got \(1, 16, 4, 2\)"),
        ((1, 16, 2, 4), np.dtype(np.float32), "type float16.* float32"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.enqueue(cuda.device_array(shape, dtype), result, 0)
    good = cuda.device_array((1, 16, 2, 4), half)
    with pytest.raises(ValueError, match=r"result of shape \(1, 1537\)"):
        detector.enqueue(good, cuda.device_array((1, 1536), RESULT), 0)
    detector.params = DetectParams(top_n=64)
    with pytest.raises(ValueError, match="top N of 256 as before, got 64"):
        detector.enqueue(good, result, 0)


@pytest.mark.slow
@pytest.mark.timeout(390)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_every_anchor_of_the_published_network(
    dtype: Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Confidences have only 700 levels, which gives ties; classes are certain.
    if SIMULATED:
        monkeypatch.setattr(select, "CAPACITY", 256)
        simulate_lightly(monkeypatch, select, select.score_anchors)
    head = kitti_head("by_kind" if dtype is np.float16 else "per_anchor")
    rng = np.random.default_rng(3)
    values = rng.normal(scale=0.5, size=(len(head.anchors), 8)).astype(np.float16)
    values[:, :3] = np.eye(3)[rng.integers(3, size=len(values))] * 1000
    values[:, 3] = rng.choice(np.arange(-350, 350) / 100, len(values))
    output = pack(head, values.astype(np.float32))
    check(head, DetectParams(threshold=0.005, top_n=256), output, dtype=dtype)


@pytest.mark.skipif(SIMULATED, reason="the simulator is too slow for this test")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("greedy", [True, False])
def test_random_logits_of_the_full_size(greedy: bool, dtype: Dtype) -> None:
    for seed, threshold, top_n in ((1, 0.0, 256), (2, 0.005, 64), (3, 0.4, 128), (4, 0.97, 128)):
        head = kitti_head()
        params = DetectParams(threshold, top_n, nms_iou=0.45, greedy=greedy)
        rng = np.random.default_rng(seed)
        outputs = [random_output(rng, head, 400, params) for _ in range(8)]
        check(head, params, *outputs, dtype=dtype)
