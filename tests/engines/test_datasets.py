import json
import logging
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, LabelledImageBuilder
from squeezedrive.engines.datasets.load import load_dataset, load_datasets, load_pictures
from squeezedrive.engines.errors import DatasetError, UserError
from tests.support.labelled import kitti_line, write_kitti, write_picture

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
    root = write_kitti(tmp_path / "k", {"a": text})
    write_picture(root / "training" / "image_2" / "a.jpg", (120, 300))
    (item,) = load_dataset(root, "val").items
    assert item.labels.height[0] == 25
    assert item.labels.boxes[0, 3] - item.labels.boxes[0, 1] != 25


def test_kitti_classes_are_the_labelled_ones_unless_classes_are_given(kitti: Path) -> None:
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
def test_rejects_damaged_kitti_sets(kitti: Path, damage: object, message: str) -> None:
    damage(kitti)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(kitti, "val", NAMES)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_kitti_lists_may_have_suffixes_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, {"my picture": kitti_line("Car", (1, 2, 30, 40)), "v1.2": ""})
    label = root / "training" / "label_2" / "my picture.txt"
    label.write_text(label.read_text(), encoding="utf-8-sig")
    (root / "ImageSets" / "val.txt").write_text("my picture.JPG \r\n\nv1.2\n", "utf-8-sig")
    dataset = load_dataset(root, "val", NAMES)
    assert [item.image.stem for item in dataset.items] == ["my picture", "v1.2"]
    assert dataset.counts().tolist() == [1, 0, 0]


def test_counts_labels_that_are_not_used(kitti: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    dataset = load_dataset(kitti, "val", ["car"])
    assert dataset.left_out() == {"truck": 1, "person_sitting": 1, "cyclist": 1}
    assert caplog.messages == [
        f"{kitti}, val: boxes without area, left out: 1",
        f"{kitti}, val: objects not asked for are background: truck 1, person_sitting 1, cyclist 1",
    ]
    names = {"truck": "car", "cyclist": "dontcare", "person_sitting": "dontcare"}
    assert load_dataset(kitti, "val", ["car"], names).left_out() == {}


def test_rejects_a_misspelt_name_but_not_a_rare_one(kitti: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"kitti: names: trk: no object has this name; there are car, .*, truck"
    ):
        load_dataset(kitti, "val", NAMES, {"trk": "car"})
    # Tram is labelled only in another split.
    label = kitti / "training" / "label_2" / "other.txt"
    label.write_text(kitti_line("Tram", (1, 2, 3, 4)))
    assert load_dataset(kitti, "val", NAMES, {"Tram": "car"}).counts().tolist() == [1, 0, 1]


def test_a_name_must_occur_in_one_of_several_sets(kitti: Path, tmp_path: Path) -> None:
    text = kitti_line("Human", (1, 2, 9, 30)) + kitti_line("Car", (1, 2, 9, 30))
    other = write_kitti(tmp_path / "other", {"a": text})
    names = {"human": "pedestrian"}
    first, second = load_datasets([kitti, other], "val", NAMES, names)
    assert (first.counts().sum(), second.counts().tolist()) == (2, [1, 1, 0])
    with pytest.raises(DatasetError, match="humen: no object has this name"):
        load_datasets([kitti, other], "val", NAMES, {"humen": "pedestrian"})


def test_error_about_a_wrong_split_lists_the_existing_ones(kitti: Path) -> None:
    with pytest.raises(DatasetError, match=r"vall\.txt: no such split; there are val$"):
        load_dataset(kitti, "vall", NAMES)


def test_rejects_unlabelled_classes_only_if_all_are_missing(kitti: Path) -> None:
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
    for picture in ("a.jpg", "b.jpg"):
        write_picture(root / folder / picture)
    dataset = load_dataset(root, "val")
    assert (dataset.layout, dataset.classes) == ("coco", ("person", "Fire truck"))
    first, second = dataset.items
    assert first.image == root / folder / "a.jpg"
    assert first.size == (120, 60)
    assert len(first.labels) == 0  # the only box has no area
    np.testing.assert_array_equal(second.labels.boxes, [[10, 20, 40, 60], [1, 2, 4.5, 6]])
    assert second.labels.classes.tolist() == [0, 1]
    assert second.labels.height.tolist() == [40, 4]
    np.testing.assert_array_equal(second.ignore_boxes, [[50, 0, 70, 10]])
    assert second.ignore_classes.tolist() == [0]
    only = load_dataset(root, "val", ["fire_truck"])
    assert only.left_out() == {"person": 2}
    assert only.items[1].labels.classes.tolist() == [0]
    assert len(only.items[1].ignore_boxes) == 0


def test_rejects_damaged_coco_sets(tmp_path: Path) -> None:
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
    with pytest.raises(DatasetError, match=r"1 of 2 pictures are missing, the first is .*b\.jpg"):
        load_dataset(root, "val")
    write_picture(root / "images" / "b.jpg")
    with pytest.raises(DatasetError, match="image 99, which is not listed"):
        load_dataset(root, "val")
    (root / "annotations" / "instances_val.json").write_text("{")
    with pytest.raises(DatasetError, match="is not JSON"):
        load_dataset(root, "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, "wide", 4]}, r"expected a bbox of .*, got \[1, 2, 'wide', 4\]"),
        ({"bbox": [1, 2, float("inf"), 4]}, r"expected a bbox of .*, got \[1, 2, inf, 4\]"),
        ({"bbox": [1, 2, 10**400, 4]}, "expected a bbox of"),
        ({"bbox": None}, "expected a bbox of .*, got None"),
        ({"category_id": "90"}, "category '90', which is not listed"),
        ({"category_id": 5}, "category 5, which is not listed"),
    ],
)
def test_rejects_unusable_coco_annotations(tmp_path: Path, change: dict, message: str) -> None:
    content = coco_content()
    content["annotations"][0] |= change
    root = write_coco(tmp_path, content)
    for picture in ("a.jpg", "b.jpg"):
        write_picture(root / "images" / picture)
    with pytest.raises(DatasetError, match=message):
        load_dataset(root, "val")


