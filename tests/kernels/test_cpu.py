"""Compiled detection, compared with the specification.

The exponentials of the two may differ in the last bit. In the chosen outputs, this bit does not
change the result: scores are either exactly equal, from equal logits, or clearly apart. The tests
leave out cases in which an IoU is close to the threshold.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from squeezedrive.kernels import cpu, formulas, reference
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams
from tests.support.heads import PALETTES, assert_same, kitti_head, pack, silent, small_head

deterministic = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.filter_too_much],
)
everything = DetectParams(threshold=0, top_n=10**6, nms_iou=1)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    shape = st.tuples(st.integers(1, 60), st.integers(1, 60))
    return small_head(
        width=draw(st.integers(1, 90)),
        height=draw(st.integers(1, 60)),
        classes=draw(st.integers(1, 4)),
        shapes=tuple(draw(st.lists(shape, min_size=1, max_size=4))),
        layout=draw(st.sampled_from(["per_anchor", "by_kind"])),
        exp_threshold=draw(st.sampled_from([0.5, 1.0, math.inf])),
        reach=draw(st.sampled_from([0.0, 7.5])),
    )


@st.composite
def params(draw: st.DrawFn, classes: int) -> DetectParams:
    levels = PALETTES[classes][1]
    between = ((levels[1:] + levels[:-1]) / 2).tolist()
    kept = st.sets(st.integers(0, classes - 1)).map(lambda s: tuple(sorted(s)))
    own = st.dictionaries(st.integers(0, classes - 1), st.sampled_from([0.0, *between, 1.0]))
    return DetectParams(
        threshold=draw(st.one_of(st.just(0.0), st.sampled_from(between))),
        top_n=draw(st.one_of(st.integers(1, 40), st.just(10**6))),
        nms_iou=draw(st.floats(0.05, 0.95)),
        greedy=draw(st.booleans()),
        classes=draw(st.one_of(st.none(), kept)),
        class_thresholds=tuple(draw(own).items()),
    )


@given(st.data())
@deterministic
def test_matches_reference_on_random_and_tied_outputs(data: st.DataObject) -> None:
    head = data.draw(heads())
    wanted = data.draw(params(head.classes))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    logits = PALETTES[head.classes][0]
    distinct = data.draw(st.sampled_from([1, 2, 5, len(logits)]))  # few values give many ties
    values = silent(head)
    values[:, :-4] = logits[
        rng.choice(len(logits), distinct)[rng.integers(distinct, size=len(values))]
    ]
    values[:, -4:] = rng.normal(scale=0.6, size=(len(values), 4))
    output = pack(head, values)

    expected = reference.detect(output, head, wanted)
    for nudge in (-1e-4, 1e-4):
        nudged = replace(wanted, nms_iou=wanted.nms_iou + nudge)
        assume(np.array_equal(reference.detect(output, head, nudged).boxes, expected.boxes))
    assert_same(cpu.detect(output, head, wanted), expected)


@given(st.data())
@deterministic
def test_matches_reference_on_extreme_logits(data: st.DataObject) -> None:
    head = data.draw(heads())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = silent(head)
    values[:, :-4] = rng.choice([-65504, -200, 0, 200, 65504], values[:, :-4].shape)
    values[:, -4:] = rng.choice([-1e30, -65504, -88, 0, 0.5, 89, 65504, 1e30], (len(values), 4))
    output = pack(head, values)
    wanted = replace(everything, threshold=data.draw(st.sampled_from([0.0, 0.3, 1.0])))
    actual = cpu.detect(output, head, wanted)
    assert_same(actual, reference.detect(output, head, wanted))
    assert np.isfinite(actual.boxes).all()


@pytest.mark.parametrize(
    ("layout", "exp_threshold"), [("per_anchor", math.inf), ("by_kind", 1.0)], ids=["Qiu", "Bichen"]
)
def test_every_anchor_of_the_published_network(layout: str, exp_threshold: float) -> None:
    # The confidences alone give 16,848 scores in a known order; classes are certain.
    head = kitti_head(layout, exp_threshold)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    values = rng.normal(size=(len(head.anchors), 8)).astype(np.float32)
    values[:, :3] = np.eye(3, dtype=np.float32)[rng.integers(3, size=len(values))] * 1000
    values[:, 3] = rng.permutation(np.linspace(-8, 2, len(values), dtype=np.float32))
    output = pack(head, values)
    every = Detections(*reference.decode(output, head))
    every = every[reference.top_n(every.scores, len(every))]
    assert_same(cpu.detect(output, head, everything), every)
    wanted = DetectParams(threshold=0, top_n=300)
    assert_same(cpu.detect(output, head, wanted), reference.detect(output, head, wanted))


@pytest.mark.parametrize(("greedy", "kept"), [(True, [0, 2]), (False, [0])])
def test_greedy_and_original_suppression_differ(greedy: bool, kept: list[int]) -> None:
    # Three boxes 32 wide, each 8 further right: IoU 24/40 with the next, 16/48 with the last.
    head = small_head(shapes=((32, 16),))
    values = silent(head)
    values[:3, 3] = [2, 1, 0]
    values[:3, 4] = [0.5, 0.25, 0]  # the anchors are 16 apart
    params = DetectParams(threshold=0.01, nms_iou=0.5, greedy=greedy)
    output = pack(head, values)
    actual = cpu.detect(output, head, params)
    assert_same(actual, reference.detect(output, head, params))
    assert actual.boxes[:, 2].tolist() == [40 + 8 * i for i in kept]


def test_boxes_without_area_suppress_nothing() -> None:
    head = small_head()
    values = silent(head)
    values[:, 3] = 0
    values[:, 4] = 1000  # all on the right edge
    actual = cpu.detect(pack(head, values), head, replace(everything, nms_iou=0))
    assert len(actual) == len(head.anchors)
    assert (actual.boxes[:, 0] == 63).all()


def test_equal_scores_come_in_the_order_of_the_anchors() -> None:
    head = small_head(exp_threshold=math.inf)
    values = silent(head)
    values[:, :4] = [5, 0, 0, 1]
    output = pack(head, values)
    first = cpu.detect(output, head, replace(everything, top_n=5))
    boxes, _, _ = reference.decode(output, head)
    assert first.boxes.tolist() == boxes[:5].tolist()


@pytest.mark.parametrize("params", [DetectParams(), DetectParams(threshold=0, classes=())])
def test_returns_empty_detections_if_nothing_is_found(params: DetectParams) -> None:
    head = kitti_head()
    actual = cpu.detect(pack(head, silent(head)), head, params)
    assert_same(actual, Detections.empty())
    assert actual.boxes.shape == (0, 4)


def test_a_score_equal_to_the_threshold_is_kept() -> None:
    head = small_head()
    values = silent(head)
    values[5, :4] = [1000, 0, 0, 0]
    output = pack(head, values)
    assert len(cpu.detect(output, head, DetectParams(threshold=0.5))) == 1
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert len(cpu.detect(output, head, DetectParams(threshold=above))) == 0


@pytest.mark.parametrize("scale", [1, 6, 25])
def test_keeps_exactly_the_scores_that_reach_the_threshold(scale: int) -> None:
    head = small_head()
    rng = np.random.default_rng(scale)
    output = rng.normal(scale=scale, size=head.output_shape).astype(np.float32)
    output[head.channels[:, :3]] += 50 * np.eye(3)[1][None, :, None, None]  # score = confidence
    scores = cpu.detect(output, head, everything).scores
    for score in scores:
        kept = cpu.detect(output, head, replace(everything, threshold=float(score)))
        assert kept.scores.tolist() == scores[scores >= score].tolist()


@pytest.mark.parametrize("threshold", [1.0, 1 - 1e-7, 0.9, 0.4, 5e-3, 1e-7, 2e-30, 1e-30, 1e-44, 0])
def test_cutoff_skips_only_scores_below_the_threshold(threshold: float) -> None:
    limit = np.float32(formulas.logit_cutoff(threshold))
    if np.isfinite(limit):
        skipped = np.nextafter(limit, np.float32(-math.inf))
        assert formulas.sigmoid(skipped) < np.float32(threshold)
        # The cutoff skips nearly all scores below the threshold.
        assert formulas.sigmoid(limit) > np.float32(0.999 * threshold)
    else:
        assert threshold <= 1e-30


def test_half_precision_is_decoded_in_float32() -> None:
    head = kitti_head()
    rng = np.random.default_rng(2)
    half = rng.normal(size=head.output_shape).astype(np.float16)
    params = DetectParams()
    actual = cpu.detect(half, head, params)
    expected = cpu.detect(half.astype(np.float32), head, params)
    assert actual.boxes.tolist() == expected.boxes.tolist()
    assert (np.abs(actual.boxes - actual.boxes.astype(np.float16)) > 0).any()


def test_nan_is_never_a_detection() -> None:
    head = small_head()
    values = silent(head)
    values[:, 3] = 3
    values[0, 3] = values[1, 0] = values[2, 2] = math.nan
    output = pack(head, values)
    assert len(cpu.detect(output, head, everything)) == len(values) - 3
    assert len(reference.detect(output, head, everything)) == len(values) - 3


def test_reads_read_only_and_strided_outputs() -> None:
    head = small_head()
    rng = np.random.default_rng(4)
    output = rng.normal(size=head.output_shape).astype(np.float32)
    expected = cpu.detect(output, head, DetectParams()).boxes.tolist()
    assert expected
    output.flags.writeable = False
    assert cpu.detect(output, head, DetectParams()).boxes.tolist() == expected
    strided = np.repeat(output, 2, axis=2)[:, :, ::2]
    assert cpu.detect(strided, head, DetectParams()).boxes.tolist() == expected


def test_threads_running_at_once_get_the_same_results() -> None:
    head = kitti_head()
    rng = np.random.default_rng(6)
    outputs = [rng.normal(size=head.output_shape).astype(np.float32) for _ in range(8)]
    one_by_one = [cpu.detect(o, head, DetectParams()).boxes.tolist() for o in outputs]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda o: cpu.detect(o, head, DetectParams()), outputs * 4))
    assert [d.boxes.tolist() for d in at_once] == one_by_one * 4


def test_rejects_what_the_reference_rejects() -> None:
    head = small_head()
    with pytest.raises(ValueError, match="expected a network output of shape"):
        cpu.detect(np.zeros((16, 4, 2), np.float32), head, DetectParams())
    with pytest.raises(ValueError, match="expected classes 0 to 2"):
        cpu.detect(pack(head, silent(head)), head, DetectParams(classes=(3,)))
