import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.datasets.dataset import EVERY_CLASS, DatasetError, ItemBuilder
from engines.datasets.images import image_size, read_image
from engines.datasets.load import load_dataset
from engines.errors import UserError
from tests.labelled import kitti_line, write_kitti, write_picture

NAMES = ("car", "pedestrian", "cyclist")


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    text = (
        kitti_line("Truck", (1, 1, 5, 5))
        + kitti_line("Car", (10, 5, 40.5, 30), truncation=0.25, occlusion=2)
        + "\n"
        + kitti_line("van", (50, 5, 90, 35))
        + "DontCare -1 -1 -10 100.00 0.00 110.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
        + kitti_line("Person_sitting", (70, 5, 80, 25), occlusion=3)
        + kitti_line("CYCLIST", (60, 5, 69, 25))
        + kitti_line("Car", (10, 5, 10, 30))  # no area
    )
    return write_kitti(tmp_path / "kitti", {"000007": text, "empty": ""})


def test_kitti_labels_in_file_order_with_neighbours_and_regions(kitti: Path) -> None:
    dataset = load_dataset(kitti, "val", NAMES)
    assert (dataset.layout, dataset.classes, len(dataset)) == ("kitti", NAMES, 2)
    first, second = dataset.items
    assert first.image == kitti / "training" / "image_2" / "000007.jpg"
    assert first.size is None
    labels = first.labels
    np.testing.assert_array_equal(
        labels.boxes, [[10, 5, 40.5, 30], [50, 5, 90, 35], [70, 5, 80, 25], [60, 5, 69, 25]]
    )
    assert labels.boxes.dtype == np.float32
    assert labels.classes.tolist() == [0, 0, 1, 2]
    assert labels.neighbour.tolist() == [False, True, True, False]
    assert labels.truncation.tolist() == [0.25, 0, 0, 0]
    assert labels.occlusion.tolist() == [2, 0, 3, 0]
    assert labels.height.tolist() == [25, 30, 20, 20]
    assert first.objects.classes.tolist() == [0, 2]
    np.testing.assert_array_equal(first.ignore_boxes, [[100, 0, 110, 9]])
    assert first.ignore_classes.tolist() == [EVERY_CLASS]
    assert len(second.labels) == 0
    assert second.labels.boxes.shape == second.ignore_boxes.shape == (0, 4)
    assert dataset.counts().tolist() == [1, 0, 1]


def test_kitti_heights_are_as_exact_as_the_file(tmp_path: Path) -> None:
    text = kitti_line("Car", (0, 240.01, 50, 265.01))
    (item,) = load_dataset(write_kitti(tmp_path / "k", {"a": text}), "val").items
    assert item.labels.height[0] == 25
    assert item.labels.boxes[0, 3] - item.labels.boxes[0, 1] != 25


def test_kitti_classes_are_those_labelled_unless_they_are_named(kitti: Path) -> None:
    assert load_dataset(kitti, "val").classes == ("car", "cyclist", "person_sitting", "truck")
    own = load_dataset(kitti, "val", ["Van", "person sitting"])
    assert own.classes == ("Van", "person sitting")
    assert own.items[0].labels.classes.tolist() == [0, 1]
    assert not own.items[0].labels.neighbour.any()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "ImageSets" / "val.txt").write_text(""), "is empty"),
        (lambda root: (root / "training" / "image_2" / "empty.jpg").unlink(), "no picture empty"),
        (lambda root: (root / "training" / "label_2" / "empty.txt").unlink(), "no such label file"),
        (
            lambda root: (root / "training" / "label_2" / "empty.txt").write_text("Car 0 0 1 2 3"),
            "expected a class name and 14 numbers a line, got 'Car 0 0 1 2 3'",
        ),
        (
            lambda root: (root / "training" / "label_2" / "empty.txt").write_text("Car x" * 15),
            "could not convert",
        ),
        (
            lambda root: (root / "training" / "label_2" / "empty.txt").write_bytes(b"\xff"),
            "is not UTF-8 text",
        ),
    ],
)
def test_kitti_errors(kitti: Path, damage: object, message: str) -> None:
    damage(kitti)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(kitti, "val", NAMES)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_a_wrong_split_names_those_there_are(kitti: Path) -> None:
    with pytest.raises(DatasetError, match=r"vall\.txt: no such split; there are val$"):
        load_dataset(kitti, "vall", NAMES)


