"""The teacher's model, its tiles, and the labels made of its detections."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from squeezedrive.pipeline.dataset.labels import labels_of_teacher
from squeezedrive.pipeline.dataset.teacher import (
    PERSON,
    TILE,
    TWO_WHEELER,
    VEHICLE,
    Teacher,
    TeacherBoxes,
    _starts,
)
from tests.support.teacher import HEIGHT, WIDTH, Row, write_teacher


def picture(width: int, height: int, colour: tuple[int, int, int] = (255, 0, 0)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_boxes_are_in_pixels_of_the_picture(tmp_path: Path) -> None:
    rows = (
        (PERSON, 0.5, (10, 5, 20, 35)),
        (VEHICLE, 0.9, (40, 20, 85, 41)),
        (VEHICLE, 0.05, (1, 2, 3, 4)),
    )
    found = Teacher(write_teacher(tmp_path / "t.xml", *rows)).detect(picture(320, 80))
    # Boxes are sorted by score, without those of low score, and end at the edges of the picture.
    np.testing.assert_allclose(found.boxes, [(160, 40, 320, 80), (40, 10, 80, 70)])
    np.testing.assert_allclose(found.scores, [0.9, 0.5], rtol=1e-6)
    assert found.classes.tolist() == [VEHICLE, PERSON]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_network_sees_blue_green_red_from_0_to_255(tmp_path: Path, channel: int) -> None:
    row = (PERSON, 1.0, (10, 5, 20, 35))
    teacher = Teacher(write_teacher(tmp_path / "t.xml", row, channel=channel))
    found = teacher.detect(picture(160, 80, (51, 102, 204)))
    assert found.scores == pytest.approx([(51, 102, 204)[channel] / 255])


def test_an_empty_picture_gives_no_boxes(tmp_path: Path) -> None:
    found = Teacher(write_teacher(tmp_path / "t.xml", (PERSON, 1.0, (1, 2, 3, 4)))).detect(
        picture(2000, 1000, (0, 255, 255))
    )
    assert (found.boxes.shape, len(found.scores), len(found.classes)) == ((0, 4), 0, 0)
    assert labels_of_teacher(found) == []


def test_the_teacher_sees_the_picture_and_its_tiles(tmp_path: Path) -> None:
    path = write_teacher(tmp_path / "t.xml", (PERSON, 0.5, (32, 10, 48, 30)))
    image = picture(TILE[0] * 2, TILE[1])
    whole = Teacher(path, tiles=False).detect(image)
    np.testing.assert_allclose(whole.boxes, [(540, 93.75, 810, 281.25)])
    found = Teacher(path).detect(image)
    starts = _starts(TILE[0] * 2, TILE[0])
    assert len(starts) >= 3
    expected = {540, *(start + 270 for start in starts)}
    assert {round(float(x)) for x in found.boxes[:, 0]} == expected
    small = picture(*TILE)  # a single tile would repeat the picture
    assert len(Teacher(path).detect(small).boxes) == 1


def test_objects_cut_off_by_a_tile_come_from_its_neighbours(tmp_path: Path) -> None:
    rows = (VEHICLE, 0.5, (0, 10, 20, 30)), (VEHICLE, 0.6, (60, 10, 80, 30))
    width = TILE[0] * 2
    found = Teacher(write_teacher(tmp_path / "t.xml", *rows)).detect(picture(width, TILE[1]))
    edges = sorted((float(x1), float(x2)) for x1, _, x2, _ in found.boxes)
    # A box at the edge of a tile is kept only if the picture ends there as well.
    assert edges[0] == (0, pytest.approx(TILE[0] / 4))
    assert edges[-1] == (pytest.approx(width - TILE[0] / 4), width)
    assert len(edges) == 4


def test_boxes_on_one_object_are_merged_by_class(tmp_path: Path) -> None:
    rows = (
        (PERSON, 0.6, (10, 10, 20, 30)), (PERSON, 0.9, (11, 10, 21, 30)),
        (TWO_WHEELER, 0.5, (10, 10, 20, 30)), (PERSON, 0.4, (17, 10, 27, 30)),
    )  # fmt: skip
    found = Teacher(write_teacher(tmp_path / "t.xml", *rows)).detect(picture(WIDTH, HEIGHT))
    assert found.scores == pytest.approx([0.9, 0.5, 0.4])
    assert found.classes.tolist() == [PERSON, TWO_WHEELER, PERSON]


def test_models_with_other_inputs_or_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"t\.xml: no such file"):
        Teacher(tmp_path / "t.xml")
    row = (PERSON, 1.0, (1, 2, 3, 4))
    path = write_teacher(tmp_path / "t.xml", row, outputs=("boxes", "classes"))
    with pytest.raises(DatasetError, match="expected the outputs boxes and labels, got boxes, cla"):
        Teacher(path)
    flat = ops.parameter([1, 8], np.float32)
    ov.save_model(ov.Model([ops.result(ops.relu(flat))], [flat]), tmp_path / "flat.xml")
    with pytest.raises(DatasetError, match=r"expected one input of shape .* got \[1,8\]"):
        Teacher(tmp_path / "flat.xml")
    path.write_text("text")
    with pytest.raises(DatasetError, match=r"^[^\n]*t\.xml: OpenVINO cannot read it: [^\n]+$"):
        Teacher(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(DatasetError, match=r"t\.bin: no such file"):
        Teacher(path)


@pytest.mark.parametrize("length", [100, 375, 376, 640, 675, 1280, 1920])
def test_tiles_cover_the_picture(length: int) -> None:
    for side in TILE:
        starts = _starts(length, side)
        assert starts[0] == 0
        assert starts[-1] + side >= length
        assert all(b - a <= side * 0.71 for a, b in pairwise(starts))


def found(*rows: Row) -> TeacherBoxes:
    best = sorted(rows, key=lambda row: -row[1])
    return TeacherBoxes(
        np.array([row[2] for row in best], np.float32).reshape(-1, 4),
        np.array([row[1] for row in best], np.float32),
        np.array([row[0] for row in best], np.intp),
    )


def names(*rows: Row) -> list[str]:
    return [label.name for label in labels_of_teacher(found(*rows))]


def test_low_scores_become_regions_to_ignore() -> None:
    box = (10, 10, 60, 60)
    assert names((VEHICLE, 0.36, box)) == ["Car"]
    assert names((VEHICLE, 0.34, box)) == ["DontCare"]
    assert names((VEHICLE, 0.14, box)) == []
    assert names((PERSON, 0.41, box)) == ["Pedestrian"]
    assert names((PERSON, 0.39, box)) == ["DontCare"]
    assert names((TWO_WHEELER, 0.9, box)) == ["DontCare"]  # without a rider
    assert names((VEHICLE, 0.9, (10, 10, 60, 20))) == ["DontCare"]  # too low


def test_a_person_on_a_two_wheeler_is_a_cyclist() -> None:
    rider, wheels = (10, 10, 30, 60), (5, 40, 40, 75)
    (cyclist,) = labels_of_teacher(found((PERSON, 0.9, rider), (TWO_WHEELER, 0.6, wheels)))
    assert (cyclist.name, cyclist.box) == ("Cyclist", (5, 10, 40, 75))
    # The score of the two-wheeler decides whether the label is certain.
    assert names((PERSON, 0.2, rider), (TWO_WHEELER, 0.31, wheels)) == ["Cyclist"]
    (unsure,) = labels_of_teacher(found((PERSON, 0.9, rider), (TWO_WHEELER, 0.29, wheels)))
    assert (unsure.name, unsure.box) == ("DontCare", (5, 10, 40, 75))
    # An object with too low a score is ignored.
    assert names((PERSON, 0.9, rider), (TWO_WHEELER, 0.14, wheels)) == ["Pedestrian"]
    assert names((PERSON, 0.14, rider), (TWO_WHEELER, 0.6, wheels)) == ["DontCare"]
    # A person beside the two-wheeler, and a two-wheeler inside the person's box.
    assert names((PERSON, 0.9, (38, 10, 58, 60)), (TWO_WHEELER, 0.6, wheels)) == [
        "Pedestrian", "DontCare",
    ]  # fmt: skip
    assert names((PERSON, 0.5, (5, 10, 45, 80)), (TWO_WHEELER, 0.6, wheels)) == ["Cyclist"]


def test_each_rider_has_one_two_wheeler() -> None:
    first, second, wheels = (10, 10, 30, 60), (12, 10, 32, 60), (5, 40, 40, 75)
    labels = labels_of_teacher(
        found((PERSON, 0.8, first), (PERSON, 0.7, second), (TWO_WHEELER, 0.6, wheels))
    )
    assert [(label.name, label.box) for label in labels] == [
        ("Pedestrian", second), ("Cyclist", (5, 10, 40, 75)),
    ]  # fmt: skip
    both = found(
        (PERSON, 0.8, first), (TWO_WHEELER, 0.6, wheels), (TWO_WHEELER, 0.5, (6, 40, 41, 75))
    )
    assert [label.name for label in labels_of_teacher(both)] == ["Cyclist", "DontCare"]


def test_the_real_teacher_finds_objects_of_kitti(shared: Path) -> None:
    """Check the recall of visible cars and pedestrians over 40 px at IoU 0.5, on five pictures."""
    teacher = Teacher(shared / "weights" / "teacher-2003" / "pvb2003.xml")
    dataset = load_dataset(shared / "data" / "kitti", "val", ("car", "pedestrian", "cyclist"))
    hits, objects = np.zeros(2, int), np.zeros(2, int)
    for item in dataset.items[:60:12]:
        image = cv2.imread(str(item.image))
        labels = labels_of_teacher(teacher.detect(np.asarray(image, np.uint8)))
        for kind, name in enumerate(("Car", "Pedestrian")):
            mine = np.array([label.box for label in labels if label.name == name]).reshape(-1, 4)
            wanted = item.objects
            visible = (wanted.classes == kind) & (wanted.height > 40) & (wanted.occlusion == 0)
            for box in wanted.boxes[visible]:
                sides = np.minimum(box[2:], mine[:, 2:]) - np.maximum(box[:2], mine[:, :2])
                common = np.prod(np.maximum(sides, 0), axis=1)
                areas = np.prod(mine[:, 2:] - mine[:, :2], axis=1) + np.prod(box[2:] - box[:2])
                hits[kind] += bool((common / (areas - common) > 0.5).any())
                objects[kind] += 1
    assert objects[0] >= 5
    assert hits[0] >= 0.8 * objects[0], (hits, objects)
    assert hits[1] >= 0.4 * objects[1], (hits, objects)
