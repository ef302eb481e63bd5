"""`check-data` reports mistakes in data of every layout, with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.datasets import check as checking
from squeezedrive.engines.datasets.copies import LIMIT, find_copies, look_hash, stack
from squeezedrive.engines.datasets.dataset import LabelledImageBuilder
from tests.support.labelled import kitti_line, write_kitti

SIZE = (400, 200)
CAR, PERSON = (100, 50, 180, 110), (300, 60, 330, 150)


def scene(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture of soft shapes; each seed gives different ones."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 24, 3), np.uint8)
    return cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)


def kitti(root: Path, labels: dict[str, str], val: dict[str, str] | None = None) -> Path:
    """Write a data set in KITTI layout, with a different scene in each picture."""
    val = {"v": kitti_line("Car", CAR)} if val is None else val
    write_kitti(root, {**labels, **val})
    for number, name in enumerate([*labels, *val]):
        cv2.imwrite(str(root / f"training/image_2/{name}.jpg"), scene(number))
    for split, names in (("train", labels), ("val", val)):
        (root / f"ImageSets/{split}.txt").write_text("\n".join(names))
    return root


def yolo(root: Path, labels: dict[str, str]) -> Path:
    for number, (name, text) in enumerate(labels.items()):
        for folder in ("images", "labels"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"images/{name}.jpg"), scene(number))
        (root / f"labels/{name}.txt").write_text(text)
    (root / "data.yaml").write_text("names: [car, truck]\ntrain: images\nval: images\n")
    return root


def voc(root: Path, boxes: list[tuple[float, ...]], size: tuple[int, int] = SIZE) -> Path:
    for folder in ("annotations", "images"):
        (root / folder).mkdir(parents=True)
    text = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    for box in boxes:
        corners = "".join(
            f"<{key}>{value}</{key}>"
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        text += f"<object><name>car</name><bndbox>{corners}</bndbox></object>"
    (root / "annotations/a.xml").write_text(f"<annotation>{text}</annotation>")
    cv2.imwrite(str(root / "images/a.jpg"), scene(0))
    return root


def coco(root: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    for folder in ("annotations", "images"):
        (root / folder).mkdir(parents=True)
    entry = {"id": 1, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1], **image}
    content = {
        "images": [entry],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, **one} for one in annotations],
    }
    (root / "annotations/train.json").write_text(json.dumps(content))
    cv2.imwrite(str(root / "images/a.jpg"), scene(0))
    return root


def check(root: Path, *options: str, val: bool = False) -> tuple[int, dict[str, Any]]:
    """Run the verb; return its exit code and the JSON that it writes."""
    path = root.parent / "check.json"
    flags = [] if val else ["--set", "evaluate.every=0"]
    code = main(["check-data", str(root), *flags, *options, "--json", str(path)])
    return code, json.loads(path.read_text())


def findings(data: dict[str, Any], part: int = 0) -> list[tuple[str, str]]:
    """Return kind and place of each finding; places are relative to the data set's folder."""
    found = data["sets"][part]
    root = f"{found['root']}/"
    return [(one["kind"], one["where"].removeprefix(root)) for one in found["findings"]]


def test_counts_good_data_without_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {
        "a": kitti_line("Car", CAR) + kitti_line("Pedestrian", PERSON) + kitti_line("Tram", CAR),
        "b": kitti_line("Car", CAR) + kitti_line("Car", (20, 50, 60, 90)),
        "empty": "",
    }
    root = kitti(tmp_path / "good", labels)
    code, data = check(root, val=True)
    assert code == 0
    assert (data["unusable"], data["copies"]) == (0, [])
    train, val = data["sets"]
    assert (train["role"], train["pictures"], train["decoded"]) == ("train", 3, 3)
    assert train["classes"]["car"] == {"objects": 3, "pictures": 2}
    assert train["classes"]["pedestrian"] == {"objects": 1, "pictures": 1}
    assert train["background"] == {"tram": 1}
    assert (val["role"], val["classes"]["car"]) == ("val", {"objects": 1, "pictures": 1})
    assert findings(data) == findings(data, 1) == []
    assert data["never_seen"] == {"train": ["cyclist"], "val": ["pedestrian", "cyclist"]}
    said = capsys.readouterr().out
    assert "3 pictures, 1 without an object" in said
    assert "background, because these names belong to no class: tram 1" in said
    assert "never seen in train: cyclist\n" in said
    assert "usable: a training would not stop" in said


