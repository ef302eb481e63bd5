"""A training ends early if its mean AP does not rise any more, and can still be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.model.weights import load_weights
from squeezedrive.engines.training import loop
from squeezedrive.engines.training.checkpoint import load_checkpoint, save_checkpoint
from squeezedrive.engines.training.config import TrainConfig, load_train_config
from squeezedrive.engines.training.device import Compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.loop import train
from squeezedrive.engines.training.report import RunFolder
from squeezedrive.engines.training.validate import Scores, Validator
from tests.support.rectangles import PLAIN, small, write_kitti

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti") / "set", 2)


@pytest.fixture(autouse=True)
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parts:
        def stack(self) -> torch.Tensor:
            return torch.ones(4)

    monkeypatch.setattr(Learner, "step", lambda *_: Parts())
    monkeypatch.setattr(RunFolder, "plot", lambda *_: None)


def evaluates_to(monkeypatch: pytest.MonkeyPatch, figures: list[float]) -> Iterator[float]:
    """Make each evaluation return the next of these mean APs; return those that remain."""
    left = iter(figures)
    original = Validator.evaluate

    def evaluate(self: Validator, *arguments: Any) -> Scores:
        scores = original(self, *arguments)
        assert scores is not None
        figure = next(left)
        return replace(scores, mean_ap=figure, summary={"mAP": figure})

    monkeypatch.setattr(Validator, "evaluate", evaluate)
    return left


def config(root: Path, **keys: Any) -> TrainConfig:
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    settings = {"epochs": 8, "evaluate__every": 1, "evaluate__patience": 2, "evaluate__pictures": 0}
    return load_train_config(None, [*plain, *small(root, **{**settings, **keys})])


def epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_ends_after_enough_evaluations_without_improvement(
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    left = evaluates_to(monkeypatch, [0.2, 0.1, 0.3, 0.3, 0.25, 0.9])
    assert train(config(root), run) == 0
    assert list(left) == [0.9]
    assert epochs(run) == [1, 2, 3, 4, 5]
    said = capsys.readouterr().err
    assert "ended after epoch 5 of 8: no mAP above 0.3000 in 2 evaluations" in said
    assert f"done: {run}" in said
    state = load_checkpoint(run / "checkpoint.pt", CPU)
    assert (state["epoch"], state["best"], state["stale"]) == (5, 0.3, 2)
    profile = load_weights(run / "run.npz").profile
    assert profile.training["epochs"] == "3 of 8"
    assert profile.evaluation["mAP"] == 0.3


def test_epochs_without_evaluation_do_not_count(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluates_to(monkeypatch, [0.2, 0.1, 0.1])
    assert train(config(root, evaluate__every=2), tmp_path / "run") == 0
    assert epochs(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


def test_runs_to_the_end_without_patience(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_train_config(None).evaluate.patience is None
    evaluates_to(monkeypatch, [0.2] * 8)
    assert train(config(root, evaluate__patience=None), tmp_path / "run") == 0
    assert epochs(tmp_path / "run") == [*range(1, 9)]


def test_resumes_with_more_patience(
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    left = evaluates_to(monkeypatch, [0.3, 0.2, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1])
    train(config(root), run)
    assert epochs(run) == [1, 2, 3]
    capsys.readouterr()
    assert train(config(root), run, resume=True) == 0
    assert epochs(run) == [1, 2, 3]
    assert "ended after epoch 3 of 8" in capsys.readouterr().err
    assert train(config(root, evaluate__patience=3), run, resume=True) == 0
    assert epochs(run) == [1, 2, 3, 4]  # the two evaluations before the resume count as well
    assert train(config(root, evaluate__patience=4), run, resume=True) == 0
    assert epochs(run) == [*range(1, 9)]
    assert list(left) == []


def test_resumes_from_an_older_checkpoint(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    evaluates_to(monkeypatch, [0.3, 0.2, 0.2, 0.2, 0.2])
    train(config(root, epochs=1), run)
    state = load_checkpoint(run / "checkpoint.pt", CPU)
    del state["stale"], state["limits"], state["version"]
    save_checkpoint(run / "checkpoint.pt", state)
    assert train(config(root), run, resume=True) == 0
    assert epochs(run) == [1, 2, 3]


def test_first_process_decides_for_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first process evaluates, so the other processes take over its decision."""
    training = loop.Training.__new__(loop.Training)
    training.config = config(root)
    training.compute = Compute(CPU, "fp32", rank=1, world=2)
    training._stale, training._best = 0, 0.3
    training._progress = loop.TrainingProgress(enabled=False)
    training._batches = loop.Batches.__new__(loop.Batches)
    training._batches.epoch = 3
    for others, ends in ((1, True), (0, False)):
        monkeypatch.setattr(Compute, "highest", lambda _, own, others=others: max(own, others))
        assert training._out_of_patience() is ends


def test_patience_needs_evaluations(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"patience: expected null with every 0"):
        config(root, evaluate__every=0)
