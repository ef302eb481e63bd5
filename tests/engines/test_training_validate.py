"""Evaluation during a training: it uses the same classes, fit and names as the training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.training import validate
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.report import RunFolder
from squeezedrive.engines.training.validate import ValidationSet, Validator
from squeezedrive.kernels.detections import Detections
from tests.support import labelled
from tests.support.labelled import kitti_line
from tests.support.rectangles import small, write_kitti, write_yolo


def validator(*roots: Path, **keys: Any) -> Validator:
    return Validator(load_train_config(None, small(*roots, **keys)), torch.device("cpu"))


def test_evaluates_a_set_with_the_names_and_the_fit_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = write_yolo(tmp_path / "lorries", 1), write_kitti(tmp_path / "other", 1)
    sets = [
        {"root": str(other)},
        {"root": str(root), "names": {"lorry": "car"}, "fit": "stretch"},
        {"root": str(root), "names": {"bike": "car"}},
    ]
    settings = load_train_config(
        None,
        small(
            data__sets=sets, data__fit="letterbox", network__output__classes=["car"],
            evaluate__roots=[str(root) + "/.", str(other)],
        ),
    )  # fmt: skip
    chosen = Validator(settings, torch.device("cpu"))
    assert [int(c.dataset.counts()[0]) for c in chosen.sets] == [1, 1]
    np.testing.assert_allclose(chosen.sets[0].dataset.items[0].labels.boxes, [[20, 30, 80, 72]])
    used = []
    original = validate.make_fit

    def make_fit(kind: Any, *arguments: Any) -> Any:
        used.append(kind)
        return original(kind, *arguments)

    monkeypatch.setattr(validate, "make_fit", make_fit)
    assert chosen.evaluate(TrainableNetwork(settings.profile("new", 0)), lambda: False) is not None
    assert used == ["stretch", "letterbox"]


def test_distinguishes_sets_whose_folders_have_the_same_name(tmp_path: Path) -> None:
    roots = [write_kitti(tmp_path / name / "set", 1) for name in ("day", "night")]
    roots += [write_kitti(tmp_path / "fog", 1)]
    chosen = validator(*roots, evaluate__roots=[str(root) for root in roots])
    assert [c.name for c in chosen.sets] == ["day/set", "night/set", "fog"]
    profile = load_train_config(None, small(*roots)).profile("new", 0)
    scores = chosen.evaluate(TrainableNetwork(profile), lambda: False)
    assert scores is not None
    assert {"mAP", "night/set:mAP", "fog:mAP"} <= scores.metrics.keys()
    assert len(scores.summary) == 4  # three sets and their mean


def detections(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, classes = zip(*rows, strict=True)
    return Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes, np.int32)
    )


def test_mean_ap_is_the_mean_over_the_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate sets with KITTI's difficulties, without them, without objects, and of YOLO."""
    car, person = (10, 5, 60, 50), (70, 10, 90, 30)
    labels = [kitti_line("Car", car), kitti_line("Pedestrian", person, occlusion=3)]
    roots = [
        labelled.write_kitti(tmp_path / "drives", {"a": labels[0]}),
        labelled.write_kitti(tmp_path / "roads", {"b": labels[1] + kitti_line("Car", car, 0, 3)}),
        labelled.write_kitti(tmp_path / "empty", {"c": kitti_line("Car", car, 0, 3)}),
        write_yolo(tmp_path / "yolo", 1, ("car", "bike")),
    ]
    # The object is 2 px high and does not count: in pictures 120 px wide, the minimum is 2.3 px.
    flat = kitti_line("Car", (10, 5, 60, 7), 0, 3)
    (roots[2] / "training/label_2/c.txt").write_text(flat)
    boxes = {
        "drives": detections((car, 0.9, 0)),
        "roads": detections((car, 0.9, 0), (car, 0.8, 1)),
        "empty": detections((car, 0.9, 0)),
        "yolo": detections(((20, 30, 80, 72), 0.9, 0)),
    }

    def detect(_: Validator, model: Any, chosen: ValidationSet) -> Any:
        yield np.empty((60, 120, 3), np.uint8), boxes[chosen.name]

    monkeypatch.setattr(Validator, "detect", detect)
    scores = validator(*roots[:1], evaluate__roots=[str(root) for root in roots]).evaluate(
        TrainableNetwork(load_train_config(None, small(*roots[:1])).profile("new", 0)),
        lambda: False,
    )
    assert scores is not None
    by_set = {"drives": 1 / 11, "roads": 1 / 2, "empty": math.nan, "yolo": 1}
    assert scores.by_set == pytest.approx(by_set, nan_ok=True)
    assert scores.mean_ap == scores.metrics["mAP"] == pytest.approx((1 / 11 + 1 / 2 + 1) / 3)
    for name, value in by_set.items():
        assert scores.metrics[f"{name}:mAP"] == pytest.approx(value, nan_ok=True)
    assert scores.metrics["AP11/car/easy"] == pytest.approx(1 / 11)
    assert scores.metrics["roads:AP50/car"] == 1
    assert scores.metrics["roads:AP50/pedestrian"] == 0
    assert scores.metrics["yolo:AP50-95/car"] == 1
    assert str(scores) == "mAP 0.5303 (drives 0.0909, roads 0.5000, empty nan, yolo 1.0000)"
    assert list(scores.summary) == [
        "drives/val, 1 pictures", "roads/val, 1 pictures", "empty/val, 1 pictures",
        "yolo/val, 1 pictures", "mean of the sets",
    ]  # fmt: skip
    assert scores.summary["roads/val, 1 pictures"] == {
        "what": "AP at IoU 0.5, objects from 12.5 px of a picture 640 wide",
        "car": 1, "pedestrian": 0, "cyclist": None, "mAP": 0.5,
    }  # fmt: skip
    assert scores.summary["mean of the sets"] == {"mAP": 0.5303}


def test_figures_of_a_single_set_have_no_prefix(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "set", 1)
    model = TrainableNetwork(load_train_config(None, small(root)).profile("new", 0))
    scores = validator(root).evaluate(model, lambda: False)
    assert scores is not None
    assert not [name for name in scores.metrics if ":" in name]
    assert scores.mean_ap == scores.metrics["mAP"] == scores.by_set["set"]
    assert list(scores.summary) == ["set/val, 1 pictures"]
    assert str(scores) == f"mAP {scores.mean_ap:.4f}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"evaluate__split": "test"}, r"no such split.*evaluate\.split .*evaluate\.every=0"),
        (
            {"network__output__classes": ["tram"]},
            r"none of the classes asked for \(tram\).*network\.output\.classes.*names:",
        ),
    ],
)
def test_error_about_an_unusable_set_names_the_settings(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        validator(write_kitti(tmp_path / "set", 1), **keys)
    assert "\n" not in str(caught.value)


def test_shows_all_pictures_with_the_same_name(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install -e '.[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = write_yolo(tmp_path / "set", 3, folders=True)
    keys = {"network__output__classes": ["lorry", "bike"]}
    folder = RunFolder(tmp_path / "run")
    assert folder.open_board(1, 1)
    model = TrainableNetwork(load_train_config(None, small(root, **keys)).profile("new", 0))
    folder.pictures(model, validator(root, **keys), 3, 1)
    folder.close()
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == [f"pictures/images/{n}/0.png" for n in range(3)]