def test_finds_every_fault_of_a_kitti_set_with_its_line(tmp_path: Path) -> None:
    labels = {
        "boxes": "\n"
        + kitti_line("Car", CAR)
        + kitti_line("Car", (10, 10, 10, 60))
        + kitti_line("Car", (500, 10, 560, 60))
        + kitti_line("Car", (350, 10, 460, 60))
        + kitti_line("Pedestrian", CAR)  # another class in the same place is allowed
        + kitti_line("Car", (100, 51, 180, 110)),
        "line": kitti_line("Car", CAR) + "Car 0 0 1\n",
        "cut": kitti_line("Car", CAR),
        "text": kitti_line("Car", CAR),
        "gone": kitti_line("Car", CAR),
    }
    root = kitti(tmp_path / "bad", labels)
    pictures = root / "training/image_2"
    content = (pictures / "cut.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(content[: len(content) // 2])
    (pictures / "text.jpg").write_text("not a picture")
    (pictures / "gone.jpg").unlink()
    code, data = check(root)
    assert code == 2
    assert data["unusable"] == 4
    place = "training/label_2/boxes.txt: line"
    assert findings(data) == [
        ("unusable", str(pictures).removeprefix(f"{root}/")),
        ("unusable", "training/label_2/line.txt"),
        ("no area", f"{place} 3"),
        ("outside", f"{place} 4"),
        ("partly outside", f"{place} 5"),
        ("duplicate", f"{place} 7"),
        ("unusable", "training/image_2/cut.jpg"),
        ("unusable", "training/image_2/text.jpg"),
    ]
    texts = {one["kind"]: one["what"] for one in data["sets"][0]["findings"]}
    assert texts["outside"] == "car (500, 10, 560, 60) lies outside the picture of 400x200"
    assert texts["duplicate"] == "car (100, 51, 180, 110) is the same as line 2"


def test_checks_a_yolo_box_before_cutting_it_at_the_edge(tmp_path: Path) -> None:
    lines = [
        "0 0.3 0.4 0.2 0.3",
        "0 0.95 0.5 0.2 0.3",  # right edge at 1.05
        "0 0.995 0.5 0.01 0.3",  # right edge at 1
        "0 0.5 0.5 0 0.3",
        "1 0.7 0.5 0.1 0.3",
    ]
    root = yolo(tmp_path / "yolo", {"a": "\n".join(lines), "b": "0 0.3 0.4 7 8"})
    code, data = check(root, "--classes", "car")
    assert code == 2
    assert findings(data) == [
        ("unusable", "labels/b.txt"),
        ("no area", "labels/a.txt: line 4"),
        ("partly outside", "labels/a.txt: line 2"),
    ]
    assert data["sets"][0]["background"] == {"truck": 1}
    assert data["sets"][0]["classes"] == {"car": {"objects": 3, "pictures": 1}}


def test_names_an_object_of_a_voc_file_by_its_number(tmp_path: Path) -> None:
    root = voc(tmp_path / "voc", [CAR, (0, 0, 40, 0), CAR, (390, 10, 420, 40)])
    code, data = check(root)
    assert code == 0
    assert findings(data) == [
        ("no area", "annotations/a.xml: object 2"),
        ("partly outside", "annotations/a.xml: object 4"),
        ("duplicate", "annotations/a.xml: object 3"),
    ]


def test_names_an_annotation_of_a_coco_file_by_its_index(tmp_path: Path) -> None:
    boxes = [[100, 50, 80, 60], [20, 20, 0, 5], [-90, 20, 60, 40], [100, 50, 80, 60]]
    annotations: list[dict[str, Any]] = [{"bbox": box} for box in boxes]
    annotations += [{"bbox": [1, 2]}, {"bbox": boxes[0], "image_id": 7}]
    code, data = check(coco(tmp_path / "coco", annotations))
    assert code == 2
    place = "annotations/train.json: annotations"
    assert [kind for kind, _ in findings(data)[:2]] == ["unusable", "unusable"]
    assert [one["what"][:20] for one in data["sets"][0]["findings"][:2]] == [
        "annotations[4]: expe",
        "annotations[5] is fo",
    ]
    assert findings(data)[2:] == [
        ("no area", f"{place}[1]"),
        ("outside", f"{place}[2]"),
        ("duplicate", f"{place}[3]"),
    ]


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_reports_a_picture_whose_size_differs_from_its_labels(tmp_path: Path, layout: str) -> None:
    if layout == "coco":
        root = coco(tmp_path / "set", [{"bbox": [1, 2, 30, 40]}], width=200, height=400)
    else:
        root = voc(tmp_path / "set", [CAR], (200, 400))
    code, data = check(root)
    assert code == 2
    (found,) = data["sets"][0]["findings"]
    assert found["where"] == str(root / "images/a.jpg")
    assert found["what"].startswith("the picture is 400x200, but its labels are for 200x400")


def test_names_all_missing_pictures_of_a_coco_set(tmp_path: Path) -> None:
    root = coco(tmp_path / "set", [{"bbox": [1, 2, 30, 40]}])
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    content["images"] += [
        {**content["images"][0], "id": n, "file_name": f"{n}.jpg"} for n in (2, 3)
    ]
    path.write_text(json.dumps(content))
    code, data = check(root)
    assert code == 2
    assert findings(data) == [("unusable", "images/2.jpg"), ("unusable", "images/3.jpg")]


def test_finds_a_picture_that_is_in_train_and_val(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    car = kitti_line("Car", CAR)
    root = kitti(tmp_path / "set", {"a": car, "b": car}, {"c": car, "d": car})
    copy = cv2.convertScaleAbs(scene(1), alpha=0.8, beta=5)  # b, darker and compressed
    cv2.imwrite(str(root / "training/image_2/d.jpg"), copy, [cv2.IMWRITE_JPEG_QUALITY, 40])
    code, data = check(root, val=True)
    assert code == 0
    (found,) = data["copies"]
    assert (Path(found["train"]).name, Path(found["val"]).name) == ("b.jpg", "d.jpg")
    assert 0 < found["bits"] < LIMIT
    assert "pictures nearly the same in train and val: 1" in capsys.readouterr().out


def test_counts_small_objects_and_objects_outside_the_band(tmp_path: Path) -> None:
    boxes = [
        CAR,
        (100, 100, 101, 101),  # 3.1 pixels in the input
        (100, 100, 103, 103),  # 9.4 pixels: an IoU of 0.14 with the anchor nearest to it
        (100, 2, 150, 40),  # the band is 123 of 200 rows high
    ]
    root = kitti(tmp_path / "set", {"a": "".join(kitti_line("Car", box) for box in boxes)})
    (train,) = check(root)[1]["sets"]
    assert (train["too_small"], train["far_from_anchors"], train["hardly_inside"]) == (1, 1, 1)
    (train,) = check(root, "--set", "data.fit=letterbox")[1]["sets"]
    assert train["hardly_inside"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "lorry"], "none of the classes asked for (lorry) is labelled here"),
        (["--names", "tram=car"], "names: tram: no object has this name"),
        (["--split", "test"], "no such split; there are train, val"),
    ],
)
def test_reports_a_set_that_cannot_be_opened_and_checks_the_others(
    tmp_path: Path, options: list[str], message: str
) -> None:
    root = kitti(tmp_path / "set", {"a": kitti_line("Car", CAR)})
    code, data = check(root, *options, val=options[0] == "--split")
    assert code == 2
    assert message in data["sets"][0]["findings"][0]["what"]
    if options[0] == "--split":
        assert data["sets"][1]["decoded"] == 1


