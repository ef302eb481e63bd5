"""Resuming a training: after a kill at any moment, on full disks, with other settings."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.model.weights import DEFAULT, load_weights, save_weights
from squeezedrive.engines.training import loop
from squeezedrive.engines.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from squeezedrive.engines.training.config import TrainConfig, load_train_config
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.device import open_compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.loader import collate
from squeezedrive.engines.training.loop import train
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.report import RunFolder
from squeezedrive.engines.training.validate import Validator
from tests.support.rectangles import PLAIN, small, write_kitti

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti") / "set", 4)


def config(root: Path, **keys: Any) -> TrainConfig:
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    return load_train_config(None, [*plain, *small(root, **keys)])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace training steps by stubs, return their losses 1, 2 ...; the first sends SIGTERM."""
    done: list[float] = []

    class Parts:
        def stack(self) -> torch.Tensor:
            return torch.full((4,), done[-1])

    def step(self: Learner, batch: Any, rate: float) -> Parts:
        done.append(len(done) + 1.0)
        if len(done) == 1:
            signal.raise_signal(signal.SIGTERM)
        return Parts()

    monkeypatch.setattr(Learner, "step", step)
    return done


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_restarts_an_epoch_if_the_batch_has_changed(
    tmp_path: Path, root: Path, steps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(config(root, epochs=1, batch=2), run) == 128 + signal.SIGTERM
    capsys.readouterr()
    assert train(config(root, epochs=1, batch=1), run, resume=True) == 0
    assert steps == [1, 2, 3, 4, 5]
    assert logged(run)[0]["loss/box"] == (2 + 3 + 4 + 5) / 4
    said = capsys.readouterr().err
    assert "steps of an epoch 2, now 4, pictures a step 2, now 1" in said
    assert "epoch 1 starts again" in said


def test_continues_an_epoch_if_nothing_has_changed(
    tmp_path: Path, root: Path, steps: list[float]
) -> None:
    run = tmp_path / "run"
    train(config(root, epochs=1), run)
    assert train(config(root, epochs=1), run, resume=True) == 0
    assert steps == [1, 2]
    assert logged(run)[0]["loss/box"] == (1 + 2) / 2


def test_resumes_after_a_kill_right_after_the_first_weights(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = config(root, epochs=1, evaluate__every=1)
    original = RunFolder.save_weights

    def dying(self: RunFolder, *arguments: Any) -> None:
        original(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save_weights", dying)
        with pytest.raises(KeyboardInterrupt):
            train(settings, run)
    assert (run / "run.npz").exists()
    assert train(settings, run, resume=True) == 0
    assert [line["epoch"] for line in logged(run)] == [1]


def test_does_not_repeat_a_finished_evaluation(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = config(root, epochs=2, evaluate__every=1)
    evaluated = []
    original = Validator.evaluate

    def evaluate(self: Validator, *arguments: Any) -> Any:
        evaluated.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(Validator, "evaluate", evaluate)
    plot = RunFolder.plot

    def stopped(self: RunFolder) -> None:
        plot(self)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "plot", stopped)
        assert train(settings, run) == 128 + signal.SIGTERM
    assert train(settings, run, resume=True) == 0
    assert len(evaluated) == 2
    assert [line["epoch"] for line in logged(run)] == [1, 2]


def test_drops_a_last_line_that_was_cut_off(tmp_path: Path, root: Path) -> None:
    folder = RunFolder(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"epoch": 1, "rate": 0.1}\n{"epoch": 2, "ra')
    folder.reopen(config(root), 2)
    assert metrics.read_text() == '{"epoch": 1, "rate": 0.1}\n'
    metrics.write_text('{"epo\n{"epoch": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 is not JSON; delete the line"):
        RunFolder(tmp_path).reopen(config(root), 2)


def test_histograms_leave_out_gradients_that_are_not_finite(tmp_path: Path, root: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install -e '.[train]'")
    model = TrainableNetwork(config(root).profile("new", 0))
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, torch.inf)
        if number:
            parameter.grad.view(-1)[0] = 1
    folder = RunFolder(tmp_path)
    folder.open_board(1, 1)
    folder.histograms(model, model, 1)
    folder.close()


def test_log_shows_repeated_steps_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install -e '.[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, epochs in ((1, (1, 2)), (2, (2, 3))):
        folder = RunFolder(tmp_path)
        folder.open_board(first, 10 * first - 9)
        for epoch in epochs:
            folder.epoch({"epoch": epoch, "rate": 0.1 * first})
            folder.step(10 * epoch, {"rate": 0.1 * first})
        folder.close()
    for place, tag, shown in (("", "rate", [1, 2, 3]), ("steps", "step/rate", [10, 20, 30])):
        events = EventAccumulator(str(tmp_path / "tensorboard" / place))
        events.Reload()
        assert [event.step for event in events.Scalars(tag)] == shown
        assert [round(event.value, 3) for event in events.Scalars(tag)] == [0.1, 0.2, 0.2]


def test_resumed_training_keeps_the_rate_of_its_last_step(root: Path) -> None:
    settings = config(root)
    with open_compute(settings) as compute:
        data = TrainingSet(settings)
        learner = Learner(settings, compute, data)
        learner.step(collate([data[key] for key in data.order(0)[:2]]), 0.000544)
        again = Learner(settings, compute, None)
        again.restore(learner.state())
    assert again.rate == 0.000544


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network.batch_norm", False),
        ("network.output.classes", ["car"]),
        ("network.architecture", "squeezedet-plus"),
        ("optimizer.kind", "sgd"),
    ],
)
def test_error_names_the_setting_that_cannot_change(root: Path, key: str, value: Any) -> None:
    before = config(root)
    after = config(root, **{key: value})
    with open_compute(before) as compute:
        state = Learner(before, compute, TrainingSet(before)).state()
        learner = Learner(after, compute, None)
        with pytest.raises(CheckpointError, match=rf"^{re.escape(key)} is .* and .* now") as caught:
            learner.restore(state)
        assert "\n" not in str(caught.value)


def test_each_process_resumes_with_its_own_random_numbers(
    tmp_path: Path, root: Path, steps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(config(root), run)
    state = load_checkpoint(run / "checkpoint.pt", CPU)
    assert len(state["random"]) == 1
    torch.manual_seed(7)
    state["random"].append({"cpu": torch.get_rng_state()})
    expected = torch.rand(3)
    training = loop.Training.__new__(loop.Training)
    settings = config(root)
    with open_compute(settings) as compute:
        training.config, training.compute = settings, loop.Compute(CPU, "fp32", rank=1, world=2)
        training._learner = Learner(settings, compute, None)
        training._batches = loop.Batches(TrainingSet(settings), 2, 1, 2)
        training._data = TrainingSet(settings)
        training._sums = torch.zeros(4)
        training._progress = loop.TrainingProgress(enabled=False)
        training._restore(state)
    assert torch.rand(3).equal(expected)


full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")


@full
def test_full_disk_keeps_the_last_checkpoint_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})
    (tmp_path / "checkpoint.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"checkpoint\.pt: cannot be written: No space left"):
        save_checkpoint(path, {"epoch": 2, "weights": torch.zeros(10_000)})
    assert load_checkpoint(path, CPU)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@full
def test_reports_a_full_disk_in_one_line(tmp_path: Path, root: Path) -> None:
    folder = RunFolder(tmp_path)
    for name, write in (
        ("versions.json", lambda: folder.create(config(root), "CPU")),
        ("metrics.jsonl", lambda: folder.epoch({"epoch": 1})),
        ("config.yaml", lambda: folder.reopen(config(root), 1)),
    ):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(UserError) as caught:
            write()
        assert str(caught.value) == f"{tmp_path}: cannot be written: No space left on device"


def test_reports_a_read_only_disk_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, os.strerror(30))

    weights = load_weights(DEFAULT)
    monkeypatch.setattr("numpy.savez", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"x\.npz: cannot be written: Read-only file system"):
        save_weights(weights, tmp_path / "x.npz")


def test_reports_a_killed_worker_in_one_line(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()
    original = TrainingSet.__getitem__

    def killed(self: TrainingSet, key: Any) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, key)

    monkeypatch.setattr(TrainingSet, "__getitem__", killed)
    settings = config(root, data__workers=1, network__batch_norm=False)
    with pytest.raises(UserError, match=r"^DataLoader worker .*data\.workers") as caught:
        train(settings, tmp_path / "run")
    assert "\n" not in str(caught.value)
