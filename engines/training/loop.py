"""The training itself: epochs, evaluation, and going on where it stopped."""

from __future__ import annotations

import importlib.util
import math
import time
from pathlib import Path
from typing import Any

import torch

from engines.errors import UserError
from engines.training.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from engines.training.config import TrainConfig
from engines.training.data import Batches, TrainingSet, make_loader
from engines.training.device import Compute, open_compute
from engines.training.learner import Learner
from engines.training.loss import NAMES
from engines.training.optimize import learning_rate
from engines.training.progress import Position, Progress
from engines.training.report import RunFolder
from engines.training.stop import StopSignal
from engines.training.validate import Scores, Validator


def train(config: TrainConfig, out: Path, resume: bool = False) -> int:
    """Train a network.

    Parameters
    ----------
    config : TrainConfig
        Everything there is to know.
    out : Path
        Folder of this training; see `RunFolder`.
    resume : bool
        Go on with the training that is in `out`.

    Returns
    -------
    int
        0 when done; 128 + the signal's number if stopped by SIGINT or SIGTERM, after writing a
        checkpoint.

    Raises
    ------
    UserError
        If a data set, weights or the machine cannot be used, or the loss grows beyond all bounds.
    """
    if not config.data.sets:
        raise UserError("no data set to train on: give --data ROOT")
    with open_compute(config) as compute, StopSignal() as stop:
        training = Training(config, RunFolder(out), compute, stop, resume)
        try:
            training.run()
        finally:
            training.folder.close()
    return 128 + stop.number if stop.number else 0


