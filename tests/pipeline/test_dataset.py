"""Data sets that a teacher makes from footage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.pipeline.dataset import __main__ as program
from squeezedrive.pipeline.dataset.__main__ import main
from squeezedrive.pipeline.dataset.teacher import PERSON, VEHICLE, TeacherBoxes
from tests.support.media import number_of, write_video
from tests.support.teacher import write_teacher

NAMES = ("car", "pedestrian", "cyclist")
BOX = (1.0, 2.0, 30.0, 40.0)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """Return a video of 40 frames, 25 a second."""
    write_video(tmp_path / "clip.mp4", 40)
    return str(tmp_path / "clip.mp4")


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Replace the teacher; it calls `look` with the number of a picture, then finds a car."""

    def put(look: Callable[[int], None] = lambda number: None) -> None:
        class Seeing:
            def __init__(self, path: Path, tiles: bool) -> None:
                assert (path, tiles) == (Path("x.xml"), True)

            def detect(self, image: np.ndarray) -> TeacherBoxes:
                look(number_of(image))
                boxes = np.array([BOX, BOX], np.float32)
                scores = np.array([0.9, 0.3], np.float32)
                return TeacherBoxes(boxes, scores, np.array([VEHICLE, PERSON]))

        monkeypatch.setattr(program, "Teacher", Seeing)

    put()
    return put


def test_footage_becomes_a_data_set(
    tmp_path: Path, clip: str, sees: object, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drives"
    options = ["--teacher", "x.xml", "--every", "15", "--frames", "2"]
    assert main([str(out), clip, clip, *options]) == 0
    assert f"wrote {out}: 4 pictures" in capsys.readouterr().out
    dataset = load_dataset(out, "train", NAMES)
    assert [item.image.stem for item in dataset.items] == [
        "00_000000", "00_000015", "01_000000", "01_000015",
    ]  # fmt: skip
    image = cv2.imread(str(dataset.items[1].image))
    assert image is not None
    assert number_of(np.asarray(image, np.uint8)) == 15
    assert dataset.counts().tolist() == [4, 0, 0]
    for item in dataset.items:
        np.testing.assert_allclose(item.labels.boxes, [BOX], atol=0.01)
        np.testing.assert_allclose(item.ignore_boxes, [BOX], atol=0.01)


def test_a_model_labels_footage(tmp_path: Path, clip: str) -> None:
    teacher = write_teacher(tmp_path / "t.xml", (VEHICLE, 4.0, (20.0, 10.0, 40.0, 30.0)))
    out = tmp_path / "d"
    options = ["--teacher", str(teacher), "--frames", "1"]
    assert main([str(out), clip, *options, "--no-tiles"]) == 0
    (item,) = load_dataset(out, "train", NAMES).items
    np.testing.assert_allclose(item.labels.boxes, [(40, 30, 80, 90)], atol=0.01)


def test_frames_are_chosen_by_the_footages_own_time(
    tmp_path: Path, clip: str, sees: object
) -> None:
    part = ["--every", "5", "--start", "0.3", "--until", "0.9", "--teacher", "x.xml"]
    assert main([str(tmp_path / "d"), clip, *part]) == 0
    pictures = [item.image.stem for item in load_dataset(tmp_path / "d", "train", NAMES).items]
    frames = [int(stem[3:]) for stem in pictures]
    assert frames == [frame for frame in range(0, 40, 5) if 0.3 <= frame / 25 <= 0.9]


def test_labels_from_before_an_interruption_can_be_used(
    tmp_path: Path,
    clip: str,
    sees: Callable[[Callable[[int], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(number: int) -> None:
        if number == 20:
            raise KeyboardInterrupt

    sees(interrupted)
    out = tmp_path / "d"
    assert main([str(out), clip, "--every", "10", "--teacher", "x.xml"]) == 130
    assert capsys.readouterr().err == f"interrupted; {out} holds the frames labelled so far\n"
    assert (out / "ImageSets" / "train.txt").read_text() == "00_000000\n00_000010\n"
    assert len(load_dataset(out, "train", NAMES)) == 2


def test_all_sources_are_checked_before_the_first_is_labelled(
    tmp_path: Path, clip: str, sees: object, capsys: pytest.CaptureFixture[str]
) -> None:
    out, missing = tmp_path / "d", tmp_path / "missing.mp4"
    assert main([str(out), clip, str(missing), "--teacher", "x.xml"]) == 2
    assert capsys.readouterr().err == f"error: {missing}: no such file or folder\n"
    assert main([str(out), clip, "demo:wheels=3", "--teacher", "x.xml"]) == 2
    assert not out.exists()


def test_a_teacher_has_to_be_named(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["out", clip])
    assert caught.value.code == 2
    assert "required: --teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OUT", "CLIP", "--every", "0"], "--every: expected 1 or more, got 0"),
        (["OUT", "CLIP", "--frames", "0"], "--frames: expected 1 or more, got 0"),
        (["OUT", "CLIP", "--frames", "-1"], "--frames: expected 1 or more, got -1"),
        (["OUT", "CLIP", "--start", "nan"], "--start: expected seconds, 0 or more, got nan"),
        (["OUT", "CLIP", "--start", "2", "--until", "1"], "--until: .*, not before --start, got 1"),
        (["OUT", "CLIP", "--start", "1000"], "expected a start before its end"),
        (["OUT", "CLIP", "--every", "30", "--start", "0.1", "--until", "0.2"],
         "stays empty, no frame lies between"),
        (["HERE", "CLIP"], "exists already"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_errors(
    tmp_path: Path,
    clip: str,
    sees: object,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here" / "training" / "image_2").mkdir(parents=True)
    places = {"OUT": str(tmp_path / "out"), "HERE": str(tmp_path / "here"), "CLIP": clip}
    words = [places.get(text, text) for text in arguments]
    assert main([*words, "--teacher", "x.xml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