def test_classes_that_are_not_labelled_are_an_error_only_if_all_are_missing(kitti: Path) -> None:
    assert load_dataset(kitti, "val", ["car", "bus"]).counts().tolist() == [1, 0]
    with pytest.raises(DatasetError, match=r"none of the classes asked for \(bus\).* car, cyclist"):
        load_dataset(kitti, "val", ["bus"])
    with pytest.raises(DatasetError, match="must differ"):
        load_dataset(kitti, "val", ["car", "Car"])
    with pytest.raises(DatasetError, match="at least one"):
        load_dataset(kitti, "val", [])


def coco_content() -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 120, "height": 60},
            {"id": 3, "file_name": "b.jpg", "width": 120, "height": 60},
        ],
        "categories": [{"id": 90, "name": "person"}, {"id": 1, "name": "Fire truck"}],
        "annotations": [
            {"image_id": 3, "category_id": 90, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3.5, 4]},
            {"image_id": 3, "category_id": 90, "bbox": [50, 0, 20, 10], "iscrowd": 1},
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, 0, 4]},
        ],
    }


def write_coco(root: Path, content: object, name: str = "instances_val.json") -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / name).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("name", ["instances_val.json", "val.json"])
@pytest.mark.parametrize("folder", ["images/val", "images", "val"])
def test_coco_boxes_sizes_and_crowds(tmp_path: Path, name: str, folder: str) -> None:
    root = write_coco(tmp_path, coco_content(), name)
    write_picture(root / folder / "a.jpg")
    dataset = load_dataset(root, "val")
    assert (dataset.layout, dataset.classes) == ("coco", ("person", "Fire truck"))
    first, second = dataset.items
    assert first.image == root / folder / "a.jpg"
    assert first.size == (120, 60)
    assert len(first.labels) == 0  # its box has no area
    np.testing.assert_array_equal(second.labels.boxes, [[10, 20, 40, 60], [1, 2, 4.5, 6]])
    assert second.labels.classes.tolist() == [0, 1]
    assert second.labels.height.tolist() == [40, 4]
    np.testing.assert_array_equal(second.ignore_boxes, [[50, 0, 70, 10]])
    assert second.ignore_classes.tolist() == [0]
    only = load_dataset(root, "val", ["fire_truck"])
    assert only.items[1].labels.classes.tolist() == [0]
    assert len(only.items[1].ignore_boxes) == 0


def test_coco_errors(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "one", coco_content())
    with pytest.raises(DatasetError, match=r"neither instances_train\.json nor train\.json"):
        load_dataset(root, "train")
    with pytest.raises(DatasetError, match=r"picture a\.jpg is in none of"):
        load_dataset(root, "val")
    with pytest.raises(DatasetError, match=r"expected COCO annotations.*'images'"):
        load_dataset(write_coco(tmp_path / "two", {"categories": [{"id": 1, "name": "a"}]}), "val")
    with pytest.raises(DatasetError, match="expected COCO annotations"):
        load_dataset(write_coco(tmp_path / "three", [1]), "val")
    content = coco_content()
    content["annotations"][0]["image_id"] = 99
    root = write_coco(tmp_path / "four", content)
    write_picture(root / "images" / "a.jpg")
    with pytest.raises(DatasetError, match="image 99, which is not listed"):
        load_dataset(root, "val")
    (root / "annotations" / "instances_val.json").write_text("{")
    with pytest.raises(DatasetError, match="is not JSON"):
        load_dataset(root, "val")


def write_yolo(root: Path, description: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "data.yaml").write_text(description)
    write_picture(root / "images" / "val" / "a.png", (200, 100))
    write_picture(root / "images" / "val" / "b.jpg", (120, 60))
    (root / "labels" / "val").mkdir(parents=True)
    (root / "labels" / "val" / "a.txt").write_text("1 0.5 0.5 0.5 0.2\n\n0 0.05 0.1 0.2 0.2\n")
    return root


@pytest.mark.parametrize(
    "description",
    [
        "names: [lorry, car]\nval: images/val\n",
        "names: {0: lorry, 1: car}\nval: [images/val/]\n",
        "path: .\nnames: [lorry, car]\nval: ../images/val\n",
        "names: [lorry, car]\nval: val.txt\n",
    ],
)
def test_yolo_boxes_become_pixels(tmp_path: Path, description: str) -> None:
    root = write_yolo(tmp_path / "yolo", description)
    (root / "val.txt").write_text("images/val/a.png\nimages/val/b.jpg\n")
    dataset = load_dataset(root, "val")
    assert (dataset.layout, dataset.classes, len(dataset)) == ("yolo", ("lorry", "car"), 2)
    first, second = dataset.items
    assert (first.size, second.size) == ((200, 100), (120, 60))
    np.testing.assert_allclose(first.labels.boxes, [[50, 40, 150, 60], [0, 0, 30, 20]], rtol=1e-6)
    assert first.labels.classes.tolist() == [1, 0]
    assert len(second.labels) == 0  # no label file: no objects
    only = load_dataset(root / "data.yaml", "val", ["Car"])
    assert only.items[0].labels.classes.tolist() == [0]


