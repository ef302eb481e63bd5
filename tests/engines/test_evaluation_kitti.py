from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImage
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.evaluation.kitti import (
    DIFFICULTIES,
    Kit,
    KittiCurve,
    class_iou,
    evaluate_kitti,
    recall_thresholds,
)
from squeezedrive.engines.evaluation.results import ImageDetections, read_results
from tests.support.labelled import box, found, item, random_pictures

NAMES = ("car", "pedestrian", "cyclist")
EASY, MODERATE, HARD = range(3)


def curve(
    labelled: LabelledImage | Sequence[LabelledImage],
    boxes: ImageDetections | Sequence[ImageDetections],
    difficulty: int = EASY,
    kit: Kit = "paper",
) -> KittiCurve:
    items = [labelled] if isinstance(labelled, LabelledImage) else labelled
    results = [boxes] if isinstance(boxes, ImageDetections) else boxes
    return evaluate_kitti(items, results, NAMES, kit=kit).curves[0][difficulty]


def precisions(*arguments: object, **options: object) -> list[float]:
    """Return precision at the existing thresholds, at most one for each object."""
    values = curve(*arguments, **options).precision  # type: ignore[arg-type]
    return values[: int(np.flatnonzero(values).max(initial=-1)) + 1].tolist()


def test_ap_is_one_if_all_objects_are_found() -> None:
    items = [item({"box": box(0)}, {"box": box(200)}) for _ in range(40)]
    results = [found((box(0), 0.9 - i / 100), (box(200), 0.1 + i / 300)) for i in range(40)]
    perfect = curve(items, results)
    assert perfect.objects == 80
    assert perfect.precision.tolist() == [1.0] * 41
    assert perfect.ap(11) == perfect.ap(40) == 1


def test_few_objects_reach_few_recall_positions() -> None:
    """One found object fills only one of 41 positions, which is a weakness of the kit."""
    one = curve(item({"box": box(0)}), found((box(0), 0.5)))
    assert one.precision.tolist() == [1.0] + [0.0] * 40
    assert one.ap(11) == pytest.approx(1 / 11)
    assert one.ap(40) == 0


def test_a_false_box_lowers_precision_from_its_score_on() -> None:
    labelled = item({"box": box(0)}, {"box": box(200)}, {"box": box(400)})
    boxes = found((box(0), 0.9), (box(600), 0.8), (box(200), 0.7), (box(400), 0.6))
    # precision is 1/1, 2/3, 3/4; each position gets the best value from there on
    assert precisions(labelled, boxes) == [1, 0.75, 0.75]


def test_overlap_must_exceed_the_limit() -> None:
    def hits(name: str, height: float) -> int:
        index = NAMES.index(name)
        labelled = item({"box": box(0), "class_index": index})
        result = evaluate_kitti([labelled], [found((box(0, 0, 100, height), 0.5, index))], NAMES)
        return int(result.curves[index][EASY].precision[0])

    assert [hits("cyclist", 50), hits("cyclist", 51)] == [0, 1]
    assert [hits("pedestrian", 50), hits("pedestrian", 51)] == [0, 1]
    assert [hits("car", 69), hits("car", 71)] == [0, 1]
    assert class_iou(("Car", "bus"), {"BUS": 0.6}) == (0.7, 0.6)


def test_a_box_on_a_neighbour_is_neither_right_nor_wrong() -> None:
    car = {"box": box(0)}
    boxes = found((box(200), 0.9), (box(0), 0.8))
    assert precisions(item(car, {"box": box(200), "neighbour": True}), boxes) == [1]
    assert precisions(item(car, {"box": box(200), "class_index": 1}), boxes) == [0.5]
    van_only = curve(item({"box": box(200), "neighbour": True}), found())
    assert van_only.objects == 0
    assert np.isnan(van_only.ap(11))


def test_labels_take_boxes_in_the_order_of_the_file() -> None:
    """A van that comes first in the file takes the box that the car needs."""
    car, van = {"box": box(0)}, {"box": box(5), "neighbour": True}
    assert precisions(item(car, van), found((box(2), 0.9))) == [1]
    assert precisions(item(van, car), found((box(2), 0.9))) == []


