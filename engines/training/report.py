"""The folder of a training, which explains itself: what was done, with what, and what came out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import write_whole
from squeezedrive.engines.model.weights import Weights, save_weights
from squeezedrive.engines.training.checkpoint import CheckpointError
from squeezedrive.engines.training.config import TrainConfig
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.pictures import draw_comparison, plot_curves
from squeezedrive.engines.training.rounding import build_int8
from squeezedrive.engines.training.validate import Validator

PACKAGES = ("torch", "numpy", "opencv-python-headless", "openvino", "pydantic", "tensorboard")
ROOT = Path(__file__).resolve().parent.parent.parent

P = ParamSpec("P")
T = TypeVar("T")


def _written(
    method: Callable[Concatenate[RunFolder, P], T],
) -> Callable[Concatenate[RunFolder, P], T]:
    """Say in one line why something cannot be written."""

    @wraps(method)
    def wrapped(self: RunFolder, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    return wrapped


class RunFolder:
    """Writes what belongs to one training; each method raises UserError if it cannot be written.

    - `config.yaml`: the whole configuration as used
    - `versions.json`: packages, Python, machine, git revision, seed
    - `metrics.jsonl`: one line for each epoch: losses, learning rate, time, AP if evaluated
    - `curves.png`: the same as curves, if Matplotlib is installed
    - `tensorboard/`: the same and more, if TensorBoard is installed; `steps` in it: single steps
    - `checkpoint.pt`: the state to resume from
    - `NAME.npz`, `NAME.json`: the best weights so far and their profile; NAME is the folder's name
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / f"{path.resolve().name}.npz"
        self._metrics = path / "metrics.jsonl"
        self._epochs: list[dict[str, Any]] = []
        self._board: Any = None
        self._steps_board: Any = None

    @_written
    def create(self, config: TrainConfig, device: str) -> None:
        """Begin a new training.

        Raises
        ------
        UserError
            If the folder holds one already.
        """
        # One that was cut off before its first checkpoint has left nothing to go on with.
        if self.checkpoint.exists():
            raise UserError(
                f"{self.path}: holds a training already; --resume goes on with it, another --out"
                " begins anew"
            )
        if self.weights.exists():
            raise UserError(
                f"{self.weights}: weights of a training whose checkpoint is gone; another --out"
                " begins anew, or this one if they are moved away"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config.to_yaml(), encoding="utf-8")
        self._metrics.unlink(missing_ok=True)
        versions = json.dumps(_versions(config.seed, device), indent=2)
        (self.path / "versions.json").write_text(versions + "\n", encoding="utf-8")

    @_written
    def reopen(self, config: TrainConfig, epoch: int) -> None:
        """Go on with a training at an epoch: what was noted of it and later ones is dropped."""
        self.config.write_text(config.to_yaml(), encoding="utf-8")
        if self._metrics.exists():
            self._epochs = [line for line in _read_lines(self._metrics) if line["epoch"] <= epoch]
        text = "".join(json.dumps(line) + "\n" for line in self._epochs)
        self._metrics.write_text(text, encoding="utf-8")

    @_written
    def open_board(self, epoch: int, step: int) -> bool:
        """Open TensorBoard's log; return False if it is not installed.

        Epoch and step, from 1, are what comes next: what the log holds from there on is not shown.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return False
        folder = self.path / "tensorboard"
        self._board = SummaryWriter(str(folder), purge_step=epoch)
        # By itself, as it counts steps: what is dropped there is not what is dropped here.
        self._steps_board = SummaryWriter(str(folder / "steps"), purge_step=step)
        return True

    @_written
    def step(self, step: int, values: dict[str, float]) -> None:
        """Note figures of a single step."""
        if self._steps_board is not None:
            for name, value in values.items():
                self._steps_board.add_scalar(f"step/{name}", value, step)

    @_written
    def epoch(self, values: dict[str, Any]) -> None:
        """Note an epoch: `epoch` counts from 1, figures that are not finite become null."""
        line = {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in values.items()
        }
        self._epochs.append(line)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for key, value in line.items():
                if key != "epoch" and value is not None:
                    self._board.add_scalar(key, value, line["epoch"])

    @_written
    def pictures(
        self, model: TrainableNetwork, validator: Validator, count: int, epoch: int
    ) -> None:
        """Note the same pictures with boxes in TensorBoard."""
        if self._board is None:
            return
        chosen = validator.sets[0]
        dataset = chosen.dataset
        spread = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
        items = tuple(dataset.items[i] for i in spread)
        few = replace(chosen, dataset=replace(dataset, items=items))
        for item, (image, found) in zip(items, validator.detect(model, few), strict=True):
            drawn = draw_comparison(image, item, found, dataset.classes)
            # Pictures in different folders may have the same name.
            name = f"pictures/{os.path.relpath(item.image, dataset.root)}"
            self._board.add_image(name, drawn[..., ::-1].copy(), epoch, dataformats="HWC")

    @_written
    def histograms(self, kept: TrainableNetwork, learning: TrainableNetwork, epoch: int) -> None:
        """Note how the weights are spread, and the gradients of the last step, in TensorBoard."""
        if self._board is None:
            return
        for name, values in kept.to_arrays().items():
            self._board.add_histogram(f"weights/{name}", values, epoch)
        for name, parameter in learning.named_parameters():
            if parameter.grad is not None:
                # With fp16 some are infinite in a step that was therefore left out.
                finite = parameter.grad[parameter.grad.isfinite()]
                if len(finite):
                    label = name.removeprefix("units.")
                    self._board.add_histogram(f"gradients/{label}", finite, epoch)

    @_written
    def plot(self) -> None:
        """Draw the curves."""
        if self._epochs:
            plot_curves(self._epochs, self.path / "curves.png")

    def save_weights(
        self,
        model: TrainableNetwork,
        config: TrainConfig,
        training: dict[str, Any],
        scores: dict[str, Any],
    ) -> None:
        """Write weights and profile in place of those before, and an int8 model if there is one."""
        arrays = model.to_arrays()
        profile = config.profile(self.weights.stem, sum(array.size for array in arrays.values()))
        update = {"training": training, "evaluation": scores}
        weights = Weights(profile.model_copy(update=update), arrays)
        save_weights(weights, self.weights)
        if model.limits:
            path = self.weights.with_suffix(".int8.onnx")
            write_whole(path, build_int8(weights, model.limits).SerializeToString())

    @_written
    def close(self) -> None:
        """Finish TensorBoard's log."""
        for board in (self._board, self._steps_board):
            if board is not None:
                board.close()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Read lines of JSON; the last one may have been cut off by a power cut and is then dropped."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise UserError(f"{path}: line {number} is not JSON; delete it to go on") from None
    return values


def stored_config(path: Path) -> Path:
    """Return the configuration of a training that was begun.

    Raises
    ------
    CheckpointError
        If the folder holds no training.
    """
    if not (path / "config.yaml").is_file():
        raise CheckpointError(f"{path}: no training here; train without --resume begins one")
    return path / "config.yaml"


def _versions(seed: int, device: str) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "seed": seed,
        "git": _git_revision(),
        "device": device,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
    }


def _git_revision() -> str | None:
    """Return the checkout's revision, with "-dirty" if files were changed; None without one.

    An installed package may lie in the checkout of something else, whose revision means nothing.
    """
    try:
        done = subprocess.run(
            ["git", "--git-dir=.git", "describe", "--always", "--dirty", "--abbrev=40",
             "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
