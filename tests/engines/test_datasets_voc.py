from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.datasets.dataset import EVERY_CLASS, label_indices
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from tests.support.labelled import kitti_line, write_kitti, write_picture

NAMES = ("car", "pedestrian", "cyclist")


def entry(name: str, box: tuple[float, ...], difficult: int = 0) -> str:
    x1, y1, x2, y2 = box
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "voc" / "annotations"
    folder.mkdir(parents=True)
    texts = {
        "b": entry("car", (10, 5, 40, 30))
        + entry("Person", (1, 2, 9, 30))
        + entry("truck", (50, 5, 90, 35))
        + entry("car", (60, 5, 70, 15), difficult=1),
        "a": "",
    }
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        write_picture(tmp_path / "voc" / "images" / f"{name}.jpg")
    return tmp_path / "voc"


def test_names_stand_for_classes_or_for_regions_to_ignore(voc: Path) -> None:
    names = {"person": "pedestrian", "truck": "dontcare"}
    dataset = load_dataset(voc, "train", NAMES, names)
    assert (dataset.layout, dataset.classes) == ("voc", NAMES)
    empty, full = dataset.items
    assert len(empty.labels) == 0
    assert full.image == voc / "images" / "b.jpg"
    assert full.labels.classes.tolist() == [0, 1]
    np.testing.assert_array_equal(full.labels.boxes, [[10, 5, 40, 30], [1, 2, 9, 30]])
    np.testing.assert_array_equal(full.ignore_boxes, [[50, 5, 90, 35], [60, 5, 70, 15]])
    assert full.ignore_classes.tolist() == [EVERY_CLASS, 0]


def test_voc_classes_are_the_labelled_ones_unless_classes_are_given(voc: Path) -> None:
    assert load_dataset(voc, "train").classes == ("car", "person", "truck")


@pytest.mark.parametrize("lists", ["ImageSets", "ImageSets/Main"])
def test_lists_define_the_splits(voc: Path, lists: str) -> None:
    (voc / lists).mkdir(parents=True)
    (voc / lists / "val.txt").write_text("b\n")
    assert [item.image.stem for item in load_dataset(voc, "val", NAMES).items] == ["b"]
    with pytest.raises(DatasetError, match=r"no such split; there are val"):
        load_dataset(voc, "train", NAMES)


def test_without_lists_there_is_only_split_train(voc: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'val'; without lists"):
        load_dataset(voc, "val", NAMES)


def test_lists_may_have_suffixes_spaces_and_a_second_column(voc: Path) -> None:
    for path in (voc / "images" / "a.jpg", voc / "annotations" / "a.xml"):
        path.rename(path.with_stem("a b"))
    (voc / "ImageSets").mkdir()
    (voc / "ImageSets" / "val.txt").write_text("a b.jpg -1\nb  1\n")
    dataset = load_dataset(voc, "val", NAMES)
    assert [item.image.stem for item in dataset.items] == ["a b", "b"]
    assert dataset.left_out() == {"person": 1, "truck": 1}


def test_rejects_a_misspelt_name_but_not_a_rare_one(voc: Path) -> None:
    with pytest.raises(DatasetError, match="names: trk: no object has this name"):
        load_dataset(voc, "train", NAMES, {"trk": "car"})
    (voc / "ImageSets").mkdir()
    (voc / "ImageSets" / "val.txt").write_text("b\n")
    (voc / "annotations" / "a.xml").write_text(f"<a>{entry('tram', (1, 2, 3, 4))}</a>")
    assert load_dataset(voc, "val", NAMES, {"tram": "car"}).counts().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "is not XML"),
        ("<a><object><name>car</name></object></a>", "expected a bndbox of xmin, ymin"),
        (f"<a>{entry('car', (1, 2, 3, float('nan')))}</a>", "expected a bndbox"),
    ],
)
def test_rejects_damaged_voc_files(voc: Path, text: str, message: str) -> None:
    (voc / "annotations" / "a.xml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_dataset(voc, "train", NAMES)


def test_rejects_a_missing_picture(voc: Path) -> None:
    (voc / "images" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match="no picture a"):
        load_dataset(voc, "train", NAMES)


def test_names_work_in_every_layout(tmp_path: Path) -> None:
    text = kitti_line("Human", (1, 2, 9, 30)) + kitti_line("Fog lamp", (50, 5, 90, 35)).replace(
        "Fog lamp", "Fog_lamp"
    )
    root = write_kitti(tmp_path / "kitti", {"a": text})
    names = {"human": "Pedestrian", "fog lamp": "DontCare"}
    (item,) = load_dataset(root, "val", NAMES, names).items
    assert item.labels.classes.tolist() == [1]
    np.testing.assert_array_equal(item.ignore_boxes, [[50, 5, 90, 35]])

    yolo = tmp_path / "yolo"
    write_picture(yolo / "images" / "a.jpg")
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n")
    (yolo / "data.yaml").write_text("names: [human, fog lamp]\ntrain: images\n")
    (item,) = load_dataset(yolo, "train", NAMES, names).items
    assert item.labels.classes.tolist() == [1]
    assert item.ignore_classes.tolist() == [EVERY_CLASS]


def test_rejects_a_name_that_stands_for_no_class() -> None:
    with pytest.raises(DatasetError, match="names: human: expected one of car or dontcare, got"):
        label_indices(Path("set"), ["car"], {"human": "person"}, ["car"])