@pytest.mark.parametrize(
    ("region", "precision"),
    [
        (box(150, 0, 1000, 1000), 1),  # IoU is small, but the box is inside
        (box(200, 0, 71, 100), 1),
        (box(200, 0, 69, 100), 0.5),
        (box(200, 0, 70, 100), 0.5),
        (box(210, 10, 20, 20), 0.5),  # a region inside the box does not excuse the box
    ],
)
def test_dont_care_regions_excuse_boxes_by_the_covered_part(
    region: tuple[float, float, float, float], precision: float
) -> None:
    labelled = item({"box": box(0)}, ignore=[(region, EVERY_CLASS)])
    boxes = found((box(200), 0.9), (box(0), 0.8))
    assert precisions(labelled, boxes) == [precision]


def test_several_dont_care_regions_excuse_a_box_once() -> None:
    regions = [(box(200), EVERY_CLASS)] * 2
    labelled = item({"box": box(0)}, ignore=regions)
    boxes = found((box(200), 0.9), (box(500), 0.85), (box(0), 0.8))
    assert precisions(labelled, boxes) == [0.5]


def test_an_object_in_a_dont_care_region_counts() -> None:
    labelled = item({"box": box(0)}, ignore=[(box(0), EVERY_CLASS)])
    assert precisions(labelled, found((box(0), 0.8))) == [1]


@pytest.mark.parametrize(
    ("height", "kit", "counted"),
    [
        (40, "paper", [1, 1, 1]),
        (40, "current", [0, 1, 1]),
        (39.5, "paper", [0, 1, 1]),
        (25, "paper", [0, 1, 1]),
        (25, "current", [0, 0, 0]),
        (24.5, "paper", [0, 0, 0]),
    ],
)
def test_counts_labels_by_height(height: float, kit: Kit, counted: list[int]) -> None:
    labelled = item({"box": box(0, 0, 100, height)})
    assert [curve(labelled, found(), level, kit).objects for level in range(3)] == counted
    # a box on an object below the height limit is not an error
    labelled = item({"box": box(0, 0, 100, height)}, {"box": box(300)})
    boxes = found((box(0, 0, 100, height), 0.9), (box(300), 0.8))
    assert all(precisions(labelled, boxes, level, kit=kit)[0] == 1 for level in range(3))


@pytest.mark.parametrize(
    ("truncation", "occlusion", "counted"),
    [
        (0.15, 0, [1, 1, 1]),
        (0.16, 0, [0, 1, 1]),
        (0.30, 1, [0, 1, 1]),
        (0.31, 0, [0, 0, 1]),
        (0.50, 2, [0, 0, 1]),
        (0.51, 0, [0, 0, 0]),
        (0.0, 1, [0, 1, 1]),
        (0.0, 2, [0, 0, 1]),
        (0.0, 3, [0, 0, 0]),
    ],
)
def test_counts_labels_by_truncation_and_occlusion(
    truncation: float, occlusion: int, counted: list[int]
) -> None:
    labelled = item({"box": box(0), "truncation": truncation, "occlusion": occlusion})
    assert [curve(labelled, found(), level).objects for level in range(3)] == counted


def test_low_boxes_are_errors_in_the_paper_kit_and_ignored_in_the_current() -> None:
    labelled = item({"box": box(0)})
    boxes = found((box(300, 0, 100, 39), 0.9), (box(0), 0.8))
    assert precisions(labelled, boxes, EASY, kit="paper") == [0.5]
    assert precisions(labelled, boxes, EASY, kit="current") == [1]
    assert precisions(labelled, boxes, MODERATE, kit="current") == [0.5]


