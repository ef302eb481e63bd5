"""Run a training: epochs, evaluation, checkpoints and resuming."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import readable
from squeezedrive.engines.signals import on_signals
from squeezedrive.engines.training.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from squeezedrive.engines.training.config import TrainConfig
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.device import Compute, open_compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.loader import Batches, make_loader, read_batches
from squeezedrive.engines.training.loss import NAMES
from squeezedrive.engines.training.optimize import learning_rate
from squeezedrive.engines.training.progress import Position, TrainingProgress
from squeezedrive.engines.training.report import RunFolder
from squeezedrive.engines.training.validate import Scores, Validator

SAVE, STOP = 1, 2  # requests of a process between two steps


def train(config: TrainConfig, out: Path, resume: bool = False) -> int:
    """Train a network, or resume its training, in the folder `out`; see `RunFolder`.

    Returns
    -------
    int
        0 when done. If SIGINT or SIGTERM stops the training, 128 + the signal's number, after
        writing a checkpoint; SIGHUP counts as SIGTERM.

    Raises
    ------
    UserError
        If a data set, weights or the machine cannot be used, or the loss is not finite any more.
    """
    if not config.data.sets:
        raise UserError("no data set to train on: give --data ROOT")
    signals: list[int] = []
    with open_compute(config) as compute, on_signals(signals.append, once=True):
        training = Training(config, RunFolder(out), compute, lambda: bool(signals), resume)
        try:
            training.run()
        except RuntimeError as error:
            # A signal handler of PyTorch raises it, so it can come from any place in the training.
            if not str(error).startswith("DataLoader worker"):
                raise
            raise UserError(
                f"{str(error).splitlines()[0].rstrip('. ')}: the system ends processes that prepare"
                " pictures if memory is short; use fewer with --set data.workers=...; then"
                " train --resume continues from the last checkpoint"
            ) from None
        finally:
            training.close()
    return 128 + signals[0] if signals else 0


class Training:
    """A network in training, its data, and its position in the training."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        compute: Compute,
        stopped: Callable[[], bool],
        resume: bool,
    ) -> None:
        self.config, self.folder, self.compute = config, folder, compute
        self._stopped = stopped
        self._progress = TrainingProgress(enabled=compute.first)
        torch.manual_seed(config.seed + compute.rank)
        self._data = TrainingSet(config)
        self._batches = Batches(self._data, config.batch, compute.rank, compute.world)
        self._validator = None
        if config.evaluate.every and compute.first:
            self._validator = Validator(config, compute.device)
        self._best = -math.inf
        self._stale = 0  # evaluations since the best one
        self._sums = torch.zeros(len(NAMES), device=compute.device)
        self._saved = time.monotonic()
        self._resumable = resume
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
        batches = self._batches
        first_epoch = batches.epoch + 1
        first_step = batches.epoch * len(batches) + batches.skip + 1
        if resume:
            self.folder.reopen(config, batches.epoch)
        else:
            self.folder.create(config, str(self.compute))
            # Listed by layer: fire10_squeeze1x1 and its expansions belong to fire10.
            new = ", ".join(dict.fromkeys(name.split("_")[0] for name in self._learner.fresh))
            start = f"{config.network.init}; random layers: {new or 'none'}"
            self._progress.say(f"start: {start if config.network.init else 'random weights'}")
        for part in self._data.parts:
            self._progress.say(str(part))
        if not self.folder.open_board(first_epoch, first_step):
            self._progress.say("TensorBoard is not installed: no log is written for it")
        if importlib.util.find_spec("matplotlib") is None:
            self._progress.say("Matplotlib is not installed: curves.png is not drawn")
        self._progress.say(
            f"training on {self.compute}: {len(self._data)} pictures,"
            f" {len(batches)} steps of {config.batch} per epoch"
        )

    def close(self) -> None:
        """Close the folder's open files, and end the progress line."""
        self.folder.close()
        self._progress.close()

    def run(self) -> None:
        """Train until the last epoch, the end of the patience, or a signal."""
        every = self.config.evaluate.every
        while self._batches.epoch < self.config.epochs and not self._out_of_patience():
            began = time.monotonic()
            done = self._batches.epoch + 1
            last = done == self.config.epochs
            due = bool(every) and (done % every == 0 or last)
            stopped = self._run_epoch()
            if not stopped:
                seconds = time.monotonic() - began
                if (due or last) and not self._resumable:
                    self._save()  # weights without a checkpoint could not be resumed
                # After a signal during the evaluation, the epoch is evaluated again on resuming.
                finished = not self.compute.first or self._finish_epoch(done, due, seconds)
                if not self.compute.highest(int(not finished)):
                    self._batches.epoch, self._batches.skip = done, 0
                    self._sums.zero_()
                wish = self._wish()
                stopped = wish == STOP
                if not stopped and (due or last or wish == SAVE):
                    self._save()
            if stopped:
                self._save()
                self._progress.say(f"stopped; train --resume --out {self.folder.path} continues")
                return
        self._progress.say(f"done: {self.folder.path}")

    def _out_of_patience(self) -> bool:
        """Return whether the mean AP has not risen for too long; all processes must call this."""
        patience = self.config.evaluate.patience
        # Only the first process evaluates.
        if patience is None or not self.compute.highest(int(self._stale >= patience)):
            return False
        self._progress.say(
            f"ended after epoch {self._batches.epoch} of {self.config.epochs}: no mAP above"
            f" {self._best:.4f} in {self._stale} evaluations, evaluate.patience is {patience}"
        )
        return True

    def _run_epoch(self) -> bool:
        """Train the rest of an epoch; return whether a signal stopped it."""
        config, steps = self.config, len(self._batches)
        epoch, step = self._batches.epoch, self._batches.skip
        self._progress.pause()
        for batch in read_batches(self._loader):
            number = epoch * steps + step
            rate = learning_rate(
                number, steps, config.epochs, config.optimizer.rate, config.schedule
            )
            self._sums += self._learner.step(batch, rate).stack()
            step += 1
            if self._progress.tick():
                self._report(Position(epoch, config.epochs, step, steps), rate)
            wish = self._wish()
            if wish:
                self._batches.skip = step
                if wish == STOP:
                    return True
                self._save()
                self._progress.pause()
        self._batches.skip = steps
        return False

    def _report(self, position: Position, rate: float) -> None:
        losses = self._losses(position.step)
        self._progress.show_step(position, losses, rate, self.config.batch * self.compute.world)
        if self.compute.first:
            values = {**{f"loss/{name}": value for name, value in losses.items()}, "rate": rate}
            self.folder.step(position.epoch * position.steps + position.step, values)

    def _losses(self, steps: int) -> dict[str, float]:
        """Return the mean of each part of the loss over the first `steps` steps of this epoch."""
        losses = dict(zip(NAMES, (self._sums / max(steps, 1)).tolist(), strict=True))
        if not all(map(math.isfinite, losses.values())):
            raise UserError(
                f"the loss is not finite any more in epoch {self._batches.epoch + 1}: {losses};"
                " try a lower learning rate, --set optimizer.rate=..., or precision fp32"
            )
        return losses

    def _finish_epoch(self, done: int, due: bool, seconds: float) -> bool:
        """Write an epoch's figures, evaluate if due; return False if a signal comes meanwhile."""
        losses = self._losses(len(self._batches))
        line: dict[str, Any] = {"epoch": done, "loss/total": sum(losses.values())}
        line |= {f"loss/{name}": value for name, value in losses.items()}
        line |= {"rate": self._learner.rate, "seconds": round(seconds, 2)}
        last = done == self.config.epochs
        if due and self._validator is not None:
            scores = self._validator.evaluate(self._learner.evaluated, self._stopped)
            if scores is None:
                return False
            line |= scores.metrics
            self._keep(scores, done)
        elif last:
            self._save_weights({}, done)
        self.folder.epoch(line)
        if due or last:
            self.folder.plot()
        return True

    def _keep(self, scores: Scores, done: int) -> None:
        """Write the weights if they are the best so far, and pictures with their boxes."""
        better = not scores.mean_ap <= self._best
        if better:
            self._best = scores.mean_ap
            self._save_weights(scores.summary, done)
        self._stale = 0 if better else self._stale + 1
        assert self._validator is not None
        count = self.config.evaluate.pictures
        self.folder.pictures(self._learner.evaluated, self._validator, count, done)
        self.folder.histograms(self._learner.evaluated, self._learner.model, done)
        best = ", the best so far" if better else f", the best was {self._best:.4f}"
        self._progress.say(f"epoch {done}: {scores}{best}")

    def _save_weights(self, scores: dict[str, Any], done: int) -> None:
        config, init = self.config, self.config.network.init
        training = {
            "data": [
                f"{readable(Path(part.config.root).name)}/{part.config.split},"
                f" {len(part.dataset)} pictures x {part.config.weight:g}"
                for part in self._data.parts
            ],
            "start": readable(Path(init).name) if init else "random",
            "epochs": f"{done} of {config.epochs}",
            "batch": config.batch * self.compute.world,
            "seed": config.seed,
        }
        self.folder.save_weights(self._learner.evaluated, config, training, scores)

    def _wish(self) -> int:
        """Return the most urgent request of all processes: `STOP`, `SAVE` or 0."""
        late = time.monotonic() - self._saved >= self.config.checkpoint_seconds
        return self.compute.highest(STOP if self._stopped() else SAVE * late)

    def _size(self) -> dict[str, int]:
        """Return the numbers that must be unchanged to resume in the middle of an epoch."""
        return {
            "steps of an epoch": len(self._batches),
            "pictures a step": self.config.batch * self.compute.world,
            "pictures": len(self._data),
        }

    def _save(self) -> None:
        """Write a checkpoint in the first process; all processes must call this."""
        self._saved = time.monotonic()
        self._resumable = True
        random = self.compute.gather(random_state())
        if not self.compute.first:
            return
        self._losses(1)  # raises, so that weights that are not finite replace no good ones
        state = {
            **self._learner.state(),
            "epoch": self._batches.epoch,
            "step": self._batches.skip,
            "best": self._best,
            "stale": self._stale,
            "sums": self._sums,
            "random": random,
            "size": self._size(),
        }
        save_checkpoint(self.folder.checkpoint, state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._learner.restore(state)
        self._batches.epoch, self._batches.skip = state["epoch"], state["step"]
        self._best = state["best"]
        self._stale = state.get("stale", 0)  # older checkpoints lack it
        self._sums.copy_(state["sums"])
        now = self._size()
        before = state["size"]
        if self._batches.skip and before != now:
            changes = ", ".join(f"{key} {before[key]}, now {now[key]}" for key in now)
            self._progress.say(
                f"batch or data have changed ({changes}): epoch {self._batches.epoch + 1} starts"
                " again"
            )
            self._batches.skip = 0
            self._sums.zero_()
        if self.compute.rank < len(state["random"]):  # there may have been fewer processes
            restore_random_state(state["random"][self.compute.rank])
