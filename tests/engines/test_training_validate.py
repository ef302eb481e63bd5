"""Evaluation in training: on the objects, in the input and under the names that training has."""

from __future__ import annotations

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
from squeezedrive.engines.training.validate import Validator
from tests.support.rectangles import small, write_kitti, write_yolo


def validator(*roots: Path, **keys: Any) -> Validator:
    return Validator(load_train_config(None, small(*roots, **keys)), torch.device("cpu"))


def test_a_set_is_evaluated_with_the_names_and_the_fit_it_is_trained_with(
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


def test_sets_whose_folders_have_the_same_name_are_told_apart(tmp_path: Path) -> None:
    roots = [write_kitti(tmp_path / name / "set", 1) for name in ("day", "night")]
    roots += [write_kitti(tmp_path / "fog", 1)]
    chosen = validator(*roots, evaluate__roots=[str(root) for root in roots])
    assert [c.name for c in chosen.sets] == ["day/set", "night/set", "fog"]
    profile = load_train_config(None, small(*roots)).profile("new", 0)
    scores = chosen.evaluate(TrainableNetwork(profile), lambda: False)
    assert scores is not None
    assert {"mAP", "night/set:mAP", "fog:mAP"} <= scores.metrics.keys()
    assert len(scores.summary) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"evaluate__split": "test"}, r"no such split.*evaluate\.split=train.*evaluate\.every=0"),
        (
            {"network__output__classes": ["tram"]},
            r"none of the classes asked for \(tram\).*network\.output\.classes.*names:",
        ),
    ],
)
def test_what_cannot_be_evaluated_on_names_the_settings(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        validator(write_kitti(tmp_path / "set", 1), **keys)
    assert "\n" not in str(caught.value)


def test_pictures_of_the_same_name_are_all_shown(tmp_path: Path) -> None:
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
