"""Fitting pictures of any size into the network's input, and mapping boxes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezedrive.kernels.fit import Fit, FitMode, band, letterbox, make_fit, stretch
from tests.support.fakes import FakeRows

deterministic = settings(deadline=None, derandomize=True, max_examples=150)
NETWORK = (1248, 384)
KINDS: tuple[FitMode, ...] = ("band", "letterbox", "stretch")
FILL = (104, 117, 124)

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
fits = st.builds(
    make_fit,
    st.sampled_from(KINDS),
    sizes,
    st.sampled_from([NETWORK, (624, 192), (640, 360), (33, 17)]),
    st.floats(0, 1),
)


@pytest.mark.parametrize(
    ("centre", "top"), [(0.5, 244), (0.55, 298), (0.0, 0), (0.1, 0), (0.9, 489), (1.0, 489)]
)
def test_band_has_the_networks_aspect_and_stays_inside(centre: float, top: int) -> None:
    fit = band((1920, 1080), NETWORK, centre)
    assert fit.crop == (0, top, 1920, top + 591)
    assert fit.target == (0, 0, 1248, 384)


def test_band_of_a_picture_of_the_trained_aspect_is_the_whole_picture() -> None:
    fit = band((1248, 384), NETWORK, 0.9)
    assert fit.crop == fit.target == (0, 0, 1248, 384)


def test_band_of_a_wider_picture_is_letterboxed() -> None:
    fit = band((2000, 400), NETWORK, 0.5)
    assert fit == letterbox((2000, 400), NETWORK)
    assert fit.crop == (0, 0, 2000, 400)
    assert fit.target == (0, 67, 1248, 317)


def test_letterbox_centres_a_16_to_9_picture() -> None:
    fit = letterbox((1920, 1080), NETWORK)
    assert fit.crop == (0, 0, 1920, 1080)
    assert fit.target == (282, 0, 965, 384)


def test_stretch_scales_the_whole_picture_to_the_whole_input() -> None:
    fit = stretch((1920, 1080), NETWORK)
    assert (fit.crop, fit.target) == ((0, 0, 1920, 1080), (0, 0, 1248, 384))


def test_band_maps_boxes_as_computed_by_hand() -> None:
    fit = band((1920, 1080), NETWORK, 0.5)  # rows 244 to 834
    box = np.array([[624, 192, 936, 288]], np.float32)
    assert fit.to_source(box)[0] == pytest.approx([960, 244 + 295.5, 1440, 244 + 443.25])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (3840, 2160), (1242, 375), (720, 1280)])
def test_a_box_that_fills_the_input_fills_the_crop(kind: FitMode, size: tuple[int, int]) -> None:
    fit = make_fit(kind, size, NETWORK, 0.6)
    x0, y0, x1, y1 = fit.crop
    box = np.array([[0, 0, 1247, 383]], np.float32)
    assert fit.to_source(box).tolist() == [[x0, y0, x1 - 1, y1 - 1]]


def test_boxes_may_go_beyond_the_band_to_the_edges_of_the_picture() -> None:
    inside, beyond = (make_fit("band", (1920, 1080), NETWORK, 0.5, flag) for flag in (False, True))
    boxes = np.array([[0, 192, 312, 500], [1000, -900, 1300, 384]], np.float32)
    scale = 1080 / 702  # rows 244 to 834 of the picture are rows 0 to 384 of the input
    low, high = beyond.to_source(boxes)
    assert low == pytest.approx([0, 244 + 192 * scale, 480, 244 + 500 * scale], abs=2)
    assert high == pytest.approx([1538, 0, 1919, 834], abs=2)
    assert inside.to_source(boxes)[:, [1, 3]] == pytest.approx(
        np.array([[539.4, 833], [244, 833]]), abs=1
    )


@pytest.mark.parametrize("kind", ["letterbox", "stretch"])
def test_nothing_is_beyond_a_picture_that_is_shown_whole(kind: FitMode) -> None:
    box = np.array([[-50, -50, 1400, 500]], np.float32)
    assert make_fit(kind, (640, 360), NETWORK, 0.5, True).to_source(box).tolist() == [
        [0, 0, 639, 359]
    ]


def test_a_box_in_the_padding_ends_at_the_picture() -> None:
    fit = letterbox((1920, 1080), NETWORK)
    box = np.array([[100, 100, 300, 200], [900, 100, 1100, 200]], np.float32)
    left, right = fit.to_source(box)
    assert left[0] == 0
    assert left[2] == pytest.approx((300 - 282) * 1920 / 683, rel=1e-5)
    assert right[2] == 1919


def test_maps_no_boxes_to_no_boxes() -> None:
    boxes = stretch((1920, 1080), NETWORK).to_source(np.empty((0, 4), np.float32))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.float32


@given(fits, st.lists(st.floats(0, 1), min_size=4, max_size=4))
@deterministic
def test_boxes_survive_a_round_trip_through_the_input(fit: Fit, fractions: list[float]) -> None:
    x0, y0, x1, y1 = fit.crop
    xs = sorted(x0 + f * (x1 - 1 - x0) for f in fractions[:2])
    ys = sorted(y0 + f * (y1 - 1 - y0) for f in fractions[2:])
    source = np.array([[xs[0], ys[0], xs[1], ys[1]]], np.float32)
    network = fit.to_network(source)
    tx0, ty0, tx1, ty1 = fit.target
    assert (network >= np.array([tx0, ty0, tx0, ty0]) - 0.01).all()
    assert (network <= np.array([tx1, ty1, tx1, ty1]) + 0.01).all()
    back = fit.to_source(network)
    # A coordinate less than one pixel beyond the input's last pixel is moved to the edge.
    scale = np.array([(x1 - x0) / (tx1 - tx0), (y1 - y0) / (ty1 - ty0)] * 2)
    assert (np.abs(back - source) <= np.maximum(scale, 1) + 0.01).all()
    inside = network < np.array(fit.input_size * 2) - 1
    assert (np.abs(back - source) <= 0.01 + 1e-5 * scale)[inside].all()


@given(fits, st.integers(0, 2**32 - 1))
@deterministic
def test_boxes_are_mapped_inside_the_source(fit: Fit, seed: int) -> None:
    width, height = fit.input_size
    points = np.random.default_rng(seed).uniform(0, [width - 1, height - 1], (20, 2, 2))
    boxes = np.sort(points, axis=1).reshape(20, 4).astype(np.float32)
    mapped = fit.to_source(boxes)
    assert mapped.dtype == np.float32
    assert (mapped >= 0).all()
    assert (mapped <= np.array(fit.source_size * 2) - 1).all()
    assert (mapped[:, :2] <= mapped[:, 2:]).all()


@given(
    st.sampled_from(KINDS),
    st.one_of(
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        st.sampled_from([(1, 1), (1, 5000), (5000, 1), (3, 3000), (2999, 2), (4001, 33)]),
    ),
    st.sampled_from([(96, 32), (31, 17)]),
    st.floats(0, 1),
)
@deterministic
def test_preprocess_fills_the_target_and_the_borders(
    kind: FitMode, source_size: tuple[int, int], input_size: tuple[int, int], centre: float
) -> None:
    fit = make_fit(kind, source_size, input_size, centre)
    image = np.full((source_size[1], source_size[0], 3), (10, 20, 30), np.uint8)
    out = np.zeros((input_size[1], input_size[0], 3), np.uint8)
    fit.preprocess(image, FILL, out)
    expected = np.full_like(out, FILL)
    x0, y0, x1, y1 = fit.target
    expected[y0:y1, x0:x1] = (10, 20, 30)
    assert (out == expected).all()


def test_preprocess_reads_only_the_crop() -> None:
    image = np.zeros((1080, 1920, 3), np.uint8)
    fit = band((1920, 1080), NETWORK, 0.5)
    _, y0, _, y1 = fit.crop
    image[y0:y1] = (1, 2, 3)
    out = np.zeros((384, 1248, 3), np.uint8)
    fit.preprocess(image, FILL, out)
    assert (out == (1, 2, 3)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_preprocessed_rectangle_lies_where_its_box_is_mapped(kind: FitMode) -> None:
    fit = make_fit(kind, (1920, 1080), NETWORK, 0.5)
    image = np.zeros((1080, 1920, 3), np.uint8)
    image[400:600, 1000:1300] = 255
    out = np.zeros((384, 1248, 3), np.uint8)
    fit.preprocess(image, (0, 0, 0), out)
    rows, columns = np.nonzero(out[..., 0] > 127)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    expected = fit.to_network(np.array([[1000, 400, 1300, 600]], np.float32))[0]
    assert seen == pytest.approx(expected, abs=1)
    assert fit.to_source(seen[None])[0] == pytest.approx([1000, 400, 1300, 600], abs=3)


def test_preprocess_accepts_a_picture_that_is_a_view() -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(0, 255, (200, 300, 3), np.uint8)
    image = large[10:110, 20:250]
    fit = letterbox((230, 100), (96, 32))
    out = [np.zeros((32, 96, 3), np.uint8) for _ in range(2)]
    fit.preprocess(image, FILL, out[0])
    fit.preprocess(image.copy(), FILL, out[1])
    assert (out[0] == out[1]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(160, 120), (161, 121), (300, 40)])
def test_of_a_picture_that_is_not_bgr_only_the_crop_is_asked_for(
    kind: FitMode, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    picture, fit = FakeRows(image), make_fit(kind, size, (96, 32), 0.4)
    out = [np.zeros((32, 96, 3), np.uint8) for _ in range(2)]
    fit.preprocess(image, FILL, out[0])
    fit.preprocess(picture, FILL, out[1])
    assert (out[0] == out[1]).all()
    assert picture.asked == [(fit.crop[1], fit.crop[3])]
    with pytest.raises(ValueError, match="picture of shape"):
        fit.preprocess(FakeRows(image[1:]), FILL, out[0])


@pytest.mark.parametrize(
    ("image", "out", "message"),
    [
        (np.zeros((90, 160, 3), np.uint8), np.zeros((32, 97, 3), np.uint8), "network input"),
        (np.zeros((90, 161, 3), np.uint8), np.zeros((32, 96, 3), np.uint8), r"picture.*90, 160"),
        (np.zeros((90, 160), np.uint8), np.zeros((32, 96, 3), np.uint8), r"picture.*90, 160, 3"),
        (np.zeros((90, 160, 3), np.float32), np.zeros((32, 96, 3), np.uint8), "float32"),
    ],
)
def test_preprocess_rejects_arrays_of_wrong_shape_or_type(
    image: np.ndarray, out: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stretch((160, 90), (96, 32)).preprocess(image, FILL, out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zoom", (160, 90), (96, 32), 0.5), "'zoom'"),
        (("band", (160, 90), (96, 32), 1.5), "1.5"),
        (("stretch", (0, 90), (96, 32), 0.5), r"\(0, 90\)"),
        (("stretch", (160, 90), (96, 0), 0.5), r"\(96, 0\)"),
    ],
)
def test_rejects_wrong_fits(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_fit(*arguments)


@pytest.mark.parametrize("crop", [(0, 0, 161, 90), (-1, 0, 160, 90), (5, 0, 5, 90), (0, 9, 160, 8)])
def test_rejects_rectangles_outside_the_picture(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="inside a picture of 160x90"):
        Fit((160, 90), (96, 32), crop, (0, 0, 96, 32))