def test_a_low_box_on_an_object_is_not_a_hit_in_the_current_kit() -> None:
    labelled = item({"box": box(0, 0, 100, 42)})
    boxes = found((box(0, 0, 100, 39), 0.9))
    assert precisions(labelled, boxes, EASY, kit="paper") == [1]
    assert precisions(labelled, boxes, EASY, kit="current") == []
    # the low box has the better score, so there is no threshold, although another box hits
    boxes = found((box(0, 0, 100, 39), 0.9), (box(0, 0, 100, 41), 0.8))
    assert precisions(labelled, boxes, EASY, kit="current") == []
    # at a threshold, a box that is high enough comes before a low box with more overlap
    boxes = found((box(0, 0, 100, 39), 0.8), (box(0, 0, 100, 52), 0.9))
    assert precisions(labelled, boxes, EASY, kit="current") == [1]


def test_low_boxes_of_other_classes_take_part_in_the_current_kit() -> None:
    """The kit checks the height before the class."""
    labelled = item({"box": box(0, 0, 100, 42)})
    boxes = found((box(0, 0, 100, 39), 0.9, 1), (box(0, 0, 100, 42), 0.8))
    assert precisions(labelled, boxes, EASY, kit="paper") == [1]
    assert precisions(labelled, boxes, EASY, kit="current") == []


def test_a_second_box_on_an_object_is_an_error() -> None:
    labelled = item({"box": box(0)}, {"box": box(200)})
    boxes = found((box(0), 0.9), (box(1), 0.8), (box(200), 0.7))
    assert precisions(labelled, boxes) == [1, 2 / 3]


def test_larger_overlap_wins_at_a_threshold() -> None:
    """The first object takes the nearer box, and the better-scored box remains for the second."""
    labelled = item({"box": box(0)}, {"box": box(30)}, {"box": box(300)})
    boxes = found((box(15), 0.9), (box(0), 0.8), (box(300), 0.7))
    # Thresholds 0.9 (first object) and 0.7; at 0.7, box(0) is on the first, box(15) on the second.
    assert precisions(labelled, boxes) == [1, 1]


def test_boxes_with_the_score_of_the_threshold_count() -> None:
    labelled = item({"box": box(0)})
    boxes = found((box(300), 0.5), (box(0), 0.5), (box(600), 0.5 - 1e-9))
    assert precisions(labelled, boxes) == [0.5]


def test_ap_without_boxes_is_zero_and_without_objects_nan() -> None:
    missed = curve(item({"box": box(0)}), found())
    assert (missed.ap(11), missed.ap(40), missed.objects) == (0, 0, 1)
    nothing = evaluate_kitti([item()], [found((box(0), 0.5))], NAMES)
    assert np.isnan(nothing.ap(11)).all()
    assert np.isnan(nothing.mean_ap(11))


def test_mean_ap_leaves_out_classes_without_labels() -> None:
    labelled = item({"box": box(0)}, {"box": box(200, 0, 50, 30), "class_index": 1})
    result = evaluate_kitti([labelled], [found((box(0), 0.5))], NAMES)
    expected = [[1 / 11] * 3, [np.nan, 0, 0], [np.nan] * 3]
    np.testing.assert_allclose(result.ap(11), expected)
    assert result.mean_ap(11) == pytest.approx(3 / 11 / 5)
    assert result.ap(40)[0].tolist() == [0, 0, 0]


def test_thresholds_lie_where_recall_is_nearest() -> None:
    scores = np.arange(80, 0, -1.0)
    expected = [0, *range(1, 80, 2)]  # recall 1/80, then 2/80, 4/80 ... 80/80
    assert recall_thresholds(scores[::-1], 80).tolist() == scores[expected].tolist()
    # with fewer objects than positions, each object gives a threshold
    assert recall_thresholds(np.array([0.1, 0.3, 0.2]), 5).tolist() == [0.3, 0.2, 0.1]
    # the last score is always a threshold, even far from its recall position
    assert recall_thresholds(scores[:4], 400).tolist() == [80, 77]
    assert recall_thresholds(np.empty(0), 7).tolist() == []


@pytest.mark.parametrize("kit", ["paper", "current"])
def test_agrees_with_a_plain_implementation(kit: Kit) -> None:
    items, results = random_pictures(seed=3, pictures=150, classes=2)
    names = ("car", "pedestrian")
    fast = evaluate_kitti(items, results, names, kit=kit)
    for index in range(2):
        for level in range(3):
            slow = plain_precision(items, results, index, level, kit)
            quick = fast.curves[index][level].precision
            np.testing.assert_allclose(quick, slow, atol=1e-12)
            assert len(np.unique(quick)) > 3


