"""The values of the formulas, and the agreement of plain Python with compiled code."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest

from squeezedrive.kernels import formulas

f32 = np.float32
LOGITS = [-65504.0, -100.0, -88.0, -17.5, -1.0, -1e-3, 0.0, 0.3, 1.0, 1.5, 2.0, 3.0, 20.0, 88.0]


@pytest.mark.parametrize(
    ("x", "expected"), [(1.0, 2.718), (1.5, 4.077), (2.0, 5.437), (3.0, 8.155), (-1.0, 0.368)]
)
def test_safe_exp_is_a_straight_line_above_the_threshold(x: float, expected: float) -> None:
    assert formulas.safe_exp(f32(x), f32(1)) == pytest.approx(expected, abs=6e-4)


def test_safe_exp_without_threshold_is_the_exponential() -> None:
    assert formulas.safe_exp(f32(3), f32(math.inf)) == pytest.approx(math.e**3, rel=1e-6)


def test_sigmoid_at_both_ends() -> None:
    assert formulas.sigmoid(f32(0)) == 0.5
    assert formulas.sigmoid(f32(-65504)) == 0
    assert formulas.sigmoid(f32(65504)) == 1
    assert formulas.sigmoid(f32(-20)) == pytest.approx(1 / (1 + math.exp(20)), rel=1e-6)


def test_best_class_is_the_maximum_of_a_softmax() -> None:
    logits = np.array([9, 1.0, 9, 3.0, 9, 2.0, 9], np.float32)
    best, probability = formulas.best_class(logits, 1, 2, 3)
    assert best == 1
    assert probability == pytest.approx(math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(2)))


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([5.0], (0, 1.0)),
        ([2.0, 2.0], (0, 0.5)),
        ([-65504.0, 65504.0], (1, 1.0)),
        ([-65504.0, -65504.0, -65504.0, -65504.0], (0, 0.25)),
    ],
    ids=["one class", "equal: the first", "far apart", "all tiny"],
)
def test_best_class_at_the_edges(logits: list[float], expected: tuple[int, float]) -> None:
    assert formulas.best_class(np.array(logits, np.float32), 0, 1, len(logits)) == expected


def test_box_corners_move_scale_and_clip() -> None:
    def corners(*numbers: float, reach: float = 0) -> tuple[float, ...]:
        limits = f32(99), f32(49), f32(reach)
        return tuple(map(float, formulas.box_corners(*map(f32, numbers), *limits)))

    assert corners(50, 25, 20, 10, 0, 0, 1, 1) == (40, 20, 60, 30)
    assert corners(50, 25, 20, 10, 0.5, -1, 2, 0.5) == (40, 12.5, 80, 17.5)
    assert corners(50, 25, 20, 10, 0, 0, 100, 100) == (0, 0, 99, 49)
    assert corners(50, 25, 20, 10, 9, 9, 1, 1) == (99, 49, 99, 49)
    assert corners(50, 25, 20, 10, 0, 0, math.inf, math.inf) == (0, 0, 99, 49)
    assert corners(50, 25, 20, 10, 0, 0, 1, 8, reach=10) == (40, -10, 60, 59)
    assert corners(5, 45, 20, 10, 0, 0, 1, 1, reach=10) == (-5, 40, 15, 50)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (50, 50, 60, 60), 0.0),
        ((3, 0, 3, 10), (3, 0, 3, 10), 0.0),
        ((4, 4, 4, 4), (0, 0, 10, 10), 0.0),
        ((6, 6, 2, 2), (0, 0, 10, 10), 0.0),
    ],
    ids=["same", "half", "inside", "touching", "apart", "line", "point", "inverted"],
)
def test_box_iou_matches_hand_computed_values(
    a: tuple[int, ...], b: tuple[int, ...], expected: float
) -> None:
    assert formulas.box_iou(*map(f32, a + b)) == pytest.approx(expected)
    assert formulas.box_iou(*map(f32, b + a)) == pytest.approx(expected)


_rng = np.random.default_rng(5)
_boxes = np.sort(_rng.uniform(0, 50, (60, 2, 2, 2)), axis=2).reshape(60, 8)  # two boxes per row
_moved = _rng.uniform([0, 0, 1, 1, -2, -2, 0, 0], [99, 49, 60, 60, 2, 2, 4, 4], (60, 8))
CASES: dict[str, list[tuple[float, ...]]] = {
    "sigmoid": [(x,) for x in LOGITS],
    "safe_exp": list(product(LOGITS, [0.5, 1.0, math.inf])),
    "box_corners": [(*row, 99.0, 49.0, reach) for row in _moved for reach in (0.0, 7.5)],
    "box_iou": [tuple(row) for row in _boxes],
}


def compiled_type(function: Any) -> str:
    """Return the type that Numba infers for the result; an untyped constant shows as float64."""
    (signature,) = function.signatures
    return str(function.overloads[signature].signature.return_type)


@pytest.mark.parametrize("name", CASES)
def test_plain_and_compiled_agree(name: str) -> None:
    plain = getattr(formulas, name)
    compiled = numba.njit(plain)  # fails if the formula calls another one
    for case in CASES[name]:
        numbers = tuple(map(f32, case))
        expected = plain(*numbers)
        assert np.asarray(expected).dtype == np.float32
        np.testing.assert_allclose(compiled(*numbers), expected, rtol=5e-7, err_msg=str(case))
    assert compiled_type(compiled) in ("float32", "UniTuple(float32 x 4)")


def test_plain_and_compiled_best_class_agree() -> None:
    compiled = numba.njit(formulas.best_class)
    rng = np.random.default_rng(1)
    for scale in (0, 1, 10, 1000):
        logits = (scale * rng.normal(size=12)).astype(np.float32)
        for start, stride, n in ((0, 1, 12), (1, 2, 5), (2, 4, 3), (11, 1, 1)):
            best, probability = formulas.best_class(logits, start, stride, n)
            assert isinstance(probability, np.float32)
            assert compiled(logits, start, stride, n) == (
                best,
                pytest.approx(probability, rel=5e-7),
            )
    assert compiled_type(compiled) == "Tuple(int64, float32)"