class Training:
    """A network that learns, its data, and its place in the training."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        compute: Compute,
        stop: StopSignal,
        resume: bool,
    ) -> None:
        self.config, self.folder, self.compute = config, folder, compute
        self._stop = stop
        self._progress = Progress(quiet=not compute.first)
        torch.manual_seed(config.seed + compute.rank)
        self._data = TrainingSet(config)
        self._batches = Batches(self._data, config.batch, compute.rank, compute.world)
        self._validator = None
        if config.evaluate.every and compute.first:
            self._validator = Validator(config, compute.device)
        self._best = -math.inf
        self._sums = torch.zeros(len(NAMES), device=compute.device)
        self._saved = time.monotonic()
        state = load_checkpoint(folder.checkpoint, compute.device) if resume else None
        self._learner = Learner(config, compute, self._data if state is None else None)
        if state is not None:
            self._restore(state)
        self._loader = make_loader(
            self._data, self._batches, config.data.workers, compute.device.type == "cuda"
        )
        if compute.first:
            self._open_folder(resume)

    def _open_folder(self, resume: bool) -> None:
        config = self.config
        if resume:
            self.folder.reopen(config, self._batches.epoch)
        else:
            self.folder.create(config, str(self.compute))
            # By layer: fire10_squeeze1x1 and its expansions are all of fire10.
            new = ", ".join(dict.fromkeys(name.split("_")[0] for name in self._learner.fresh))
            start = f"{config.network.init}; random there: {new or 'nothing'}"
            self._progress.say(f"start: {start if config.network.init else 'random weights'}")
        if not self.folder.open_board():
            self._progress.say("TensorBoard is not installed: its log is left out")
        if importlib.util.find_spec("matplotlib") is None:
            self._progress.say("Matplotlib is not installed: curves.png is left out")
        self._progress.say(
            f"training on {self.compute}: {len(self._data)} pictures,"
            f" {len(self._batches)} steps of {config.batch} an epoch"
        )

    def run(self) -> None:
        """Train until the last epoch or a signal."""
        every = self.config.evaluate.every
        while self._batches.epoch < self.config.epochs:
            began = time.monotonic()
            done = self._batches.epoch + 1
            last = done == self.config.epochs
            due = bool(every) and (done % every == 0 or last)
            stopped = self._run_epoch()
            if not stopped:
                if self.compute.first:
                    self._finish_epoch(done, due, time.monotonic() - began)
                # A signal during the evaluation leaves the epoch to be evaluated again.
                stopped = self.compute.any(self._stop.came())
            if stopped:
                self._save()
                self._progress.say(f"stopped; train --resume --out {self.folder.path} goes on")
                return
            self._batches.epoch, self._batches.skip = done, 0
            self._sums.zero_()
            if due or last or self._time_to_save():
                self._save()
        self._progress.say(f"done: {self.folder.path}")

    def _run_epoch(self) -> bool:
        """Train the rest of an epoch; return whether it was stopped."""
        config, steps = self.config, len(self._batches)
        epoch, step = self._batches.epoch, self._batches.skip
        self._progress.pause()
        for batch in self._loader:
            number = epoch * steps + step
            rate = learning_rate(
                number, steps, config.epochs, config.optimizer.rate, config.schedule
            )
            self._sums += self._learner.step(batch, rate).stack()
            step += 1
            if self._progress.tick():
                self._report(Position(epoch, config.epochs, step, steps), rate)
            stopped = self.compute.any(self._stop.came())
            if stopped or self._time_to_save():
                self._batches.skip = step
                if stopped:
                    return True
                self._save()
                self._progress.pause()
        self._batches.skip = steps
        return False

    def _report(self, position: Position, rate: float) -> None:
        losses = self._losses(position.step)
        self._progress.show(position, losses, rate, self.config.batch * self.compute.world)
        if self.compute.first:
            values = {**{f"loss/{name}": value for name, value in losses.items()}, "rate": rate}
            self.folder.step(position.epoch * position.steps + position.step, values)

    def _losses(self, steps: int) -> dict[str, float]:
        """Return the mean of each part of the loss over so many steps of this epoch."""
        losses = dict(zip(NAMES, (self._sums / max(steps, 1)).tolist(), strict=True))
        if not all(map(math.isfinite, losses.values())):
            raise UserError(
                f"the loss is not finite any more in epoch {self._batches.epoch + 1}: {losses};"
                " try a lower learning rate, --set optimizer.rate=..., or precision fp32"
            )
        return losses

    def _finish_epoch(self, done: int, due: bool, seconds: float) -> None:
        """Note an epoch and evaluate if it is due; nothing if a signal comes meanwhile."""
        losses = self._losses(len(self._batches))
        line: dict[str, Any] = {"epoch": done, "loss/total": sum(losses.values())}
        line |= {f"loss/{name}": value for name, value in losses.items()}
        line |= {"rate": self._learner.rate, "seconds": round(seconds, 2)}
        last = done == self.config.epochs
        if due and self._validator is not None:
            scores = self._validator.evaluate(self._learner.evaluated, self._stop.came)
            if scores is None:
                return
            line |= scores.metrics
            self._keep(scores, done)
        elif last:
            self._save_weights({}, done)
        self.folder.epoch(line)
        if due or last:
            self.folder.plot()

    def _keep(self, scores: Scores, done: int) -> None:
        """Write the weights if they are the best so far, and show what they find."""
        better = not scores.mean_ap <= self._best
        if better:
            self._best = scores.mean_ap
            self._save_weights(scores.summary, done)
        assert self._validator is not None
        count = self.config.evaluate.pictures
        self.folder.pictures(self._learner.evaluated, self._validator, count, done)
        self.folder.histograms(self._learner.evaluated, self._learner.model, done)
        best = ", the best so far" if better else f", the best was {self._best:.4f}"
        self._progress.say(f"epoch {done}: mAP {scores.mean_ap:.4f}{best}")

    def _save_weights(self, scores: dict[str, Any], done: int) -> None:
        config, init = self.config, self.config.network.init
        training = {
            "data": [
                f"{Path(part.config.root).name}/{part.config.split}, {len(part.dataset)} pictures"
                f" x {part.config.weight:g}"
                for part in self._data.parts
            ],
            "start": Path(init).name if init else "random",
            "epochs": f"{done} of {config.epochs}",
            "batch": config.batch * self.compute.world,
            "seed": config.seed,
        }
        self.folder.save_weights(self._learner.evaluated, config, training, scores)

    def _time_to_save(self) -> bool:
        return time.monotonic() - self._saved >= self.config.checkpoint_seconds

    def _save(self) -> None:
        """Write a checkpoint, in the first process."""
        self._saved = time.monotonic()
        if not self.compute.first:
            return
        self._losses(1)  # weights that are not finite replace no good ones
        state = {
            **self._learner.state(),
            "epoch": self._batches.epoch,
            "step": self._batches.skip,
            "best": self._best,
            "sums": self._sums,
            "random": random_state(),
        }
        save_checkpoint(self.folder.checkpoint, state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self._learner.restore(state)
        self._batches.epoch, self._batches.skip = state["epoch"], state["step"]
        self._best = state["best"]
        self._sums.copy_(state["sums"])
        if self.compute.first:
            restore_random_state(state["random"])
