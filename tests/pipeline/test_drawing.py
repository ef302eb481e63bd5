from __future__ import annotations

import itertools

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.drawing import (
    BLACK,
    LABEL_OPACITY,
    ROAD_COLOURS,
    STATUS_OPACITY,
    WHITE,
    Painter,
    class_colours,
    luminance,
    text_colour,
)

ROAD = ["car", "cyclist", "pedestrian"]
SIZES = [(48, 64), (47, 65), (375, 1242), (360, 640), (1080, 1920), (2160, 3840)]
GREY = 117


def canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections from rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def changed(image: np.ndarray) -> np.ndarray:
    return np.any(image != GREY, axis=2)


def plate_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return a mask of the label plate of a colour; on grey, its blend is one exact value."""
    blend = LABEL_OPACITY * np.array(colour) + (1 - LABEL_OPACITY) * GREY
    return np.all(np.abs(image.astype(float) - blend) <= 1, axis=2)


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


class TestColours:
    def test_road_users_keep_their_colours_in_any_order(self):
        for names in itertools.permutations(ROAD):
            assert class_colours(names) == [ROAD_COLOURS[name] for name in names]

    def test_other_class_keeps_its_colour_whatever_its_index(self):
        first = class_colours(["car", "truck"])[1]
        assert class_colours(["truck", "pedestrian", "car"])[0] == first
        assert first not in ROAD_COLOURS.values()

    def test_eighty_classes_get_eighty_colours(self):
        colours = class_colours([f"class {k}" for k in range(77)] + ROAD)
        assert len(set(colours)) == 80

    def test_a_few_classes_get_clearly_different_colours(self):
        colours = np.array(class_colours([*ROAD, "truck", "bus", "tram", "dog", "van"]), float)
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
        assert min(gaps) >= 90

    def test_luminance_of_known_colours(self):
        assert luminance((0, 0, 0)) == 0
        assert luminance((255, 255, 255)) == pytest.approx(1)
        assert luminance((0, 0, 255)) == pytest.approx(0.2126)

    @pytest.mark.parametrize("name", ROAD)
    @pytest.mark.parametrize("background", [0, 255])
    def test_label_text_has_contrast_on_any_background(self, name, background):
        colour = ROAD_COLOURS[name]
        plate = tuple(round(LABEL_OPACITY * c + (1 - LABEL_OPACITY) * background) for c in colour)
        assert contrast(luminance(plate), luminance(text_colour(colour))) >= 4.5

    def test_text_of_other_classes_is_the_better_of_black_and_white(self):
        for colour in class_colours([f"class {k}" for k in range(60)]):
            plate = luminance(colour)
            best = max((BLACK, WHITE), key=lambda text: contrast(plate, luminance(text)))
            assert text_colour(colour) == best

    def test_status_text_has_contrast_on_any_background(self):
        plate = round((1 - STATUS_OPACITY) * 255)
        assert contrast(luminance((plate,) * 3), luminance(WHITE)) >= 4.5


class TestBoxes:
    def test_line_has_the_class_colour_and_the_rest_is_untouched(self):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, found((200.4, 150.6, 399.5, 299.6, 0.87, 0)))
        for y, x in [(225, 200), (225, 400), (300, 250), (151, 350)]:
            assert tuple(image[y, x]) == ROAD_COLOURS["car"], (y, x)
        touched = changed(image)
        assert not touched[160:290, 210:390].any()
        touched[120:310, 190:410] = False
        assert not touched.any()

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_line_grows_with_the_frame(self, height, width):
        image = canvas(height, width)
        Painter(ROAD).draw(image, found((width / 4, height / 2, width * 0.75, height - 1, 0.9, 0)))
        row = np.all(image[round(height * 0.85)] == ROAD_COLOURS["car"], axis=1)
        line = row[: width // 2].sum()
        assert line == row[width // 2 :].sum()
        expected = {48: 2, 47: 2, 360: 3, 375: 3, 1080: 4, 2160: 6}
        assert line == expected[height]

    @pytest.mark.parametrize(("height", "width"), SIZES)
    @pytest.mark.parametrize(
        "box",
        [
            (0.0, 0.0, 1.0, 1.0),
            (-0.5, -0.5, 0.4, 0.6),
            (0.6, 0.4, 1.5, 1.5),
            (0.0, 0.0, 0.02, 1.0),
            (0.98, 0.0, 1.0, 1.0),
            (0.4, 0.0, 0.7, 0.05),
            (0.4, 0.97, 0.7, 1.0),
            (0.5, 0.5, 0.5, 0.5),
            (0.6, 0.6, 0.4, 0.4),
        ],
        ids=str,
    )
    def test_any_box_is_drawn_without_error(self, height, width, box):
        image = canvas(height, width)
        boxes = np.array([box]) * [width, height, width, height]
        Painter(ROAD).draw(image, found((*boxes[0], 0.5, 2)), "24.0 fps")
        assert changed(image).any()

    def test_the_outline_of_a_box_larger_than_the_frame_is_visible(self):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, found((-50, -50, 800, 500, 0.9, 0)))
        for edge in (image[200:, :3], image[200:, -3:], image[-3:], image[:3, 200:]):
            assert (edge == ROAD_COLOURS["car"]).all()

    @pytest.mark.parametrize(
        "box",
        [
            (-90, 10, -5, 90),
            (645, 10, 700, 90),
            (10, -90, 90, 0),
            (10, 360, 90, 400),
            (10, 10, float("nan"), 90),
        ],
        ids=["left", "right", "above", "below", "not a number"],
    )
    def test_box_outside_the_frame_is_not_drawn(self, box):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, found((*box, 0.9, 0)))
        assert not changed(image).any()

    def test_higher_score_is_on_top(self):
        image = canvas(360, 640)
        boxes = [(200, 150, 400, 300, 0.9, 0), (300, 200, 500, 340, 0.4, 1)]
        Painter(ROAD).draw(image, found(*boxes))
        assert tuple(image[200, 400]) == ROAD_COLOURS["car"]


class TestLabels:
    @pytest.mark.parametrize("name", ROAD)
    def test_label_sits_on_its_box(self, name):
        image = canvas(360, 640)
        k = ROAD.index(name)
        Painter(ROAD).draw(image, found((200, 150, 400, 300, 0.87, k)))
        ys, xs = np.nonzero(plate_of(image, ROAD_COLOURS[name]))
        assert 120 <= ys.min() < ys.max() < 150
        assert 195 <= xs.min() < xs.max() < 400

    def test_label_text_is_drawn_dark(self):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, found((200, 150, 400, 300, 0.87, 0)))
        plate = plate_of(image, ROAD_COLOURS["car"])
        ys, xs = np.nonzero(plate)
        label = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        ink = (label.max(axis=2) < 60).mean()
        assert 0.05 < ink < 0.5

    def test_score_changes_the_text(self):
        images = [canvas(360, 640), canvas(360, 640)]
        for image, score in zip(images, (0.87, 0.12), strict=True):
            Painter(ROAD).draw(image, found((200, 150, 400, 300, score, 0)))
        assert (images[0] != images[1]).any()

    def test_number_of_the_object_stands_between_class_and_score(self, monkeypatch):
        texts = []
        monkeypatch.setattr(
            "squeezedrive.pipeline.drawing.Painter._write",
            lambda self, image, style, text, *_: texts.append(text),
        )
        outside = (700, 0, 800, 100, 0.95, 0)  # not drawn; its number is skipped
        both = found(outside, (200, 150, 400, 300, 0.87, 0), (420, 150, 600, 300, 0.5, 2))
        Painter(ROAD).draw(canvas(360, 640), both, ids=np.array([7, 12, 3], np.int32))
        assert texts == ["pedestrian 3 0.50", "car 12 0.87"]

    @pytest.mark.parametrize(
        ("box", "where"),
        [
            ((200, 0, 400, 200), (slice(0, 30), slice(195, 400))),  # inside the box
            ((300, 0, 330, 60), (slice(60, 90), slice(290, 400))),  # below: the box is too narrow
            ((610, 150, 640, 200), (slice(120, 150), slice(540, 640))),  # shifted to the left
            ((0, 150, 30, 200), (slice(120, 150), slice(0, 100))),
        ],
        ids=["inside", "below", "right edge", "left edge"],
    )
    def test_label_flips_and_shifts_at_the_edges(self, box, where):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, found((*box, 0.87, 0)))
        plate = plate_of(image, ROAD_COLOURS["car"])
        assert plate[where].sum() > 300
        assert plate[where].sum() == plate.sum()

    def test_label_of_a_tiny_box_is_the_score_alone(self):
        wide, narrow = canvas(360, 640), canvas(360, 640)
        Painter(ROAD).draw(wide, found((200, 150, 300, 250, 0.87, 2)))
        Painter(ROAD).draw(narrow, found((200, 150, 212, 170, 0.87, 2)))
        widths = [
            np.ptp(np.nonzero(plate_of(image, ROAD_COLOURS["pedestrian"]))[1])
            for image in (wide, narrow)
        ]
        assert 0 < widths[1] < widths[0] / 2

    def test_labels_of_a_crowd_do_not_overlap(self, monkeypatch):
        plates = []
        monkeypatch.setattr(
            Painter, "_write", lambda _, image, style, text, plate, *rest: plates.append(plate)
        )
        rng = np.random.default_rng(5)
        corner = rng.uniform((0, 100), (600, 250), (40, 2))
        rows = [
            (x, y, x + w, y + 2 * w, score, k)
            for (x, y), w, score, k in zip(
                corner,
                rng.uniform(10, 80, 40),
                np.linspace(0.99, 0.3, 40),
                rng.integers(0, 3, 40),
                strict=True,
            )
        ]
        Painter(ROAD).draw(canvas(360, 640), found(*rows), "24.0 fps")
        assert len(plates) > 20
        for x1, y1, x2, y2 in plates:
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 360
        for a, b in itertools.combinations(plates, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)

    def test_labels_keep_their_positions_when_scores_swap(self, monkeypatch):
        runs = []
        monkeypatch.setattr(
            Painter, "_write", lambda _, image, style, text, plate, *rest: runs[-1].add(plate)
        )
        near, far = (200, 150, 400, 300), (210, 152, 300, 200)
        for boxes in ((near, far), (far, near)):
            runs.append(set())
            Painter(ROAD).draw(canvas(360, 640), found((*boxes[0], 0.8, 0), (*boxes[1], 0.7, 0)))
        assert runs[0] == runs[1]
        assert len(runs[0]) == 2


class TestStatus:
    def test_status_is_a_plate_in_the_corner(self):
        image = canvas(360, 640)
        Painter(ROAD).draw(image, Detections.empty(), "24.3 fps  ·  38.1 ms")
        touched = changed(image)
        assert touched[:30, :200].any()
        assert not touched[30:].any()
        assert not touched[:, 200:].any()
        assert image.max() > 240  # white text
        # The plate is transparent.
        assert (np.abs(image[6, 6].astype(int) - (1 - STATUS_OPACITY) * GREY) <= 1).all()

    @pytest.mark.parametrize(
        ("status", "text"), [(False, "24.3 fps"), (True, None), (True, "")], ids=str
    )
    def test_without_status_an_empty_frame_is_unchanged(self, status, text):
        image = canvas(360, 640)
        Painter(ROAD, status=status).draw(image, Detections.empty(), text)
        assert not changed(image).any()

    def test_status_is_left_out_of_a_frame_that_is_too_small(self):
        image = canvas(48, 64)
        Painter(ROAD).draw(image, Detections.empty(), "24.3 fps  ·  38.1 ms")
        assert not changed(image).any()

    def test_status_is_not_covered_by_a_label(self):
        alone, image = canvas(360, 640), canvas(360, 640)
        painter = Painter(ROAD)
        painter.draw(alone, Detections.empty(), "24.3 fps")
        painter.draw(image, found((20, 24, 120, 90, 0.9, 0)), "24.3 fps")
        ys, xs = np.nonzero(changed(alone))
        plate = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        assert not plate_of(image[plate], ROAD_COLOURS["car"]).any()
        assert plate_of(image, ROAD_COLOURS["car"]).any()