def plain_precision(
    items: Sequence[LabelledImage],
    results: Sequence[ImageDetections],
    index: int,
    level: int,
    kit: Kit,
) -> list[float]:
    """Compute precision at 41 positions, one box and one threshold at a time."""
    limits = DIFFICULTIES[level]
    need = (0.7, 0.5)[index]

    def judge(picture: int, threshold: float | None) -> tuple[list[float], int, int]:
        labels, boxes = items[picture].labels, results[picture]
        low = [kit == "current" and b[3] - b[1] < limits.min_height for b in boxes.boxes]
        open_boxes = [
            j
            for j in range(len(boxes))
            if (low[j] or boxes.classes[j] == index)
            and (threshold is None or boxes.scores[j] >= threshold)
        ]
        hits, missed = [], 0
        for i in range(len(labels)):
            if labels.classes[i] != index:
                continue
            near = [j for j in open_boxes if plain_iou(boxes.boxes[j], labels.boxes[i]) > need]
            counted = (
                not labels.neighbour[i]
                and labels.occlusion[i] <= limits.max_occlusion
                and labels.truncation[i] <= limits.max_truncation
                and labels.height[i] >= limits.min_height + (1e-9 if kit == "current" else 0)
            )
            if not near:
                missed += counted
                continue
            if threshold is None:
                best = max(near, key=lambda j: (boxes.scores[j], -j))
            else:
                best = max(
                    near,
                    key=lambda j: (
                        not low[j],
                        0 if low[j] else plain_iou(boxes.boxes[j], labels.boxes[i]),
                        -j,
                    ),
                )
            open_boxes.remove(best)
            if counted and not low[best]:
                hits.append(boxes.scores[best])
        regions = [
            region
            for region, k in zip(
                items[picture].ignore_boxes, items[picture].ignore_classes, strict=True
            )
            if k in (index, EVERY_CLASS)
        ]
        wrong = [
            j
            for j in open_boxes
            if not low[j] and not any(plain_part(boxes.boxes[j], r) > need for r in regions)
        ]
        return hits, len(wrong), missed

    scores = [s for picture in range(len(items)) for s in judge(picture, None)[0]]
    objects = sum(
        int((limits.counts(i.labels, kit) & (i.labels.classes == index)).sum()) for i in items
    )
    values = []
    for threshold in recall_thresholds(np.array(scores), objects):
        judged = [judge(picture, threshold) for picture in range(len(items))]
        right, wrong = sum(len(j[0]) for j in judged), sum(j[1] for j in judged)
        values.append(right / max(right + wrong, 1))
    values += [0.0] * (41 - len(values))
    return [max(values[i:]) for i in range(41)]


def plain_part(a: np.ndarray, b: np.ndarray) -> float:
    """Return the part of box a that lies in box b."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(w * h / ((a[2] - a[0]) * (a[3] - a[1]))) if w > 0 and h > 0 else 0.0


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = plain_part(a, b) * (a[2] - a[0]) * (a[3] - a[1])
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / whole)


def test_agrees_with_the_official_kit(shared: Path) -> None:
    import json

    kitti = shared / "data" / "kitti"
    expected = json.loads((kitti / "official-eval" / "expected.json").read_text())
    dataset = load_dataset(kitti, "val", NAMES)
    results = read_results(kitti / "official-eval" / "detections", dataset)
    mine = evaluate_kitti(dataset.items, results, NAMES)
    assert mine.mean_ap(11) == pytest.approx(expected["mAP9"], abs=1e-6)
    for name, curves in zip(NAMES, mine.curves, strict=True):
        official = expected["classes"][name]
        for got, ap, values in zip(curves, official["AP11"], official["precision"], strict=True):
            assert got.ap(11) == pytest.approx(ap, abs=1e-6)
            np.testing.assert_allclose(got.precision[::4], values, atol=1e-6)