def test_yolo_labels_may_lie_beside_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text("names: [car]\ntrain: here\n")
    write_picture(tmp_path / "here" / "a.png", (100, 50))
    (tmp_path / "here" / "a.txt").write_text("0 0.5 0.5 1 1")
    (item,) = load_dataset(tmp_path, "train").items
    np.testing.assert_array_equal(item.labels.boxes, [[0, 0, 100, 50]])


@pytest.mark.parametrize(
    ("description", "label", "message"),
    [
        ("names: [car]\n", "", "no split 'val'"),
        ("names: [car]\nval: nowhere\n", "", "expected a folder of pictures or a list"),
        ("names: [car]\nval: labels\n", "", "no pictures"),
        ("val: images\n", "", "expected the class names under names"),
        ("names: [car\n", "", "is not YAML"),
        ("names: [car]\nval: images\n", "3 0.5 0.5 0.1 0.1", "class 3, but there are 1 names"),
        ("names: [car]\nval: images\n", "0 60 30 10 10", "as fractions of the picture, got"),
        ("names: [car]\nval: images\n", "0 0.5 0.5 0.1", "expected class, centre"),
        ("names: [car]\nval: images\n", "car 0.5 0.5 0.1 0.1", "invalid literal"),
    ],
)
def test_yolo_errors(tmp_path: Path, description: str, label: str, message: str) -> None:
    root = write_yolo(tmp_path, description)
    (root / "labels" / "val" / "a.txt").write_text(label)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(root, "val")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such data set"):
        load_dataset(tmp_path / "none", "val")
    with pytest.raises(DatasetError, match=r"training/.*annotations/.*data\.yaml"):
        load_dataset(tmp_path, "val")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("names: [car]")
    with pytest.raises(DatasetError, match=r"name one of a\.yaml, b\.yaml"):
        load_dataset(tmp_path, "val")


def with_exif(jpeg: bytes, orientation: int, order: str) -> bytes:
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    other = struct.pack(order + "HHII", 0x0100, 4, 1, 77)
    tiff = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, 2)
    body = b"Exif\0\0" + tiff + other + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_picture(
    tmp_path: Path, orientation: int, order: str
) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, (48, 32))
    path.write_bytes(with_exif(path.read_bytes(), orientation, order))
    height, width = cv2.imread(str(path)).shape[:2]
    assert image_size(path) == (width, height)
    assert (width, height) == ((48, 32) if orientation < 5 else (32, 48))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_the_size_of_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(path, (30, 20))
    assert image_size(path) == (30, 20)
    assert read_image(path, (30, 20)).shape == (20, 30, 3)


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(DatasetError, match="no such picture"):
        read_image(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        image_size(path)
    write_picture(path, (30, 20))
    with pytest.raises(DatasetError, match="the picture is 30x20, but its labels are for 20x30"):
        read_image(path, (20, 30))
    path.write_bytes(path.read_bytes()[:30])
    for use in (read_image, image_size):
        with pytest.raises(DatasetError, match="cannot be decoded"):
            use(path)


def test_labels_can_be_selected() -> None:
    builder = ItemBuilder(Path("a.png"))
    for x in range(3):
        builder.add((x, 0, x + 1, 2), x, truncation=x / 10, occlusion=x, neighbour=x == 1)
    labels = builder.build().labels[np.array([2, 1])]
    assert labels.boxes[:, 0].tolist() == [2, 1]
    assert labels.classes.tolist() == labels.occlusion.tolist() == [2, 1]
    assert labels.truncation.tolist() == [0.2, 0.1]
    assert labels.neighbour.tolist() == [False, True]
    assert len(labels[:1]) == 1


def test_the_kitti_val_split(shared: Path) -> None:
    dataset = load_dataset(shared / "data" / "kitti", "val", NAMES)
    assert len(dataset) == 178
    assert dataset.counts().tolist() == [641, 230, 267]
