from collections.abc import Sequence

import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImage
from squeezedrive.engines.evaluation.coco import IOUS, RECALLS, CocoCurve, evaluate_coco
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import ImageDetections
from tests.support.labelled import box, found, item, random_pictures


def curve(labelled: LabelledImage, boxes: ImageDetections) -> CocoCurve:
    return evaluate_coco([labelled], [boxes], ["car"])[0]


def test_ap_is_one_if_all_objects_are_found() -> None:
    perfect = curve(item({"box": box(0)}, {"box": box(200)}), found((box(0), 0.9), (box(200), 0.1)))
    assert perfect.objects == 2
    assert perfect.ap() == perfect.ap(0.5) == 1


def test_a_false_box_between_two_hits_lowers_ap() -> None:
    """Precision is 1 up to recall 0.5, and 2/3 up to recall 1."""
    labelled = item({"box": box(0)}, {"box": box(200)})
    got = curve(labelled, found((box(0), 0.9), (box(400), 0.8), (box(200), 0.7)))
    assert got.ap(0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_missed_object_ends_the_curve() -> None:
    got = curve(item({"box": box(0)}, {"box": box(200)}), found((box(0), 0.9)))
    assert got.ap(0.5) == pytest.approx(51 / 101)


def test_overlap_of_62_percent_passes_three_of_ten_limits() -> None:
    got = curve(item({"box": box(0)}), found((box(0, 0, 100, 62), 0.9)))
    assert (got.ap(0.5), got.ap(0.6), got.ap(0.65), got.ap(0.75)) == (1, 1, 0, 0)
    assert got.ap() == pytest.approx(0.3)


def test_overlap_equal_to_the_limit_is_enough() -> None:
    assert curve(item({"box": box(0)}), found((box(0, 0, 100, 50), 0.9))).ap(0.5) == 1


def test_a_second_box_on_an_object_is_an_error() -> None:
    labelled = item({"box": box(0)}, {"box": box(200)})
    got = curve(labelled, found((box(0), 0.9), (box(1), 0.8), (box(200), 0.7)))
    assert got.ap(0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_crowd_takes_any_number_of_boxes_of_its_class() -> None:
    crowd = [(box(200, 0, 1000, 100), 0)]
    boxes = found((box(200), 0.9), (box(250), 0.8), (box(900), 0.7), (box(0), 0.6))
    assert curve(item({"box": box(0)}, ignore=crowd), boxes).ap() == 1
    other = [(box(200, 0, 1000, 100), 1)]
    assert curve(item({"box": box(0)}, ignore=other), boxes).ap() == pytest.approx(0.25)
    every = [(box(200, 0, 1000, 100), EVERY_CLASS)]
    assert curve(item({"box": box(0)}, ignore=every), boxes).ap() == 1


def test_a_neighbour_excuses_one_box() -> None:
    labelled = item({"box": box(0)}, {"box": box(200), "neighbour": True})
    assert curve(labelled, found((box(200), 0.9), (box(0), 0.6))).ap() == 1
    assert curve(labelled, found((box(200), 0.9), (box(200), 0.8), (box(0), 0.6))).ap() == 0.5
    assert curve(labelled, found()).objects == 1


def test_an_object_comes_before_a_neighbour_with_more_overlap() -> None:
    labelled = item({"box": box(10), "neighbour": True}, {"box": box(0)})
    assert curve(labelled, found((box(10), 0.9))).ap(0.5) == 1


def test_only_the_best_hundred_boxes_of_a_picture_count() -> None:
    rows = [(box(200 + i), 0.9) for i in range(99)]
    assert curve(item({"box": box(0)}), found(*rows, (box(0), 0.5))).ap() == pytest.approx(0.01)
    assert curve(item({"box": box(0)}), found(*rows, (box(500), 0.9), (box(0), 0.5))).ap() == 0


def test_classes_are_evaluated_separately() -> None:
    labelled = item({"box": box(0), "class_index": 1})
    car, bus = evaluate_coco([labelled], [found((box(0), 0.9, 0))], ["car", "bus"])
    assert np.isnan(car.ap())
    assert np.isnan(car.ap(0.5))
    assert (bus.objects, bus.ap()) == (1, 0)


def test_boxes_of_all_pictures_are_ranked_together() -> None:
    items = [item({"box": box(0)}), item()]
    (got,) = evaluate_coco(items, [found((box(0), 0.5)), found((box(0), 0.9))], ["car"])
    assert got.ap(0.5) == pytest.approx(0.5)


def test_agrees_with_a_plain_implementation() -> None:
    items, results = random_pictures(seed=5, pictures=60, classes=2)
    for index, got in enumerate(evaluate_coco(items, results, ["car", "bus"])):
        for row, need in zip(got.precision, IOUS, strict=True):
            np.testing.assert_allclose(row, plain_precision(items, results, index, need))
        assert 0.05 < got.ap() < 0.95


def plain_precision(
    items: Sequence[LabelledImage], results: Sequence[ImageDetections], index: int, need: float
) -> list[float]:
    """Compute precision at 101 recall positions, one box at a time."""
    ranked: list[tuple[float, bool]] = []
    objects = 0
    for labelled, boxes in zip(items, results, strict=True):
        labels = labelled.labels[labelled.labels.classes == index]
        objects += int((~labels.neighbour).sum())
        regions = labelled.ignore_boxes[np.isin(labelled.ignore_classes, (index, EVERY_CLASS))]
        open_labels = set(range(len(labels)))
        mine = [j for j in range(len(boxes)) if boxes.classes[j] == index]
        for j in sorted(mine, key=lambda j: -boxes.scores[j]):
            one = boxes.boxes[j : j + 1]
            near = [
                (not labels.neighbour[i], iou(one, labels.boxes[i : i + 1])[0, 0], i)
                for i in open_labels
            ]
            near = [entry for entry in near if entry[1] >= need]
            real = [entry for entry in near if entry[0]]
            if real:
                open_labels.remove(max(real)[2])
                ranked.append((boxes.scores[j], True))
                continue
            covers = coverage(one, regions).max(initial=0)
            vans = [entry for entry in near if not entry[0]]
            if vans and max(vans)[1] > covers:
                open_labels.remove(max(vans)[2])
            elif covers < need:
                ranked.append((boxes.scores[j], False))
    ranked.sort(key=lambda entry: -entry[0])
    right = np.cumsum([hit for _, hit in ranked])
    precision = right / np.arange(1, len(ranked) + 1)
    reached = [np.flatnonzero(right / objects >= recall) for recall in RECALLS]
    return [float(precision[r[0] :].max()) if len(r) else 0.0 for r in reached]


def test_overlaps_of_boxes_without_area() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 5], [20, 0, 30, 10]], np.float32)
    assert iou(boxes, boxes).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert coverage(boxes[:2], boxes[:1]).tolist() == [[1], [0]]
    assert iou(boxes, boxes[:0]).shape == (3, 0)
    half = np.array([[5, 0, 15, 10]], np.float32)
    assert iou(boxes[:1], half).tolist() == [[pytest.approx(1 / 3)]]
    assert coverage(boxes[:1], half).tolist() == [[0.5]]
