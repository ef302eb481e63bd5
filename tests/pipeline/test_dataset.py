"""Data sets made from scenes and, by a teacher, from footage."""

import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.pipeline.dataset.__main__ import main
from squeezedrive.pipeline.dataset.labels import labels_of_scene, labels_of_teacher
from squeezedrive.pipeline.dataset.teacher import TILES, Found, Teacher, _starts
from tests.street.spec import parse_scene
from tests.street.street import Street, TruthBox
from tests.support.media import write_video

NAMES = ("car", "pedestrian", "cyclist")
SCENE = "scene:size=320x180,seed=3,frames=40"


def found(*rows: tuple[int, float, tuple[float, float, float, float]]) -> Found:
    return Found(
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[0] for row in rows], np.intp),
    )


def names(*rows: tuple[int, float, tuple[float, float, float, float]]) -> list[str]:
    return [label.name for label in labels_of_teacher(found(*rows))]


def test_what_the_teacher_is_sure_of_is_an_object_and_the_rest_is_ignored() -> None:
    box = (10, 10, 60, 60)
    assert names((2, 0.9, box)) == ["Car"]
    assert names((2, 0.4, box)) == ["DontCare"]
    assert names((2, 0.1, box)) == []
    assert names((0, 0.9, box)) == ["Pedestrian"]
    assert names((0, 0.5, box)) == ["DontCare"]
    assert names((2, 0.9, (10, 10, 60, 20))) == ["DontCare"]  # too low
    assert names((5, 0.9, box), (7, 0.3, box)) == ["Van", "Van"]
    assert names((16, 0.9, box)) == []  # a dog


def test_a_person_on_a_bicycle_is_a_cyclist_and_on_a_motorcycle_nothing_to_learn() -> None:
    rider, wheels = (10, 10, 30, 60), (5, 40, 40, 75)
    cyclist, bicycle = labels_of_teacher(found((0, 0.9, rider), (1, 0.6, wheels)))
    assert (cyclist.name, cyclist.box) == ("Cyclist", (5, 10, 40, 75))
    assert bicycle.name == "DontCare"
    assert names((0, 0.9, rider), (3, 0.6, wheels)) == ["DontCare", "DontCare"]
    # Not sure of the person: nothing is learned.
    assert names((0, 0.3, rider), (1, 0.6, wheels)) == ["DontCare", "DontCare"]
    # Somebody who walks in front of a parked bicycle begins and ends elsewhere.
    assert names((0, 0.9, (10, 10, 30, 100)), (1, 0.6, wheels)) == ["Pedestrian", "DontCare"]
    assert names((0, 0.9, (100, 10, 130, 60)), (1, 0.6, wheels)) == ["Pedestrian", "DontCare"]


def test_the_truth_of_a_scene() -> None:
    there = [
        TruthBox(1, "car", (1, 2, 50, 40), 0.2, 0.0),
        TruthBox(2, "cyclist", (1, 2, 20, 40), 0.0, 0.3),
        TruthBox(3, "pedestrian", (1, 2, 20, 40), 0.0, 0.8),
        TruthBox(4, "pedestrian", (1, 2, 5, 12), 0.0, 0.0),
    ]
    labels = labels_of_scene(there)
    assert [label.name for label in labels] == ["Car", "Cyclist", "DontCare", "DontCare"]
    assert [label.occluded for label in labels[:2]] == [0, 1]
    assert labels[0].line().split()[:2] == ["Car", "0.20"]
    assert len(labels[0].line().split()) == 15


def test_a_scene_becomes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "street"
    assert main([str(out), SCENE, SCENE, "--every", "15", "--frames", "2"]) == 0
    assert f"wrote {out}: 4 pictures" in capsys.readouterr().out
    dataset = load_dataset(out, "train", NAMES)
    assert [item.image.stem for item in dataset.items] == [
        "00_000000", "00_000015", "01_000000", "01_000015",
    ]  # fmt: skip
    street = Street(parse_scene(SCENE))
    image = cv2.imread(str(dataset.items[1].image))
    assert np.abs(image.astype(int) - street.render(15)).mean() < 4
    wanted = [label for label in labels_of_scene(street.truth(15)) if label.name != "DontCare"]
    np.testing.assert_allclose(
        dataset.items[1].labels.boxes, [label.box for label in wanted], atol=0.01
    )
    assert len(wanted) > 0


def test_start_and_until_cut_a_part_out(tmp_path: Path) -> None:
    part = ["--every", "10", "--start", "0.3", "--until", "0.7"]  # a frame every third of a second
    assert main([str(tmp_path / "d"), SCENE, *part]) == 0
    pictures = [item.image.stem for item in load_dataset(tmp_path / "d", "train", NAMES).items]
    assert pictures == ["00_000010", "00_000020"]


