"""Whole trainings: learning, stopping, exact resuming, and the files that they write."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

import torch

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.cli import train as verb
from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.errors import ConfigError, UserError, WeightsError
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.engines.settings import parse_setting
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.device import open_compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.loop import train
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.optimize import (
    Average,
    clip_gradients,
    learning_rate,
    make_optimizer,
    set_rate,
)
from squeezedrive.engines.training.validate import Validator
from tests.support.rectangles import PLAIN, small, write_kitti


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti") / "set", 4)


def config(root: Path, **keys: Any) -> Any:
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    return load_train_config(None, [*plain, *small(root, **keys)])


def test_losses_fall_and_the_network_finds_the_objects(tmp_path: Path, root: Path) -> None:
    out = tmp_path / "learned"
    settings = config(
        root, epochs=40, batch=4, ema=0.9, network__init=str(DEFAULT), network__freeze="pool3",
        schedule__warmup=2, evaluate__every=40, optimizer__rate=0.002,
    )  # fmt: skip
    assert train(settings, out) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert lines[-1]["loss/total"] < 0.5 * lines[0]["loss/total"]
    for name in ("class", "confidence_positive", "box"):
        assert lines[-1][f"loss/{name}"] < lines[0][f"loss/{name}"]
    # Four objects fill 4 of KITTI's 41 recall positions; only one of them is among the 11.
    assert lines[-1]["AP11/car/moderate"] == pytest.approx(1 / 11)
    weights = load_weights(out / "learned.npz")
    assert weights.profile.name == "learned"
    assert weights.profile.training["epochs"] == "40 of 40"
    assert weights.profile.evaluation["set/val, 4 pictures"]["mAP"] == round(lines[-1]["mAP"], 4)
    versions = json.loads((out / "versions.json").read_text())
    assert versions["packages"]["torch"] == torch.__version__
    assert load_train_config(out / "config.yaml") == settings
    assert (out / "curves.png").stat().st_size > 1000
    with pytest.raises(UserError, match="holds a training already"):
        train(settings, out)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Send SIGTERM to this process after this number of steps."""
    done = 0
    original = Learner.step

    def step(self: Learner, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == steps:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Learner, "step", step)


