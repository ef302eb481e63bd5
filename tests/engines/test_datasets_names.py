"""Data sets whose files or classes have unfortunate names."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezedrive.engines.datasets.load import load_dataset, load_pictures
from squeezedrive.engines.errors import DatasetError
from tests.support.labelled import kitti_line, write_kitti, write_picture

APPLE_DOUBLE = bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(4000)


def add_companions(root: Path) -> None:
    """Add the hidden companion of each file, as a Mac writes it when it copies to a card."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)


def write_yolo(root: Path, names: str = "names: [car, van]", **splits: str) -> Path:
    for name in ("a", "b"):
        write_picture(root / "images" / f"{name}.jpg")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    lines = "\n".join(f"{split}: {place}" for split, place in (splits or {"val": "images"}).items())
    (root / "data.yaml").write_text(f"{lines}\n{names}\n")
    return root


def kitti(root: Path) -> Path:
    line = kitti_line("Car", (10, 10, 50, 40))
    return write_kitti(root, {"a": line, "b": ""})


def coco(root: Path) -> Path:
    content = {
        "images": [
            {"id": id, "file_name": f"{name}.jpg", "width": 120, "height": 60}
            for id, name in enumerate("ab")
        ],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [10, 10, 40, 30]}],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    for name in "ab":
        write_picture(root / "images" / f"{name}.jpg")
    return root


def voc(root: Path) -> Path:
    box = "<xmin>10</xmin><ymin>10</ymin><xmax>50</xmax><ymax>40</ymax>"
    (root / "annotations").mkdir(parents=True)
    car = f"<object><name>car</name><bndbox>{box}</bndbox></object>"
    for name, text in (("a", car), ("b", "")):
        (root / "annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        write_picture(root / "images" / f"{name}.jpg")
    return root


def yolo_list(root: Path) -> Path:
    """Write a data set whose list of pictures, made with `find`, contains hidden companions."""
    write_yolo(root, val="val.txt")
    names = ("a", "._a", "b", "._b")
    (root / "val.txt").write_text("".join(f"./images/{name}.jpg\n" for name in names))
    return root


def yolo_other_name(root: Path) -> Path:
    write_yolo(root)
    (root / "data.yaml").rename(root / "road.yaml")
    return root


@pytest.mark.parametrize("write", [kitti, coco, voc, write_yolo, yolo_list, yolo_other_name])
def test_ignores_the_hidden_companion_files_of_macs(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    root = write(tmp_path / "set")
    add_companions(root)
    split = "train" if write is voc else "val"
    # The loader reads all label files if the split has no object of a given name.
    with pytest.raises(DatasetError, match="names: lorry: no object has this name"):
        load_dataset(root, split, ["car"], {"lorry": "car"})
    dataset = load_dataset(root, split, ["car"])
    assert [item.image.name for item in dataset.items] == ["a.jpg", "b.jpg"]
    assert [len(item.objects) for item in dataset.items] == [1, 0]
    assert [path.name for path in load_pictures(root, split)] == ["a.jpg", "b.jpg"]


def test_hidden_companions_alone_are_not_a_data_set(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    (tmp_path / "annotations").mkdir()
    for name in ("annotations/a.xml", "annotations/val.json", "data.yaml"):
        path = tmp_path / name
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    with pytest.raises(DatasetError, match="no data set"):
        load_dataset(tmp_path, "val")
    assert [path.name for path in load_pictures(tmp_path, "train")] == ["a.jpg"]


WORDS = ["no", "on", "Yes", "true", "null", "~", "1_10", "12:30", "2024-01-01", "007", "1.0", "1e3",
         "0x1F", ".inf", "car"]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        f"names: [{', '.join(WORDS)}]",
        "names:\n" + "".join(f"  - {word}\n" for word in WORDS),
        "names: {" + ", ".join(f"{n}: {word}" for n, word in enumerate(WORDS)) + "}",
        "names:\n" + "".join(f"  '{n}': \"{word}\"\n" for n, word in enumerate(WORDS)),
    ],
    ids=["list", "lines", "numbered", "quoted"],
)
def test_reads_class_names_as_texts_whatever_yaml_makes_of_them(tmp_path: Path, names: str) -> None:
    dataset = load_dataset(write_yolo(tmp_path, names), "val")
    assert dataset.classes == tuple(WORDS)
    assert load_dataset(tmp_path, "val", ["no"], {"12:30": "no"}).names == tuple(WORDS)


@pytest.mark.parametrize("names", ["names: [car, [van]]", "names: [car, ]\nnames: [van]",
                                   "names: {0: car, 1: }", "names: {0: car, 0: van}"])  # fmt: skip
def test_rejects_class_names_that_make_no_sense(tmp_path: Path, names: str) -> None:
    with pytest.raises(DatasetError, match=r"data.yaml: .*(names:|occurs twice)"):
        load_dataset(write_yolo(tmp_path, names), "val")


def test_reads_numbers_in_json_as_names(tmp_path: Path) -> None:
    root = coco(tmp_path)
    path = root / "annotations" / "val.json"
    path.write_text(path.read_text().replace('"car"', "30"))
    assert load_dataset(root, "val").classes == ("30",)
    assert len(load_dataset(root, "val", ["30"]).items[0].objects) == 1


@pytest.mark.parametrize("folder", ["007", "1_10", "on", "2024-01-01"])
def test_reads_folder_names_as_they_are_written(tmp_path: Path, folder: str) -> None:
    write_yolo(tmp_path, val=folder)
    (tmp_path / "images").rename(tmp_path / folder)
    (tmp_path / "labels" / "a.txt").rename(tmp_path / folder / "a.txt")
    assert len(load_dataset(tmp_path, "val")) == 2
    text = (tmp_path / "data.yaml").read_text()
    (tmp_path / "data.yaml").write_text(text + "path: ~\ntrain: null\n")
    assert len(load_dataset(tmp_path, "val")) == 2
    with pytest.raises(DatasetError, match="no split 'train'"):
        load_dataset(tmp_path, "train")