def test_footage_is_cut_by_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Blind:
        def __init__(self, param: Path) -> None:
            pass

        def detect(self, image: np.ndarray) -> Found:
            return found((2, 0.9, (1, 2, 30, 40)), (0, 0.3, (1, 2, 30, 40)))

    monkeypatch.setattr("squeezedrive.pipeline.dataset.teacher.Teacher", Blind)
    clip = tmp_path / "clip.mp4"
    write_video(clip, 30)
    part = ["--every", "5", "--start", "0.3", "--until", "0.9"]
    assert main([str(tmp_path / "d"), str(clip), *part, "--teacher", "x.param"]) == 0, (
        capsys.readouterr().err
    )
    dataset = load_dataset(tmp_path / "d", "train", NAMES)
    assert dataset.counts().tolist() == [len(dataset), 0, 0]
    assert [len(item.ignore_boxes) for item in dataset.items] == [1] * len(dataset)
    frames = [int(item.image.stem[3:]) for item in dataset.items]
    assert frames == [frame for frame in range(0, 30, 5) if 0.3 <= frame / 25 <= 0.9]


def test_what_was_labelled_before_an_interruption_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render = Street.render

    def interrupted(street: Street, index: int) -> np.ndarray:
        if index == 20:
            raise KeyboardInterrupt
        return render(street, index)

    monkeypatch.setattr(Street, "render", interrupted)
    out = tmp_path / "d"
    assert main([str(out), SCENE, "--every", "10"]) == 130
    assert capsys.readouterr().err == f"interrupted; {out} holds what was labelled until now\n"
    assert (out / "ImageSets" / "train.txt").read_text() == "00_000000\n00_000010\n"
    assert len(load_dataset(out, "train", NAMES)) == 2


def test_sources_are_looked_at_before_the_first_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("squeezedrive.pipeline.dataset.teacher.Teacher", lambda param: None)
    out, missing = tmp_path / "d", tmp_path / "missing.mp4"
    assert main([str(out), SCENE, str(missing), "--teacher", "x.param"]) == 2
    assert capsys.readouterr().err == f"error: {missing}: no such file or folder\n"
    assert main([str(out), SCENE, "scene:wheels=3"]) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OUT", "nothing.mp4"], "name a teacher"),
        (["OUT", "scene:", "--every", "0"], "--every: expected 1 or more, got 0"),
        (["OUT", SCENE, "--frames", "0"], "--frames: expected 1 or more, got 0"),
        (["OUT", SCENE, "--frames", "-1"], "--frames: expected 1 or more, got -1"),
        (["OUT", SCENE, "--start", "nan"], "--start: expected seconds, 0 or more, got nan"),
        (["OUT", SCENE, "--start", "2", "--until", "1"], "--until: .*, not before --start, got 1"),
        (["OUT", SCENE, "--start", "1000"], "stays empty, no frame lies between"),
        (["OUT", "scene:wheels=3"], "unknown key"),
        (["HERE", SCENE], "exists already"),
        (["OUT", "clip.mp4", "--teacher", "none.param"], "ncnn|none.param: no such file"),
    ],
)
def test_errors(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here" / "training" / "image_2").mkdir(parents=True)
    places = {"OUT": str(tmp_path / "out"), "HERE": str(tmp_path / "here")}
    assert main([places.get(text, text) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)


@pytest.mark.parametrize("length", [100, 375, 376, 640, 1280, 1920])
def test_tiles_cover_the_picture(length: int) -> None:
    for side in TILES:
        starts = _starts(length, side)
        assert starts[0] == 0
        assert starts[-1] + side >= length
        assert all(b - a <= side * 0.71 for a, b in pairwise(starts))


def test_the_teacher_finds_most_cars_of_kitti(shared: Path) -> None:
    """Precision and recall at IoU 0.5 of visible cars over 40 px, on five pictures."""
    pytest.importorskip("ncnn", reason="the teacher needs ncnn")
    teacher = Teacher(shared / "weights" / "yolox-nano" / "yolox-nano-nofocus.param")
    dataset = load_dataset(shared / "data" / "kitti", "val", NAMES)
    hits = objects = 0
    for item in dataset.items[:60:12]:
        image = cv2.imread(str(item.image))
        labels = labels_of_teacher(teacher.detect(np.asarray(image, np.uint8)))
        cars = np.array([label.box for label in labels if label.name == "Car"]).reshape(-1, 4)
        wanted = item.objects
        visible = (wanted.classes == 0) & (wanted.height > 40) & (wanted.occlusion == 0)
        for box in wanted.boxes[visible]:
            sides = np.minimum(box[2:], cars[:, 2:]) - np.maximum(box[:2], cars[:, :2])
            shared_area = np.prod(np.maximum(sides, 0), axis=1)
            areas = np.prod(cars[:, 2:] - cars[:, :2], axis=1) + np.prod(box[2:] - box[:2])
            hits += bool((shared_area / (areas - shared_area) > 0.5).any())
            objects += 1
    assert objects >= 5
    assert hits >= 0.8 * objects