def test_resumed_training_gives_the_same_weights(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"network__dropout": 0.3, "ema": 0.9, "augment__flip": 0.5}
    whole, parts = tmp_path / "same", tmp_path / "parts" / "same"
    assert train(config(root, **keys), whole) == 0
    with monkeypatch.context() as patched:
        stop_after(patched, 3)  # in the middle of the second epoch
        assert train(config(root, **keys), parts) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (parts / "same.npz").exists()
    assert train(config(root, **keys), parts, resume=True) == 0
    first, second = load_weights(whole / "same.npz"), load_weights(parts / "same.npz")
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])
    logs = [[json.loads(x) for x in (p / "metrics.jsonl").open()] for p in (whole, parts)]
    for a, b in zip(*logs, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_repeats_an_evaluation_that_a_signal_stopped(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(root, epochs=1, evaluate__every=1)
    original = Validator.evaluate

    def interrupted(self: Validator, *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Validator, "evaluate", interrupted)
        assert train(settings, tmp_path / "run") == 128 + signal.SIGINT
    assert not (tmp_path / "run/metrics.jsonl").exists()
    assert train(settings, tmp_path / "run", resume=True) == 0
    assert "mAP" in json.loads((tmp_path / "run/metrics.jsonl").read_text())


@pytest.mark.parametrize("recipe", ["paper.yaml", "default.yaml", "plus.yaml"])
def test_each_recipe_can_train(tmp_path: Path, root: Path, recipe: str) -> None:
    settings = [*small(root), ("epochs", 1), ("batch", 4)]
    if recipe != "plus.yaml":
        settings.append(("network.init", str(DEFAULT)))
    if recipe == "paper.yaml":
        settings.append(("network.padding", "symmetric"))
    chosen = load_train_config(CONFIGS / "training" / recipe, settings)
    assert train(chosen, tmp_path / "step") == 0
    weights = load_weights(tmp_path / "step/step.npz")
    assert weights.profile.network == chosen.network.architecture
    assert weights.profile.padding == chosen.network.padding


def test_plus_recipe_has_the_published_network() -> None:
    plus = load_train_config(CONFIGS / "training" / "plus.yaml")
    head = plus.profile("plus", 0).head(*plus.window)
    assert head.output_shape == (72, 22, 76)
    assert head.channels[1].tolist() == [3, 4, 5, 28, 40, 41, 42, 43]
    assert head.anchors[0].tolist() == pytest.approx([1242 / 77, 375 / 23, 36, 37])


def test_trains_with_valid_padding_in_windows(tmp_path: Path, root: Path) -> None:
    """With valid padding, the sizes of windows and pictures need not be multiples of 16."""
    settings = config(
        root, epochs=1, batch=4, network__init=None, network__padding="valid",
        network__input__width=311, network__input__height=93, augment__window=[101, 67],
        evaluate__every=1,
    )  # fmt: skip
    assert train(settings, tmp_path / "windows") == 0
    weights = load_weights(tmp_path / "windows/windows.npz")
    assert weights.profile.head(311, 93).output_shape == (24, 4, 18)


def test_paper_recipe_has_the_published_values() -> None:
    paper = load_train_config(CONFIGS / "training" / "paper.yaml")
    assert (paper.batch, paper.network.dropout, paper.network.freeze) == (20, 0.5, "conv1")
    assert not paper.network.batch_norm
    o, s, l = paper.optimizer, paper.schedule, paper.loss  # noqa: E741
    assert (o.kind, o.rate, o.momentum, o.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (o.clip, o.clip_by) == (1.0, "variable")
    assert (l.kind, l.class_, l.confidence_positive, l.confidence_negative, l.box) == (
        "published", 1, 75, 100, 5,
    )  # fmt: skip
    rates = [learning_rate(n, 45, 300, o.rate, s) for n in (0, 9_999, 10_000, 20_000)]
    assert rates == [0.01, 0.01, 0.005, 0.0025]


def test_cosine_schedule_rises_and_falls() -> None:
    schedule = load_train_config(None, [("schedule.warmup", 1), ("schedule.final", 0.1)]).schedule
    rates = [learning_rate(n, 10, 11, 1.0, schedule) for n in range(110)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 11)
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.55)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.001)


def test_clips_gradients_by_variable_or_together() -> None:
    for by, expected in (("variable", (1.0, 0.5)), ("global", (3 / 3.0414, 0.5 / 3.0414))):
        optimizer = load_train_config(
            None, [("optimizer.clip", 1), ("optimizer.clip_by", by)]
        ).optimizer
        a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
        a.grad, b.grad = torch.tensor([3.0]), torch.tensor([0.5])
        clip_gradients([a, b], optimizer)
        assert (float(a.grad), float(b.grad)) == pytest.approx(expected, rel=1e-3)


def test_average_follows_the_weights() -> None:
    model = TrainableNetwork(load_weights(DEFAULT).profile)
    with torch.no_grad():
        model.unit("conv1").conv.bias.zero_()
        average = Average(model, decay=0.5)
        model.unit("conv1").conv.bias.fill_(1)
    seen = []
    for _ in range(10):
        average.update(model)
        seen.append(float(average.model.unit("conv1").conv.bias[0]))
    assert seen[0] == pytest.approx(0.9)  # the first update uses a decay of 1/10
    assert seen[1] == pytest.approx(1 - 0.1 * 2 / 11)
    assert float(model.unit("conv1").conv.bias.detach()[0]) == 1


def test_stops_if_the_loss_is_not_finite(tmp_path: Path, root: Path) -> None:
    settings = config(root, optimizer__kind="sgd", optimizer__rate=1e18, optimizer__clip=0)
    with pytest.raises(UserError, match=r"not finite any more in epoch 1.*optimizer\.rate"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run/run.npz").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.rat=1", "unknown key optimizer.rat, did you mean optimizer.rate?"),
        ("epochs=0", "epochs: expected greater than or equal to 1, got 0"),
        ("augment.zoom=[2, 1]", "the smaller first"),
        ("network.architecture=yolo", "expected one of squeezedet, squeezedet-plus, got 'yolo'"),
        ("network.input.width=1242", "multiples of 16 pixels .* got 1242x384"),
        ("augment.window=[640, 350]", "multiples of 16 pixels .* got 640x350"),
        ("loss=3", r"loss: expected keys \(kind, class, .*\), got 3"),
    ],
)
def test_rejects_wrong_settings(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config(None, [parse_setting(setting)[1:]])


def test_rejects_settings_that_contradict_each_other() -> None:
    valid = ("network.padding", "valid")
    assert load_train_config(None, [valid, ("augment.window", [99, 31])]).window == (99, 31)
    with pytest.raises(ConfigError, match=r"at least 31x31 pixels .* got 99x30"):
        load_train_config(None, [valid, ("augment.window", [99, 30])])
    # Even centres depend on the size: a window and the whole input would have different ones.
    even = ("network.anchors.centres", "even")
    assert load_train_config(None, [even, ("augment.window", [1248, 384])])
    with pytest.raises(ConfigError, match=r"augment\.window: expected null, .* even"):
        load_train_config(None, [even, ("augment.window", [640, 352])])


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_options(parser)
    return parser.parse_args(arguments)


def test_command_line_trains_and_resumes(tmp_path: Path, root: Path) -> None:
    settings = [f"{key}={json.dumps(value)}" for key, value in small() if key != "data.sets"]
    flags = [flag for text in [*settings, "epochs=1"] for flag in ("--set", text)]
    out = str(tmp_path / "run")
    done = verb.run(parse("--data", str(root), "--init", str(DEFAULT), "--out", out, *flags))
    assert done == 0
    assert verb.run(parse("--resume", "--out", out, "--set", "epochs=2")) == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    with pytest.raises(UserError, match="no data set to train on"):
        verb.run(parse("--out", str(tmp_path / "other")))
    with pytest.raises(UserError, match="no training here; train without --resume starts one"):
        verb.run(parse("--resume", "--out", str(tmp_path / "other")))
    with pytest.raises(UserError, match="--resume takes"):
        verb.run(parse("--resume", "--data", str(root), "--out", out))


def test_exports_the_latest_weights_of_a_training(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its first evaluation, a training has a checkpoint but no best weights."""
    run, out = tmp_path / "run", tmp_path / "now.npz"
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        assert train(config(root, ema=0.9), run) == 128 + signal.SIGTERM
    assert main(["export", str(out), "--run", str(run)]) == 0
    weights = load_weights(out)
    assert weights.profile.name == "now"
    assert weights.profile.training["epochs"] == "1 and 1 steps of 2"
    assert train(config(root, ema=0.9), run, resume=True) == 0
    assert main(["export", str(out), "--run", str(run), "--overwrite"]) == 0
    for name, array in load_weights(out).arrays.items():
        np.testing.assert_array_equal(array, load_weights(run / "run.npz").arrays[name])
    model = tmp_path / "now.onnx"
    assert main(["export", str(model), "--run", str(run), "--precision", "fp16"]) == 0
    assert 3.5e6 < model.stat().st_size < 4.5e6
    capsys.readouterr()
    assert main(["export", str(tmp_path / "other.npz"), "--run", str(tmp_path)]) == 2
    assert "no training here" in capsys.readouterr().err


def test_a_training_without_a_checkpoint_starts_again(tmp_path: Path, root: Path) -> None:
    """A power failure in the first two minutes leaves a training without a checkpoint."""
    settings = config(root, epochs=1)
    train(settings, tmp_path / "run")
    (tmp_path / "run/checkpoint.pt").unlink()
    with pytest.raises(
        UserError, match=r"run\.npz: belongs to a training whose checkpoint is missing"
    ):
        train(settings, tmp_path / "run")
    (tmp_path / "run/run.npz").unlink()
    with pytest.raises(UserError, match="no checkpoint yet; train without --resume starts again"):
        train(settings, tmp_path / "run", resume=True)
    assert train(settings, tmp_path / "run") == 0
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 1


def test_paths_relative_to_a_recipe_stay_valid_when_resuming(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path("recipes/mine.yaml")
    recipe.parent.mkdir()
    (tmp_path / "data").symlink_to(root)
    recipe.write_text(
        "network: {init: ../start.npz}\ndata: {sets: [{root: ../data}]}\n"
        "evaluate: {roots: [../data]}\n"
    )
    (tmp_path / "start.npz").write_bytes(DEFAULT.read_bytes())
    (tmp_path / "start.json").write_bytes(DEFAULT.with_suffix(".json").read_bytes())
    settings = [pair for pair in small(epochs=1) if pair[0] != "data.sets"]
    assert train(load_train_config(recipe, settings), Path("runs/mine")) == 0
    again = load_train_config(Path("runs/mine/config.yaml"), [("epochs", 2)])
    assert train(again, Path("runs/mine"), resume=True) == 0


def test_rejects_a_damaged_checkpoint(tmp_path: Path, root: Path) -> None:
    train(config(root, epochs=1), tmp_path / "run")
    (tmp_path / "run/checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="damaged checkpoint"):
        train(config(root), tmp_path / "run", resume=True)


def test_early_layers_may_learn_slower(root: Path) -> None:
    settings = config(root, optimizer__slow_share=0.25)
    model = TrainableNetwork(settings.profile("slow", 0))
    model.freeze("pool3")
    optimizer = make_optimizer(model, settings.optimizer, "fire9")
    set_rate(optimizer, 0.01)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    units = {name: model.unit(name).conv for name in model.units}
    assert id(units["fire3_expand3x3"].weight) not in rates
    assert rates[id(units["fire4_squeeze1x1"].weight)] == 0.0025
    assert rates[id(units["fire9_expand3x3"].bias)] == 0.0025
    assert rates[id(units["fire10_squeeze1x1"].weight)] == 0.01
    assert rates[id(units["conv12"].bias)] == 0.01
    assert decays[id(units["conv12"].weight)] == settings.optimizer.weight_decay
    assert decays[id(units["conv12"].bias)] == 0
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert rates.keys() == {id(p) for p in trainable}
    with pytest.raises(WeightsError, match="no layer 'fire99'; there are conv1, pool1, fire2"):
        model.names_through("fire99")


def test_tensorboard_shows_losses_pictures_weights_and_gradients(
    tmp_path: Path, root: Path
) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install -e '.[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "shown"
    assert train(config(root, epochs=1, batch=4, evaluate__every=1), out) == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    for name in ("class", "confidence_positive", "confidence_negative", "box"):
        assert f"loss/{name}" in tags["scalars"]
    assert {"rate", "mAP", "AP11/cyclist/hard"} <= set(tags["scalars"])
    assert len(tags["images"]) == 4
    assert {"weights/fire4_squeeze1x1_w", "gradients/conv12.conv.weight"} <= set(tags["histograms"])
    gradients = events.Histograms("gradients/conv12.conv.weight")[0].histogram_value
    assert gradients.min < 0 < gradients.max


def test_random_weights_are_neither_frozen_nor_slow(root: Path) -> None:
    settings = config(root, network__freeze="pool3", optimizer__slow_through="fire9")
    with open_compute(settings) as compute:
        learner = Learner(settings, compute, TrainingSet(settings))
    assert all(parameter.requires_grad for parameter in learner.model.parameters())
    started = config(
        root, network__freeze="pool3", optimizer__slow_through="fire9", network__init=str(DEFAULT)
    )
    with open_compute(started) as compute:
        learner = Learner(started, compute, TrainingSet(started))
    frozen = {name for name, p in learner.model.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1].split("_")[0] for name in frozen} == {"conv1", "fire2", "fire3"}


def test_resumed_training_uses_the_configured_optimiser_settings(
    root: Path,
) -> None:
    before = config(root, optimizer__weight_decay=0.1, optimizer__momentum=0.8)
    after = config(root, optimizer__weight_decay=0.2, optimizer__momentum=0.7)
    with open_compute(before) as compute:
        state = Learner(before, compute, TrainingSet(before)).state()
        learner = Learner(after, compute, None)
        learner.restore(state)
    groups = learner._optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.2, 0.0}
    assert {group["betas"] for group in groups} == {(0.7, 0.999)}