def test_reports_a_completely_damaged_set_with_its_files(tmp_path: Path) -> None:
    code, data = check(kitti(tmp_path / "kitti", {"a": "Car 0 0 1\n"}))
    assert code == 2
    assert ("unusable", "training/label_2/a.txt") in findings(data)
    root = kitti(tmp_path / "latin", {"a": kitti_line("Car", CAR)})
    (root / "training/label_2/a.txt").write_bytes(b"Fu\xdfg\xe4nger 0 0")
    code, data = check(root)
    assert code == 2
    assert ("unusable", "training/label_2/a.txt") in findings(data)


def test_a_set_without_objects_to_learn_is_unusable(tmp_path: Path) -> None:
    root = kitti(tmp_path / "set", {"a": kitti_line("Van", CAR)})
    code, data = check(root)
    assert code == 2
    assert "no object of car, pedestrian, cyclist to learn from" in str(data["sets"][0]["findings"])


def test_checks_the_sets_of_a_recipe_as_configured(tmp_path: Path) -> None:
    one = kitti(tmp_path / "one", {"a": kitti_line("Vehicle", CAR)}, {"b": ""})
    two = kitti(tmp_path / "two", {"a": kitti_line("Car", CAR)})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "network: {output: {classes: [vehicle]}}\n"
        "data: {sets: [{root: one}, {root: two, names: {car: vehicle}}]}\n"
        "evaluate: {roots: [two]}\n"
    )
    path = tmp_path / "check.json"
    assert main(["check-data", "--config", str(recipe), "--json", str(path)]) == 0
    data = json.loads(path.read_text())
    parts = [(part["root"], part["split"], part["role"]) for part in data["sets"]]
    assert parts == [(str(one), "train", "train"), (str(two), "train", "train"),
                     (str(two), "val", "val")]  # fmt: skip
    assert [part["classes"]["vehicle"]["objects"] for part in data["sets"]] == [1, 1, 1]


