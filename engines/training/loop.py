"""The training itself: steps, epochs, evaluation, and going on where it stopped."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from engines.errors import UserError
from engines.training.boxes import Decoder
from engines.training.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from engines.training.config import TrainConfig
from engines.training.data import Batch, Batches, TrainingSet, collate, make_loader
from engines.training.device import Compute, open_compute
from engines.training.loss import NAMES, compute_loss
from engines.training.model import Detector
from engines.training.optimize import Average, clip_gradients, learning_rate, make_optimizer
from engines.training.progress import Position, Progress, clock
from engines.training.report import RunFolder
from engines.training.start import start_from
from engines.training.targets import assign
from engines.training.validate import Validator, make_head

MEASURED = 32  # pictures that the inserted batch normalisation is measured on


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
        training = Training(config, RunFolder(out), compute, stop)
        training.begin(resume)
        try:
            training.run()
        finally:
            training.folder.close()
        return 128 + stop.number if stop.number else 0


class StopSignal:
    """Notes that SIGINT or SIGTERM came; a second one acts as if this was not there."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __call__(self) -> bool:
        return self.number != 0

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Training:
    """A network with its optimiser, its data and its place in the training."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, compute: Compute, stop: StopSignal
    ) -> None:
        self.config, self.folder, self.compute = config, folder, compute
        self._stop = stop
        torch.manual_seed(config.seed + compute.rank)
        self._data = TrainingSet(config)
        self._batches = Batches(self._data, config.batch, compute.rank, compute.world)
        self._validator = None
        if config.evaluate.every and compute.first:
            self._validator = Validator(config, compute.device)
        self._decoder = Decoder(make_head(config, *config.window), compute.device)
        self.progress = Progress(quiet=not compute.first)
        self.epoch, self.best = 0, float("-inf")
        self._sums = torch.zeros(len(NAMES), device=compute.device)
        self._saved = time.monotonic()

    def begin(self, resume: bool) -> None:
        """Make the network and open the folder, anew or from the last checkpoint."""
        config, compute = self.config, self.compute
        state = load_checkpoint(self.folder.checkpoint, compute.device) if resume else None
        if state is None and compute.first:
            self.folder.create(config, str(compute))
        self.model = self._make_model(measure=state is None)
        self._optimizer = make_optimizer(self.model, config.optimizer)
        self._scaler = torch.amp.GradScaler("cuda", enabled=compute.precision == "fp16")
        self._average = Average(self.model, config.ema) if config.ema else None
        if state is not None:
            self._restore(state)
        if compute.first:
            board = self.folder.open_board()
            if not board:
                self.progress.say("TensorBoard is not installed: its log is left out")
        self._network: torch.nn.Module = self.model
        if compute.world > 1:
            devices = [compute.device] if compute.device.type == "cuda" else None
            self._network = DistributedDataParallel(self.model, devices)
        self._loader = make_loader(
            self._data, self._batches, config.data.workers, compute.device.type == "cuda"
        )
        self.progress.say(
            f"training on {compute}: {len(self._data)} pictures,"
            f" {len(self._batches)} steps of {config.batch} an epoch"
        )

    def _make_model(self, measure: bool) -> Detector:
        """Build the network; `measure` the batch normalisation unless it will be restored."""
        network = self.config.network
        model = Detector(self.config.profile("new", 0), network.dropout, network.confidence_prior)
        fresh = list(model.units)
        if measure and network.init is not None:
            fresh = start_from(model, Path(network.init))
            self.progress.say(f"start: {network.init}; new: {', '.join(fresh) or 'nothing'}")
        if network.freeze is not None:
            model.freeze(network.freeze)
        model = model.to(self.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if network.batch_norm:
            pixels = torch.zeros(1, 3, 64, 64, device=self.compute.device)
            if measure:
                keys = self._data.order(0)[:MEASURED]
                pixels = collate([self._data[key] for key in keys]).pixels.to(self.compute.device)
            model.insert_batch_norm(pixels, fresh)
        return model

    def run(self) -> None:
        """Train until the last epoch or a signal."""
        every = self.config.evaluate.every
        while self.epoch < self.config.epochs:
            began = time.monotonic()
            if not self._run_epoch():
                return self._interrupt()
            done = self.epoch + 1
            last = done == self.config.epochs
            due = bool(every) and (done % every == 0 or last)
            if self.compute.first:
                self._finish_epoch(done, due, time.monotonic() - began)
            # A signal during the evaluation leaves the epoch unfinished: it is evaluated again.
            if self.compute.any(self._stop()):
                return self._interrupt()
            self.epoch, self._batches.skip = done, 0
            self._sums.zero_()
            if due or last or self._time_to_save():
                self._save()
        if self.compute.first and not every:
            self._save_weights({})
        self.progress.say(f"done: {self.folder.path}")
        return None

    def _run_epoch(self) -> bool:
        """Train the rest of an epoch; return False if it was stopped."""
        self._batches.epoch = self.epoch
        self._network.train()
        self.progress.pause()
        step = self._batches.skip
        steps = len(self._batches)
        for batch in self._loader:
            rate = self._step(batch, self.epoch * steps + step)
            step += 1
            if self.progress.tick():
                self._report(Position(self.epoch, self.config.epochs, step, steps), rate)
            stopped = self.compute.any(self._stop())
            if stopped or self._time_to_save():
                self._batches.skip = step
                if stopped:
                    return False
                self._save()
                self.progress.pause()
        self._batches.skip = steps
        return True

    def _step(self, batch: Batch, number: int) -> float:
        """Take one step; return its learning rate."""
        config, device = self.config, self.compute.device
        pixels = batch.pixels.to(device, non_blocking=True)
        truth = batch.truth.to(device)
        rate = learning_rate(
            number,
            len(self._batches),
            config.epochs,
            config.optimizer.rate,
            config.schedule,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with self.compute.autocast():
            output = self._network(pixels)
        prediction = self._decoder(output)
        assigned = assign(config.assign, truth, self._decoder.anchors, prediction)
        parts = compute_loss(prediction, truth, assigned, self._decoder, config.loss)
        self._scaler.scale(parts.total).backward()
        self._scaler.unscale_(self._optimizer)
        clip_gradients(self.model.parameters(), config.optimizer)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.model)
        self._sums += parts.stack()
        return rate

    def _losses(self, steps: int) -> dict[str, float]:
        """Return the mean of each part of the loss over so many steps of this epoch."""
        means = (self._sums / max(steps, 1)).tolist()
        losses = dict(zip(NAMES, means, strict=True))
        if not all(abs(value) < float("inf") for value in means):
            raise UserError(
                f"the loss is not finite any more in epoch {self.epoch + 1}: {losses}; try a lower"
                " learning rate, --set optimizer.rate=..., or precision fp32"
            )
        return losses

    def _report(self, position: Position, rate: float) -> None:
        losses = self._losses(position.step)
        self.progress.show(position, losses, rate, self.config.batch * self.compute.world)
        if self.compute.first:
            values = {**{f"loss/{name}": value for name, value in losses.items()}, "rate": rate}
            self.folder.step(position.epoch * position.steps + position.step, values)

    def _finish_epoch(self, done: int, due: bool, seconds: float) -> None:
        """Note an epoch and evaluate if it is due; nothing if a signal comes meanwhile."""
        losses = self._losses(len(self._batches))
        line: dict[str, Any] = {"epoch": done, "loss/total": sum(losses.values())}
        line |= {f"loss/{name}": value for name, value in losses.items()}
        line |= {"rate": self._optimizer.param_groups[0]["lr"], "seconds": round(seconds, 2)}
        if due and self._validator is not None:
            began = time.monotonic()
            model = self.evaluated
            scores = self._validator.evaluate(model, self._stop)
            if scores is None:
                return
            line |= scores.metrics
            better = not scores.mean_ap <= self.best
            if better:
                self.best = scores.mean_ap
                self._save_weights(scores.summary)
            self.folder.pictures(model, self._validator, self.config.evaluate.pictures, done)
            self.progress.say(
                f"epoch {done}: loss {line['loss/total']:.3f}, mAP {scores.mean_ap:.4f}"
                f"{', the best so far' if better else ''}"
                f" ({clock(seconds)} + {clock(time.monotonic() - began)} evaluation)"
            )
        self.folder.epoch(line)
        if due or done == self.config.epochs:
            self.folder.plot()

    @property
    def evaluated(self) -> Detector:
        """The network that is evaluated and kept: the average if there is one."""
        return self.model if self._average is None else self._average.model

    def _save_weights(self, scores: dict[str, Any]) -> None:
        config = self.config
        init = config.network.init
        training = {
            "data": [
                f"{Path(part.config.root).name}/{part.config.split}, {len(part.dataset)} pictures"
                f" x {part.config.weight:g}"
                for part in self._data.parts
            ],
            "start": Path(init).name if init else "random",
            "epochs": f"{self.epoch + 1} of {config.epochs}",
            "batch": config.batch * self.compute.world,
            "seed": config.seed,
        }
        self.folder.save_weights(self.evaluated, config, training, scores)

    def _time_to_save(self) -> bool:
        return time.monotonic() - self._saved >= self.config.checkpoint_seconds

    def _interrupt(self) -> None:
        self._save()
        self.progress.say(f"stopped; --resume --out {self.folder.path} goes on")

    def _save(self) -> None:
        """Write a checkpoint, in the first process."""
        self._saved = time.monotonic()
        if not self.compute.first:
            return
        self._losses(len(self._batches))  # weights that are not finite replace no good ones
        average = self._average
        state = {
            "epoch": self.epoch,
            "step": self._batches.skip,
            "best": self.best,
            "sums": self._sums,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": average and average.model.state_dict(),
            "average_steps": average and average.steps,
            "random": random_state(),
        }
        save_checkpoint(self.folder.checkpoint, state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.epoch, self._batches.skip, self.best = state["epoch"], state["step"], state["best"]
        self._sums.copy_(state["sums"])
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.model.load_state_dict(state["average"])
            self._average.steps = state["average_steps"]
        restore_random_state(state["random"])
        if self.compute.first:
            self.folder.reopen(self.config, self.epoch)
