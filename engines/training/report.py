"""Write the folder of a training: its configuration, versions, progress and results."""

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
from squeezedrive.engines.json_text import load_json
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
    """Decorate a method: turn an OSError into a UserError of one line."""

    @wraps(method)
    def wrapped(self: RunFolder, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    return wrapped


class RunFolder:
    """The folder of one training. Each method raises UserError if a file cannot be written.

    - `config.yaml`: the whole configuration as used
    - `versions.json`: packages, Python, machine, git revision, seed
    - `metrics.jsonl`: one line for each epoch: losses, learning rate, time, AP if evaluated
    - `curves.png`: the same figures as curves, if Matplotlib is installed
    - `tensorboard/`: these and more, if TensorBoard is installed; its folder `steps`: single steps
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
        """Begin the report of a new training.

        Raises
        ------
        UserError
            If the folder already holds a training.
        """
        # A training that was cut off before its first checkpoint cannot be resumed.
        if self.checkpoint.exists():
            raise UserError(
                f"{self.path}: holds a training already; --resume continues it, another --out"
                " starts a new one"
            )
        if self.weights.exists():
            raise UserError(
                f"{self.weights}: belongs to a training whose checkpoint is missing; give another"
                " --out, or move these weights away"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config.to_yaml(), encoding="utf-8")
        self._metrics.unlink(missing_ok=True)
        versions = json.dumps(_versions(config.seed, device), indent=2)
        (self.path / "versions.json").write_text(versions + "\n", encoding="utf-8")

    @_written
    def reopen(self, config: TrainConfig, epoch: int) -> None:
        """Continue a training after `epoch` complete epochs; later lines of figures are dropped."""
        self.config.write_text(config.to_yaml(), encoding="utf-8")
        if self._metrics.exists():
            self._epochs = [line for line in _read_lines(self._metrics) if line["epoch"] <= epoch]
        text = "".join(json.dumps(line) + "\n" for line in self._epochs)
        self._metrics.write_text(text, encoding="utf-8")

    @_written
    def open_board(self, epoch: int, step: int) -> bool:
        """Open TensorBoard's log; return False if TensorBoard is not installed.

        `epoch` and `step`, counted from 1, come next; TensorBoard hides older entries from there
        on.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return False
        folder = self.path / "tensorboard"
        self._board = SummaryWriter(str(folder), purge_step=epoch)
        # Steps have a log of their own, because entries are dropped by step there and by epoch
        # here.
        self._steps_board = SummaryWriter(str(folder / "steps"), purge_step=step)
        return True

    @_written
    def step(self, step: int, values: dict[str, float]) -> None:
        """Write the figures of a single step."""
        if self._steps_board is not None:
            for name, value in values.items():
                self._steps_board.add_scalar(f"step/{name}", value, step)

    @_written
    def epoch(self, values: dict[str, Any]) -> None:
        """Write the figures of an epoch, counted from 1; infinite figures and NaN become null."""
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
        """Write pictures with their boxes to TensorBoard, the same pictures each time."""
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
        """Write histograms of weights and of the last step's gradients to TensorBoard."""
        if self._board is None:
            return
        for name, values in kept.to_arrays().items():
            self._board.add_histogram(f"weights/{name}", values, epoch)
        for name, parameter in learning.named_parameters():
            if parameter.grad is not None:
                # With fp16, some gradients are infinite in a step that is skipped for this reason.
                finite = parameter.grad[parameter.grad.isfinite()]
                if len(finite):
                    label = name.removeprefix("units.")
                    self._board.add_histogram(f"gradients/{label}", finite, epoch)

    @_written
    def plot(self) -> None:
        """Draw curves.png."""
        if self._epochs:
            plot_curves(self._epochs, self.path / "curves.png")

    def save_weights(
        self,
        model: TrainableNetwork,
        config: TrainConfig,
        training: dict[str, Any],
        scores: dict[str, Any],
    ) -> None:
        """Write weights and profile, and an int8 model if trained for it; replace older files."""
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
    """Read lines of JSON; a last line that a power failure cut off is dropped."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(load_json(line))
        except ValueError:
            if number < len(lines):
                raise UserError(
                    f"{path}: line {number} is not JSON; delete the line to continue"
                ) from None
    return values


def stored_config(path: Path) -> Path:
    """Return the path of a training's stored configuration.

    Raises
    ------
    CheckpointError
        If the folder holds no training.
    """
    if not (path / "config.yaml").is_file():
        raise CheckpointError(f"{path}: no training here; train without --resume starts one")
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
    """Return the checkout's revision, with "-dirty" if files were changed; None without a checkout.

    An installed package may lie in the checkout of another project, whose revision is meaningless.
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
