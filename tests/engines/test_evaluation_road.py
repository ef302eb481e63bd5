"""Figures of road pictures, compared with numbers worked out by hand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, Dataset, LabelledImage
from squeezedrive.engines.datasets.load import load_dataset, set_names
from squeezedrive.engines.datasets.parts import split_parts
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.evaluation.overlap import coverage, iou
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.engines.evaluation.road import (
    BANDS,
    Ranking,
    dataset_fits,
    evaluate_road,
    least_heights,
    rank,
)
from squeezedrive.kernels.fit import letterbox, stretch
from tests.support.labelled import (
    box,
    found,
    item,
    kitti_line,
    random_pictures,
    write_kitti,
)

CLASSES = ("car", "pedestrian", "cyclist")
CAR, PEDESTRIAN, CYCLIST = range(3)


def ranked(
    *pictures: tuple[LabelledImage, ImageDetections], index: int = CAR, least: float = 12.5
) -> Ranking:
    items, boxes = zip(*pictures, strict=True)
    ones = [1.0] * len(items)
    return rank(items, boxes, CLASSES, [least] * len(items), ones)[index]


def test_figures_match_hand_computed_values() -> None:
    """The boxes by score are a hit, a false box and a hit; one of three objects is missed."""
    got = ranked(
        (item({"box": box(0)}), found((box(0), 0.9), (box(500), 0.8))),
        (item({"box": box(0)}), found()),
        (item({"box": box(0)}), found((box(5), 0.7))),
    )
    assert got.true.tolist() == [True, False, True]
    # Precision is 1 up to recall 1/3 (34 of 101 positions), 2/3 up to 2/3 (33), then 0.
    assert got.ap() == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert got.cut(0.9) == 0.9
    assert got.cut(0.6) == 0.7
    assert got.recall(got.cut(0.9)) == pytest.approx(1 / 3)
    assert [got.recall(score) for score in (0.95, 0.8, 0.7)] == pytest.approx([0, 1 / 3, 2 / 3])
    assert [got.precision(score) for score in (0.8, 0.7)] == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(got.precision(0.95))
    assert [got.false(score) for score in (0.9, 0.8)] == pytest.approx([0, 1 / 3])


def test_cut_finds_a_precision_that_is_reached_later() -> None:
    """The first of ten boxes is false, so precision reaches 0.9 only at the last box."""
    objects = [box(200 * number) for number in range(10)]
    boxes = [(box(9000), 0.99), *((corners, 0.9 - i / 100) for i, corners in enumerate(objects))]
    got = ranked((item(*({"box": corners} for corners in objects)), found(*boxes[:10])))
    assert got.cut() == pytest.approx(0.9 - 8 / 100)
    assert got.recall(got.cut()) == 0.9
    assert np.isinf(got.cut(0.95))
    assert got.recall(got.cut(0.95)) == 0


def test_figures_without_objects_or_boxes() -> None:
    nothing = ranked((item(), found()))
    assert np.isnan(nothing.ap())
    assert np.isnan(nothing.recall(0.4))
    assert nothing.false(0.4) == 0
    assert ranked((item({"box": box(0)}), found())).ap() == 0
    assert ranked((item(), found((box(0), 0.9)))).false(0.4) == 1


@pytest.mark.parametrize(
    ("labelled", "boxes", "true"),
    [
        # An object lower than the least height takes any number of boxes, even high ones.
        (item({"box": box(0, 0, 100, 12)}), [box(0, 0, 100, 12), box(0, 0, 100, 20)], []),
        (item({"box": box(0, 0, 100, 12)}), [box(0, 0, 100, 30)], [False]),
        (item({"box": box(0, 0, 100, 13)}), [box(0, 0, 100, 12)], [True]),
        # A box without an object is false, unless it is lower than the least height.
        (item(), [box(0, 0, 100, 12), box(0, 0, 100, 13)], [False]),
        # A neighbour takes any number of boxes, if it covers half of each.
        (item({"box": box(0), "neighbour": True}), [box(0), box(40), box(60)], [False]),
        (item({"box": box(0), "neighbour": True}), [box(0, 0, 20, 20)], []),
        (item(ignore=[(box(0), EVERY_CLASS)]), [box(40), box(60)], [False]),
        (item(ignore=[(box(0), PEDESTRIAN)]), [box(0)], [False]),
        # An object comes before an ignored region.
        (item({"box": box(20)}, ignore=[(box(0), CAR)]), [box(0)], [True]),
        # A second box on an object is false, and so is one on another class.
        (item({"box": box(0)}), [box(0), box(1)], [True, False]),
        (item({"box": box(0), "class_index": PEDESTRIAN}), [box(0)], [False]),
        (item({"box": box(0)}), [box(0, 0, 100, 50)], [True]),
        (item({"box": box(0)}), [box(0, 0, 100, 49)], [False]),
    ],
)
def test_boxes_are_right_wrong_or_ignored(
    labelled: LabelledImage, boxes: list[tuple[float, float, float, float]], true: list[bool]
) -> None:
    rows = [(corners, 0.9 - number / 10) for number, corners in enumerate(boxes)]
    assert ranked((labelled, found(*rows))).true.tolist() == true


def test_a_cyclist_counts_as_a_person_but_not_the_reverse() -> None:
    labelled = item(
        {"box": box(0), "class_index": CYCLIST}, {"box": box(300), "class_index": PEDESTRIAN}
    )
    boxes = found((box(0), 0.9, PEDESTRIAN), (box(300), 0.8, CYCLIST), (box(0), 0.7, CYCLIST))
    assert len(ranked((labelled, boxes), index=PEDESTRIAN).true) == 0
    assert len(ranked((labelled, boxes), index=PEDESTRIAN).objects) == 1
    assert ranked((labelled, boxes), index=CYCLIST).true.tolist() == [False, True]


def dataset(items: Sequence[LabelledImage], classes: tuple[str, ...] = CLASSES) -> Dataset:
    return Dataset(Path("none"), "val", "yolo", classes, tuple(items))


def test_measures_heights_in_the_networks_input() -> None:
    """The first picture is scaled to twice its height, the second keeps its height."""
    items = [
        item({"box": box(0, 0, 40, 10)}, {"box": box(100, 0, 40, 7)}, {"box": box(200, 0, 90, 90)}),
        item({"box": box(0, 0, 40, 25)}, {"box": box(100, 0, 40, 40)}),
    ]
    boxes = [
        found((box(0, 0, 40, 10), 0.9), (box(200, 0, 90, 80), 0.35), (box(400, 0, 60, 45), 0.6)),
        found((box(100, 0, 40, 40), 0.5), (box(400, 0, 10, 15), 0.95), (box(400, 0, 90, 16), 0.3)),
    ]
    fits = [stretch((640, 100), (640, 200)), letterbox((640, 200), (640, 200))]
    result = evaluate_road(dataset(items), boxes, fits, 12.5)
    bands = [result.by_height[CAR].band(*limits) for limits in BANDS]
    # Heights in the input: objects 20, 14 (too low), 180, 25, 40; false boxes 90, 15 and 16.
    assert [len(band.objects) for band in bands] == [1, 1, 1, 0, 1]
    assert [band.recall(0.4) for band in bands[:3]] == [1, 0, 1]
    assert np.isnan(bands[3].recall(0.4))
    assert [bands[4].recall(score) for score in (0.4, 0.35)] == [0, 1]  # by height of the object
    assert [band.false(0.4) for band in bands] == [0, 0, 0, 0.5, 0]
    assert [band.false(0.3) for band in bands] == [0.5, 0, 0, 0.5, 0]
    # AP uses heights in the picture: 10 and 7 px are too low there, the box of 15 px is not.
    assert sorted(result.rankings[CAR].objects) == [25, 40, 180]
    assert result.rankings[CAR].true.tolist() == [False, False, True, True, False]
    assert (result.pictures, result.min_height, result.parts) == (2, 12.5, ())


def test_least_height_grows_with_the_width_of_the_picture() -> None:
    assert least_heights([640, 1280, 320], 12.5) == [12.5, 25, 6.25]
    labelled = item({"box": box(0, 0, 100, 20)})
    for width, objects in ((640, 1), (1280, 0)):
        fits = [stretch((width, 300), (1248, 384))]
        assert (
            len(evaluate_road(dataset([labelled]), [found()], fits).rankings[0].objects) == objects
        )


def test_agrees_with_a_plain_implementation() -> None:
    items, results = random_pictures(seed=6, pictures=80, classes=2)
    names, least = ("pedestrian", "cyclist"), 45.0
    got = rank(items, results, names, [least] * 80, [1.0] * 80)
    for index in range(2):
        expected, objects = plain(items, results, index, least)
        assert len(got[index].objects) == objects > 20
        order = sorted(range(len(expected)), key=lambda i: -expected[i][0])
        assert got[index].scores.tolist() == [expected[i][0] for i in order]
        assert got[index].true.tolist() == [expected[i][1] for i in order]
        assert 0.1 < got[index].ap() < 0.95


def plain(
    items: Sequence[LabelledImage], results: Sequence[ImageDetections], index: int, least: float
) -> tuple[list[tuple[float, bool]], int]:
    """Return (score, right) of each judged box, and the number of objects."""
    rows, total = [], 0
    for labelled, boxes in zip(items, results, strict=True):
        labels = labelled.labels
        of_class = labels.classes == index
        good = of_class & ~labels.neighbour & (labels.height >= least)
        total += int(good.sum())
        rider = (labels.classes == 1) & (index == 0)
        regions = labelled.ignore_boxes[np.isin(labelled.ignore_classes, (index, EVERY_CLASS))]
        skip = np.concatenate([labels.boxes[(of_class & ~good) | rider], regions])
        left = list(np.flatnonzero(good))
        mine = [j for j in range(len(boxes)) if boxes.classes[j] == index]
        for j in sorted(mine, key=lambda j: -boxes.scores[j]):
            one = boxes.boxes[j : j + 1]
            near = [(iou(one, labels.boxes[i : i + 1])[0, 0], i) for i in left]
            if near and max(near)[0] >= 0.5:
                left.remove(max(near)[1])
                rows.append((float(boxes.scores[j]), True))
            elif one[0, 3] - one[0, 1] >= least and coverage(one, skip).max(initial=0) < 0.5:
                rows.append((float(boxes.scores[j]), False))
    return rows, total


def test_parts_of_a_split_have_separate_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    car = kitti_line("Car", (10, 5, 60, 50))
    root = write_kitti(tmp_path / "set", {"a": car, "b": car, "c": car})
    lists = {"val-night": "b.jpg\n\na\n", "val-odd": "a\nx\n", "val-none": "\n", "value-day": "a"}
    for name, text in lists.items():
        (root / "ImageSets" / f"{name}.txt").write_text(text)
    labelled = load_dataset(root, "val", ["car"])
    with caplog.at_level(logging.WARNING):
        assert split_parts(labelled) == {"val-night": [1, 0]}
    assert "val-odd.txt: not reported as a part of val: x is not in val.txt" in caplog.text
    boxes = [found(((10, 5, 60, 50), score)) for score in (0.9, 0.3, 0.8)]
    result = evaluate_road(labelled, boxes, dataset_fits(labelled, "stretch", (120, 60), 0.5), 0)
    (night,) = result.parts
    assert (night.name, night.pictures) == ("val-night", 2)
    assert [r.rankings[0].recall(0.4) for r in (result, night)] == pytest.approx([2 / 3, 1 / 2])


def test_other_layouts_have_no_parts(tmp_path: Path) -> None:
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "val-night.txt").write_text("picture\n")
    labelled = replace(dataset([item()]), root=tmp_path)
    assert split_parts(labelled) == {}
    assert split_parts(replace(labelled, layout="kitti")) == {"val-night": [0]}


def test_rejects_the_same_set_twice() -> None:
    sets = [dataset([item()]), dataset([item()])]
    with pytest.raises(DatasetError, match="got this one twice"):
        set_names(sets, ["none", "none/."])
    assert set_names(sets, ["none/a.yaml", "none/b.yaml"]) == ["a.yaml", "b.yaml"]