def test_rejects_a_folder_that_is_not_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such data set"):
        load_dataset(tmp_path / "none", "val")
    with pytest.raises(DatasetError, match=r"training/.*annotations/.*data\.yaml"):
        load_dataset(tmp_path, "val")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("names: [car]")
    with pytest.raises(DatasetError, match=r"give one of a\.yaml, b\.yaml"):
        load_dataset(tmp_path, "val")


@pytest.mark.parametrize("layout", ["kitti", "coco", "yolo", "voc", "folder"])
def test_loads_pictures_without_labels(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / {"kitti": "training/image_2"}.get(layout, "images")
    for name in ("a.jpg", "b.jpg"):
        write_picture(folder / name)
    lists = tmp_path / "ImageSets"
    lists.mkdir()
    (lists / "val.txt").write_text("b\n")
    (tmp_path / "annotations").mkdir()
    if layout == "coco":
        (tmp_path / "annotations" / "val.json").write_text(
            '{"images": [{"id": 1, "file_name": "b.jpg"}]}'
        )
    elif layout == "yolo":
        (tmp_path / "val.txt").write_text("images/b.jpg\n")
        (tmp_path / "data.yaml").write_text("val: val.txt\n")
    elif layout == "voc":
        (tmp_path / "annotations" / "a.xml").write_text("")
    if layout == "folder":
        assert load_pictures(tmp_path, "train") == [folder / "a.jpg", folder / "b.jpg"]
        with pytest.raises(DatasetError, match="no split 'val'"):
            load_pictures(tmp_path, "val")
        with pytest.raises(DatasetError, match="no pictures and no data set"):
            load_pictures(lists, "train")
    else:
        assert load_pictures(tmp_path, "val") == [folder / "b.jpg"]


def test_labels_can_be_indexed() -> None:
    builder = LabelledImageBuilder(Path("a.png"))
    for x in range(3):
        builder.add((x, 0, x + 1, 2), x, truncation=x / 10, occlusion=x, neighbour=x == 1)
    labels = builder.build().labels[np.array([2, 1])]
    assert labels.boxes[:, 0].tolist() == [2, 1]
    assert labels.classes.tolist() == labels.occlusion.tolist() == [2, 1]
    assert labels.truncation.tolist() == [0.2, 0.1]
    assert labels.neighbour.tolist() == [False, True]
    assert len(labels[:1]) == 1


def test_kitti_val_split_has_the_known_objects(shared: Path) -> None:
    dataset = load_dataset(shared / "data" / "kitti", "val", NAMES)
    assert len(dataset) == 178
    assert dataset.counts().tolist() == [641, 230, 267]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("corner", ["1e300", "-1e12"])
def test_a_box_beyond_any_picture_is_refused(tmp_path: Path, corner: str) -> None:
    for name in ("Car", "DontCare"):
        line = kitti_line(name, (1, 1, 50, 50)).replace("50.00", corner, 1)
        root = write_kitti(tmp_path / name, {"a": kitti_line("Car", (1, 1, 5, 5)) + line})
        with pytest.raises(DatasetError, match=r"a\.txt: expected a box in pixels of its picture"):
            load_dataset(root, "val", NAMES)


@pytest.mark.parametrize("width", ["640", None, [640], True, 0, -1, 0.5, 10**400])
def test_a_coco_picture_without_a_width_in_pixels_is_refused(tmp_path: Path, width: object) -> None:
    content = coco_content()
    content["images"][0]["width"] = width
    root = write_coco(tmp_path, content)
    for picture in ("a.jpg", "b.jpg"):
        write_picture(root / "val" / picture)
    with pytest.raises(DatasetError, match=r"images\[0\]: expected width and height in pixels"):
        load_dataset(root, "val")


@pytest.mark.parametrize(("written", "read"), [("7", 3), ("-5", -1), ("9" * 30, 3), ("1", 1)])
def test_an_occlusion_out_of_range(tmp_path: Path, written: str, read: int) -> None:
    line = kitti_line("Car", (1, 1, 50, 50)).replace(" 0 ", f" {written} ", 1)
    root = write_kitti(tmp_path / "set", {"a": line})
    assert load_dataset(root, "val", NAMES).items[0].labels.occlusion.tolist() == [read]
