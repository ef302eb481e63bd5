"""Boxes outside their picture, and duplicate labels, in every layout."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from tests.support.labelled import Box, kitti_line, write_kitti, write_picture

WIDTH, HEIGHT = 120, 60
INSIDE = [(10.0, 10.0, 50.0, 40.0), (60.0, 5.0, 70.0, 15.0)]
PARTLY = [(-20.0, 10.0, 5.0, 30.0), (110.0, 50.0, 130.0, 80.0)]
OUTSIDE = [(200.0, 20.0, 230.0, 40.0), (10.0, 61.0, 30.0, 70.0), (-30.0, 10.0, -1.0, 20.0),
           (10.0, -30.0, 20.0, 0.0)]  # fmt: skip

Write = Callable[[Path, Sequence[tuple[str, Box]]], Path]


def kitti(root: Path, labels: Sequence[tuple[str, Box]]) -> Path:
    return write_kitti(root, {"a": "".join(kitti_line(name, box) for name, box in labels)})


def coco(root: Path, labels: Sequence[tuple[str, Box]]) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}],
        "annotations": [
            {"image_id": 1, "category_id": ["car", "van"].index(name) + 1,
             "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for name, (x1, y1, x2, y2) in labels
        ],
    }  # fmt: skip
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    write_picture(root / "images" / "a.jpg")
    return root


def voc(root: Path, labels: Sequence[tuple[str, Box]]) -> Path:
    def entry(name: str, box: Box) -> str:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"

    (root / "annotations").mkdir(parents=True)
    text = "".join(entry(*label) for label in labels)
    (root / "annotations" / "a.xml").write_text(f"<annotation>{text}</annotation>")
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "val.txt").write_text("a\n")
    write_picture(root / "images" / "a.jpg")
    return root


def yolo(root: Path, labels: Sequence[tuple[str, Box]]) -> Path:
    def line(name: str, box: Box) -> str:
        x1, y1, x2, y2 = np.array(box) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        place = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
        return f"{['car', 'van'].index(name)} {place}\n"

    write_picture(root / "images" / "a.jpg")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("".join(line(*label) for label in labels))
    (root / "data.yaml").write_text("val: images\nnames: [car, van]\n")
    return root


LAYOUTS = pytest.mark.parametrize("write", [kitti, coco, voc, yolo])


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split(": ", 1)[1] for record in caplog.records]


@LAYOUTS
def test_leaves_out_and_counts_boxes_outside_the_picture(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    labels = [("car", box) for box in [*OUTSIDE, *INSIDE]]
    with caplog.at_level(logging.WARNING, "squeezedrive"):
        (item,) = load_dataset(write(tmp_path, labels), "val", ["car"]).items
    np.testing.assert_allclose(item.labels.boxes, INSIDE, atol=0.01)
    assert messages(caplog) == [f"boxes outside the picture, left out: {len(OUTSIDE)}"]


@pytest.mark.parametrize("write", [kitti, coco, voc])
def test_keeps_boxes_that_reach_into_the_picture(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "squeezedrive"):
        root = write(tmp_path, [("car", box) for box in PARTLY])
        (item,) = load_dataset(root, "val", ["car"]).items
    np.testing.assert_array_equal(item.labels.boxes, PARTLY)
    assert messages(caplog) == []


@LAYOUTS
def test_counts_a_duplicate_label_once(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = INSIDE
    near = (first[0] + 0.25, *first[1:])  # written by another program with fewer digits
    moved = (first[0] + 2, *first[1:])  # perhaps another object
    labels = [("car", box) for box in (first, second, near, first, moved)]
    labels += [("van", first), ("van", first)]
    with caplog.at_level(logging.WARNING, "squeezedrive"):
        (item,) = load_dataset(write(tmp_path, labels), "val", ["car", "van"]).items
    np.testing.assert_allclose(item.labels.boxes, [first, second, moved, first], atol=0.01)
    assert item.labels.classes.tolist() == [0, 0, 0, 1]
    assert messages(caplog) == ["objects labelled twice, used once: 3"]


def test_a_neighbour_class_is_not_a_duplicate(tmp_path: Path) -> None:
    labels = [("Van", INSIDE[0]), ("Car", INSIDE[0]), ("Van", INSIDE[0])]
    (item,) = load_dataset(kitti(tmp_path, labels), "val", ["car"]).items
    assert item.labels.neighbour.tolist() == [True, False]


def test_keeps_labels_of_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    root = kitti(tmp_path, [("Car", box) for box in [*INSIDE, OUTSIDE[0], OUTSIDE[2]]])
    (root / "training" / "image_2" / "a.jpg").write_bytes(b"")
    (item,) = load_dataset(root, "val", ["car"]).items
    assert len(item.labels) == 3  # only the box left of the picture is certainly outside


@pytest.mark.parametrize("line", ["0 60 30 10 10", "0 0.5 nan 0.1 0.1", "0 5 5 5 5",
                                  "0 2 2 3 2 3 3"])  # fmt: skip
def test_rejects_yolo_values_that_are_not_fractions(tmp_path: Path, line: str) -> None:
    root = yolo(tmp_path, [])
    (root / "labels" / "a.txt").write_text(line + "\n")
    with pytest.raises(DatasetError, match="as fractions of the picture"):
        load_dataset(root, "val")


def test_evaluation_reports_the_labels_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = kitti(tmp_path / "set", [("Car", INSIDE[0]), ("Car", INSIDE[0]), ("Car", OUTSIDE[0])])
    (tmp_path / "a.txt").write_text("")
    assert main(["evaluate", "--data", str(root), "--detections", str(tmp_path)]) == 0
    assert messages(caplog) == [
        "boxes outside the picture, left out: 1", "objects labelled twice, used once: 1"
    ]  # fmt: skip
    out = capsys.readouterr().out
    coco = out[out.index("COCO AP") :]
    (line,) = [line for line in coco.splitlines() if line.startswith("car ")][:1]
    assert line.split()[-1] == "1"  # number of objects