def test_shortens_long_lists_only_in_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = kitti(tmp_path / "set", {"a": kitti_line("Car", CAR) * 9})
    _, data = check(root)
    assert len(findings(data)) == 8
    said = capsys.readouterr().out
    assert said.count("is the same as line 1") == 5
    assert "and 3 more; --json writes all" in said


@pytest.mark.parametrize("options", [[], ["--split", "train"], ["--names", "a=b"]])
def test_without_a_set_asks_for_one(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", *options]) == 2
    assert "ROOT" in capsys.readouterr().err


def test_decodes_only_a_few_pictures_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr(checking, "_look", lambda item: begun.append(item))
    items = [LabelledImageBuilder(tmp_path / f"{n}.jpg").build() for n in range(300)]
    looks = checking._decoded(items)
    for taken in range(1, 100):
        next(looks)
        assert len(begun) <= taken + checking.AHEAD
    looks.close()
    assert len(begun) < 200
    assert len(list(checking._decoded(items))) == 300


def test_hashes_distinguish_scenes_and_match_copies() -> None:
    pictures = [cv2.cvtColor(scene(seed), cv2.COLOR_BGR2GRAY) for seed in range(20)]
    hashes = stack([look_hash(picture) for picture in pictures])
    assert hashes.shape == (20, 64)
    assert find_copies(hashes[:10], hashes[10:]) == []
    assert find_copies(hashes, hashes) == [(n, n, 0) for n in range(20)]
    smaller = look_hash(cv2.resize(pictures[3], (200, 100), interpolation=cv2.INTER_AREA))
    ((_, nearest, bits),) = find_copies(stack([smaller]), hashes)
    assert nearest == 3
    assert bits < LIMIT
    assert find_copies(hashes, stack([])) == []
