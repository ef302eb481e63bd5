import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImage
from squeezedrive.engines.evaluation.kitti import DIFFICULTIES
from squeezedrive.engines.evaluation.mistakes import (
    BOX_KINDS,
    OBJECT_KINDS,
    Mistakes,
    find_mistakes,
)
from squeezedrive.engines.evaluation.results import OTHER_CLASS, ImageDetections
from tests.support.labelled import box, found, item, random_pictures

CAR, PEDESTRIAN, CYCLIST = range(3)
IOUS = (0.7, 0.5, 0.5)
ALL_LABELLED = item(*({"box": box(9000 + 200 * k), "class_index": k} for k in range(3)))


def judge(
    labelled: LabelledImage, boxes: ImageDetections, score: float = 0.4, limits: int | None = None
) -> Mistakes:
    """Judge one picture; a second one, with all objects found, adds a label of every class."""
    rows = [(tuple(b), 0.9, k) for k, b in enumerate(ALL_LABELLED.labels.boxes)]
    level = None if limits is None else DIFFICULTIES[limits]
    got = find_mistakes([ALL_LABELLED, labelled], [found(*rows), boxes], IOUS, score, level)
    got.boxes[:, 0] -= 1
    got.objects[:, 0] -= 1
    got.confusion[range(3), range(3)] -= 1
    return got


def kinds(got: Mistakes, class_index: int = CAR) -> dict[str, int]:
    return {k: n for k, n in zip(BOX_KINDS, got.boxes[class_index].tolist(), strict=True) if n}


def states(got: Mistakes, class_index: int = CAR) -> dict[str, int]:
    return {k: n for k, n in zip(OBJECT_KINDS, got.objects[class_index].tolist(), strict=True) if n}


@pytest.mark.parametrize(
    ("labels", "corners", "kind", "state"),
    [
        ([box(0)], box(10), "correct", {"found": 1}),
        ([box(0)], box(40), "localisation", {"badly_localised": 1}),
        ([box(0)], box(0, 0, 100, 70), "localisation", {"badly_localised": 1}),
        ([box(0)], box(0, 0, 100, 10), "localisation", {"badly_localised": 1}),
        ([box(0)], box(0, 0, 100, 9), "background", {"missed": 1}),
        ([box(0)], box(500), "background", {"missed": 1}),
        ([], box(500), "background", {}),
    ],
)
def test_kind_of_a_single_box(
    labels: list[tuple[float, float, float, float]],
    corners: tuple[float, float, float, float],
    kind: str,
    state: dict[str, int],
) -> None:
    got = judge(item(*({"box": label} for label in labels)), found((corners, 0.9)))
    assert kinds(got) == {kind: 1}
    assert states(got) == state
    assert got.confusion[CAR].tolist() == [state.get("found", 0), 0, 0, len(labels) - state.get("found", 0)]  # fmt: skip  # noqa: E501
    assert got.confusion[-1].tolist() == [int(kind == "background"), 0, 0, 0]


def test_better_score_is_correct_and_the_other_a_duplicate() -> None:
    got = judge(item({"box": box(0)}), found((box(0), 0.8), (box(10), 0.9)))
    assert kinds(got) == {"correct": 1, "duplicate": 1}
    assert states(got) == {"found": 1}


def test_counts_a_pedestrian_taken_for_a_cyclist_as_confusion() -> None:
    labelled = item({"box": box(0), "class_index": PEDESTRIAN})
    got = judge(labelled, found((box(0), 0.9, CYCLIST)))
    assert kinds(got, CYCLIST) == {"confusion": 1}
    assert states(got, PEDESTRIAN) == {"confused": 1}
    assert got.confusion[PEDESTRIAN].tolist() == [0, 0, 1, 0]
    # the cyclist box is still wrong if another box finds the pedestrian
    both = judge(labelled, found((box(0), 0.9, CYCLIST), (box(0), 0.5, PEDESTRIAN)))
    assert kinds(both, CYCLIST) == {"confusion": 1}
    assert states(both, PEDESTRIAN) == {"found": 1}
    assert both.confusion[PEDESTRIAN].tolist() == [0, 1, 0, 0]


def test_confusion_requires_the_overlap_of_the_true_class() -> None:
    labelled = item({"box": box(0), "class_index": CAR})
    boxes = found((box(0, 0, 100, 60), 0.9, CYCLIST))
    assert kinds(judge(labelled, boxes), CYCLIST) == {"background": 1}


def test_confusion_takes_precedence_over_bad_localisation() -> None:
    labelled = item({"box": box(0), "class_index": PEDESTRIAN})
    boxes = found((box(60), 0.9, PEDESTRIAN), (box(0), 0.7, CAR), (box(0), 0.8, CYCLIST))
    got = judge(labelled, boxes)
    assert states(got, PEDESTRIAN) == {"confused": 1}
    assert got.confusion[PEDESTRIAN].tolist() == [0, 0, 1, 0]  # the class with the better score


@pytest.mark.parametrize(
    "labelled",
    [
        item({"box": box(0), "neighbour": True}),
        item({"box": box(0), "occlusion": 3}),
        item(ignore=[(box(0, 0, 300, 300), EVERY_CLASS)]),
        item(ignore=[(box(0, 0, 300, 300), CAR)]),
    ],
)
def test_does_not_judge_boxes_on_ignored_objects(labelled: LabelledImage) -> None:
    got = judge(labelled, found((box(10), 0.9)), limits=2)
    assert kinds(got) == states(got) == {}
    assert not got.confusion.any()


def test_regions_of_another_class_excuse_no_box() -> None:
    labelled = item(ignore=[(box(0, 0, 300, 300), PEDESTRIAN)])
    assert kinds(judge(labelled, found((box(10), 0.9)))) == {"background": 1}


def test_only_boxes_from_the_score_on_count() -> None:
    labelled = item({"box": box(0)})
    assert kinds(judge(labelled, found((box(0), 0.4)))) == {"correct": 1}
    assert kinds(judge(labelled, found((box(0), 0.39)))) == {}
    assert states(judge(labelled, found((box(0), 0.39)))) == {"missed": 1}


def test_without_limits_every_object_counts() -> None:
    labelled = item({"box": box(0), "occlusion": 3})
    assert states(judge(labelled, found())) == {"missed": 1}
    assert states(judge(labelled, found(), limits=2)) == {}


def test_leaves_out_classes_without_labels() -> None:
    labelled = item({"box": box(0), "class_index": CAR})
    boxes = found((box(0), 0.9, PEDESTRIAN), (box(500), 0.9, CYCLIST), (box(0), 0.9, OTHER_CLASS))
    got = find_mistakes([labelled], [boxes], IOUS, 0.4)
    assert not got.boxes.any()
    assert got.objects.sum() == 1


def test_every_object_and_every_box_is_counted_once() -> None:
    items, results = random_pictures(seed=8, pictures=120, classes=3)
    got = find_mistakes(items, results, IOUS, 0.3)
    objects = np.zeros(3, np.int64)
    for labelled in items:
        objects += np.bincount(labelled.objects.classes, minlength=3)
    np.testing.assert_array_equal(got.objects.sum(axis=1), objects)
    np.testing.assert_array_equal(got.confusion[:-1].sum(axis=1), objects)
    np.testing.assert_array_equal(got.confusion.diagonal()[:-1], got.objects[:, 0])
    np.testing.assert_array_equal(got.boxes[:, 0], got.objects[:, 0])
    np.testing.assert_array_equal(got.confusion[-1, :-1], got.boxes[:, -1])
    assert (got.boxes > 0).all()
    assert got.objects.sum(axis=0).all()
