"""Anchors, the grid of cells, and the layouts of the output."""

from __future__ import annotations

import numpy as np
import pytest

from squeezedrive.kernels.head import Grid, Head, anchor_grid
from tests.support.heads import KITTI_SHAPES, kitti_head, padded_grid, small_head

KITTI = padded_grid(1248, 384)
GRID = padded_grid(64, 32)


@pytest.mark.parametrize(("centres", "first"), [("even", (15.797, 15.36)), ("half_stride", (8, 8))])
def test_first_anchor_lies_where_the_centres_say(centres: str, first: tuple[float, float]) -> None:
    anchors = anchor_grid(KITTI, KITTI_SHAPES, centres)  # type: ignore[arg-type]
    assert anchors.shape == (16848, 4)
    assert anchors.dtype == np.float32
    assert anchors[0] == pytest.approx((*first, 36, 37), abs=5e-4)


def test_anchors_are_row_major_in_y_x_anchor() -> None:
    anchors = anchor_grid(KITTI, KITTI_SHAPES, "half_stride")
    assert anchors[8].tolist() == [8, 8, 72, 43]
    assert anchors[9].tolist() == [24, 8, 36, 37]
    assert anchors[78 * 9 + 1].tolist() == [8, 24, 366, 174]
    assert anchors[-1].tolist() == [1240, 376, 72, 43]


def test_even_anchors_are_as_far_from_the_last_edge_as_from_the_first() -> None:
    anchors = anchor_grid(KITTI, KITTI_SHAPES, "even")
    assert anchors[-1, :2] + anchors[0, :2] == pytest.approx((1248, 384))


def test_anchors_of_a_grid_with_a_margin() -> None:
    """SqueezeDet+ without padding has fewer cells than pixels / 16, and a margin around them."""
    grid = Grid(1242, 375, 76, 22, stride=16, first=17)
    centred = anchor_grid(grid, KITTI_SHAPES, "half_stride")
    assert centred.shape == (76 * 22 * 9, 4)
    assert centred[0, :2].tolist() == [17, 17]
    assert centred[-1, :2].tolist() == [17 + 16 * 75, 17 + 16 * 21]
    # The authors' configuration has i * 1242 / 77 and j * 375 / 23; i and j count from 1.
    even = anchor_grid(grid, KITTI_SHAPES, "even")
    assert even[0, :2] == pytest.approx((1242 / 77, 375 / 23))
    assert even[-1, :2] == pytest.approx((76 * 1242 / 77, 22 * 375 / 23))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], "even"), "anchor shapes"),
        (([1, 2], "even"), "anchor shapes"),
        (([[1, 2, 3]], "even"), "anchor shapes"),
        (([[1, 2]], "corner"), "'corner'"),
    ],
)
def test_rejects_wrong_anchor_grids(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anchor_grid(GRID, *arguments)


def test_rejects_empty_grids() -> None:
    with pytest.raises(ValueError, match="0x32"):
        Grid(0, 32, 4, 2, 16, 8)
    with pytest.raises(ValueError, match="64x32 and 4x0"):
        Grid(64, 32, 4, 0, 16, 8)


def test_layouts_map_to_each_other_as_published() -> None:
    # Channel 8a+k of Qiu's weights is channel 3a+k, 27+a or 36+4a+(k-4) of the authors' weights.
    qiu = kitti_head("per_anchor").channels
    authors = kitti_head("by_kind").channels
    for a in range(9):
        assert qiu[a].tolist() == [8 * a + k for k in range(8)]
        assert authors[a].tolist() == [
            *(3 * a + k for k in range(3)),
            27 + a,
            *(36 + 4 * a + (k - 4) for k in range(4, 8)),
        ]


@pytest.mark.parametrize("layout", ["per_anchor", "by_kind"])
@pytest.mark.parametrize("classes", [1, 3, 7])
def test_a_layout_uses_each_channel_once(layout: str, classes: int) -> None:
    head = small_head(classes=classes, layout=layout)  # type: ignore[arg-type]
    assert sorted(head.channels.ravel()) == list(range(head.output_shape[0]))
    # The compiled decoders rely on consecutive channels, for the logits and for the deltas.
    assert (np.diff(head.channels[:, :classes], axis=1) == 1).all()
    assert (np.diff(head.channels[:, classes + 1 :], axis=1) == 1).all()


def test_output_shape_of_the_kitti_head() -> None:
    assert kitti_head().output_shape == (72, 24, 78)


def test_check_names_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(72, 24, 78\).*\(1, 72, 24, 78\)"):
        kitti_head().check(np.zeros((1, 72, 24, 78), np.float32))


ANCHORS = anchor_grid(GRID, [(20, 10)], "even")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 0}, "at least one class"),
        ({"anchors_per_cell": 0}, "one anchor per cell"),
        ({"grid": padded_grid(128, 32)}, r"\(16, 4\).*\(8, 4\)"),
        ({"anchors_per_cell": 2}, r"\(16, 4\).*\(8, 4\)"),
        ({"anchors": ANCHORS.astype(np.float64)}, "float64"),
        ({"anchors": np.asfortranarray(ANCHORS)}, "C-contiguous"),
        ({"layout": "interleaved"}, "'interleaved'"),
        ({"exp_threshold": float("nan")}, "nan"),
        ({"exp_threshold": -float("inf")}, "-inf"),
    ],
)
def test_rejects_wrong_heads(changes: dict, message: str) -> None:
    right = {
        "classes": 3,
        "anchors": ANCHORS,
        "anchors_per_cell": 1,
        "layout": "by_kind",
        "exp_threshold": 1.0,
        "grid": GRID,
    }
    Head(**right)
    with pytest.raises(ValueError, match=message):
        Head(**(right | changes))
