from pathlib import Path

import numpy as np
import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from tests.support.labelled import write_picture


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
    assert len(second.labels) == 0  # a picture without a label file has no objects
    only = load_dataset(root / "data.yaml", "val", ["Car"])
    assert only.items[0].labels.classes.tolist() == [0]
    assert only.left_out() == {"lorry": 1}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("{7: truck, 0: person, 2: car}", ("person", "car", "truck")),
        ("{'7': truck, 0: person, '2': car}", ("person", "car", "truck")),
        (f"[{', '.join(f'c{k}' for k in range(8))}]", tuple(f"c{k}" for k in range(8))),
    ],
)
def test_yolo_class_numbers_are_the_keys_of_the_names(
    tmp_path: Path, names: str, classes: tuple[str, ...]
) -> None:
    root = write_yolo(tmp_path, f"names: {names}\nval: images\n")
    (root / "labels" / "val" / "a.txt").write_text("7 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n")
    dataset = load_dataset(root, "val")
    assert dataset.classes == classes
    found = [classes[index] for index in dataset.items[0].labels.classes]
    assert found == (["truck", "car"] if "truck" in classes else ["c7", "c2"])


def test_yolo_outlines_become_the_boxes_around_them(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, "names: [car]\nval: images\n")
    label = root / "labels" / "val" / "a.txt"
    label.write_text("0 0.5 0.2 0.25 0.6 0.75 0.4\n", encoding="utf-8-sig")
    np.testing.assert_allclose(
        load_dataset(root, "val").items[0].labels.boxes, [[50, 20, 150, 60]], rtol=1e-6
    )
    # Key points after the box are not read as an outline.
    (root / "data.yaml").write_text("names: [car]\nval: images\nkpt_shape: [2, 2]\n")
    label.write_text("0 0.5 0.5 0.5 0.2 0.1 0.1 7 7\n")
    np.testing.assert_allclose(
        load_dataset(root, "val").items[0].labels.boxes, [[50, 40, 150, 60]], rtol=1e-6
    )


def test_yolo_rejects_pictures_without_any_label_file(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, "names: [car]\nval: images/val\n")
    (root / "labels").rename(root / "Labels")
    with pytest.raises(
        DatasetError, match=r"none of the 2 pictures in val .*/labels/val/a\.txt, empty if"
    ):
        load_dataset(root, "val")


def test_yolo_pictures_without_objects_need_no_label_files(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, "names: [car, van]\nval: images/val\n")
    for file in (root / "labels" / "val").iterdir():
        file.unlink()
    assert load_dataset(root, "val").counts().tolist() == [0, 0]


def test_yolo_description_may_lie_in_the_folder_of_the_images(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, "names: [car, van]\nval: images/val\n")
    (root / "images" / "data.yaml").write_text("names: [car, van]\nval: val\n")
    expected = load_dataset(root, "val").counts().tolist()
    assert load_dataset(root / "images", "val").counts().tolist() == expected


@pytest.mark.parametrize("place", ["train", "ABSOLUTE"])
def test_yolo_labels_are_found_below_a_folder_named_images(tmp_path: Path, place: str) -> None:
    root = tmp_path / "images" / "mine"
    write_picture(root / "train" / "a.png", (100, 50))
    (root / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
    where = place.replace("ABSOLUTE", str(root / "train"))
    (root / "data.yml").write_text(f"names: [car]\ntrain: {where}\n")
    assert load_dataset(root, "train").counts().tolist() == [1]


@pytest.mark.parametrize("folder", ["training", "annotations"])
def test_yolo_pictures_may_lie_in_folders_of_other_layouts(tmp_path: Path, folder: str) -> None:
    write_picture(tmp_path / folder / "images" / "a.png", (100, 50))
    (tmp_path / folder / "labels").mkdir()
    (tmp_path / folder / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text(f"names: [car]\ntrain: {folder}/images\n")
    assert load_dataset(tmp_path, "train").counts().tolist() == [1]


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
        ("names: [car]\nval: images\n", "3 0.5 0.5 0.1 0.1", "class 3 is not one of the 1"),
        ("names: {one: car}\nval: images\n", "", "a different number for each class, got 'one'"),
        ("names: {1: car, '1': bus}\nval: images\n", "", "the key 1 occurs twice"),
        ("names: [car]\nval: images\n", "0 0.5 0.5 0.1 0.1 0.9", "sixth column .* no confidence"),
        ("names: [car]\nval: images\n", "0 0.5 0.5 1.05 0.1", "of the picture, got 1.05 in"),
        ("names: [car]\nval: images\n", "0 60 30 10 10", "as fractions of the picture, got"),
        ("names: [car]\nval: images\n", "0 0.5 0.5 0.1", "expected class, centre"),
        ("names: [car]\nval: images\n", "car 0.5 0.5 0.1 0.1", "invalid literal"),
    ],
)
def test_rejects_damaged_yolo_sets(
    tmp_path: Path, description: str, label: str, message: str
) -> None:
    root = write_yolo(tmp_path, description)
    (root / "labels" / "val" / "a.txt").write_text(label)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(root, "val")
    assert "\n" not in str(caught.value)
