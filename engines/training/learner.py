"""The network in training, with its optimiser, its average, and one step of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from squeezedrive.engines.model.weights import Weights
from squeezedrive.engines.training.boxes import BoxDecoder
from squeezedrive.engines.training.checkpoint import CheckpointError
from squeezedrive.engines.training.config import TrainConfig
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.device import Compute
from squeezedrive.engines.training.loader import TrainingBatch, collate
from squeezedrive.engines.training.loss import LossParts, compute_loss
from squeezedrive.engines.training.model import TrainableNetwork
from squeezedrive.engines.training.optimize import Average, clip_gradients, make_optimizer, set_rate
from squeezedrive.engines.training.rounding import input_limits
from squeezedrive.engines.training.start import start_from
from squeezedrive.engines.training.targets import assign

MEASURED = 32  # pictures for measuring batch normalisation and the limits for 8 bits


class Learner:
    """A network with all state that changes in training.

    Batch normalisation and limits are measured on `data`, which is None if `restore` follows.

    Attributes
    ----------
    model : TrainableNetwork
    fresh : list of str
        The convolutions that started with random weights.
    """

    def __init__(self, config: TrainConfig, compute: Compute, data: TrainingSet | None) -> None:
        self._config, self._compute = config, compute
        network = config.network
        self.model = TrainableNetwork(
            config.profile("new", 0), network.dropout, network.confidence_prior
        )  # fmt: skip
        self.fresh = list(self.model.units)
        if network.init is not None and data is not None:
            self.fresh = start_from(self.model, Path(network.init), network.init_head)
        # Random weights need no slow or frozen layers.
        slow_through = config.optimizer.slow_through if network.init is not None else None
        if network.freeze is not None and network.init is not None:
            self.model.freeze(network.freeze)
        self.model.to(device=compute.device, memory_format=torch.channels_last)
        if network.batch_norm:
            pixels = torch.zeros(1, 3, 64, 64)
            if data is not None:
                pixels = collate([data[key] for key in data.order(0)[:MEASURED]]).pixels
            self.model.insert_batch_norm(pixels.to(compute.device), self.fresh)
        if network.int8 and data is not None:
            samples = [data[key] for key in data.order(0)[:MEASURED]]
            weights = Weights(self.model.profile, self.model.to_arrays())
            self.model.round(input_limits(weights, collate(samples).pixels.numpy()))
        self._decoder = BoxDecoder(self.model.profile.head(*config.window), compute.device)
        self._optimizer = make_optimizer(self.model, config.optimizer, slow_through)
        self._scaler = torch.amp.GradScaler("cuda", enabled=compute.precision == "fp16")
        self._average = Average(self.model, config.ema) if config.ema else None
        self._network: torch.nn.Module = self.model
        if compute.world > 1:
            devices = [compute.device] if compute.device.type == "cuda" else None
            # The statistics of the normalisation are those of the first process, which evaluates.
            self._network = DistributedDataParallel(self.model, devices, forward_sync_buffers=False)

    @property
    def evaluated(self) -> TrainableNetwork:
        """The network that is evaluated and saved: the average if there is one."""
        return self.model if self._average is None else self._average.model

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, batch: TrainingBatch, rate: float) -> LossParts:
        """Learn from a batch at a learning rate; return the loss before the step."""
        set_rate(self._optimizer, rate)
        # Done here and not at the end, so that the gradients are available until the next step.
        self._optimizer.zero_grad(set_to_none=True)
        parts = self.loss(batch)
        self._scaler.scale(parts.total).backward()
        self._scaler.unscale_(self._optimizer)
        clip_gradients(self.model.parameters(), self._config.optimizer)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self.model)
        return parts

    def loss(self, batch: TrainingBatch) -> LossParts:
        """Return the loss of a batch, always in float32."""
        device = self._compute.device
        pixels = batch.pixels.to(device, non_blocking=True)
        truth = batch.truth.to(device)
        self._network.train()
        with self._compute.autocast():
            output = self._network(pixels)
        prediction = self._decoder(output)
        assigned = assign(self._config.assign, truth, self._decoder.anchors, prediction)
        return compute_loss(prediction, truth, assigned, self._decoder, self._config.loss)

    def state(self) -> dict[str, Any]:
        """Return all state that changes in training, as tensors and plain values."""
        average = self._average
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if average is None else average.model.state_dict(),
            "average_steps": 0 if average is None else average.steps,
            "limits": self.model.limits,
            "structure": self._config.structure(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises
        ------
        CheckpointError
            If the state belongs to another network or optimiser.
        """
        now = self._config.structure()
        for key, value in state["structure"].items():
            if value != now[key]:
                raise CheckpointError(
                    f"{key} is {value} in the checkpoint and {now[key]} now: a training continues"
                    " with its first network and optimiser; change it back, or start a new training"
                )
        # The checkpoint's groups hold old settings. The new ones come from the configuration,
        # except the rate, which is that of the last step.
        settings = [
            {k: v for k, v in g.items() if k not in ("params", "lr")}
            for g in self._optimizer.param_groups
        ]
        limits = state.get("limits", {})  # older checkpoints lack it
        self.model.load_state_dict(state["model"])
        self.model.round(limits)
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None and state["average"] is not None:
            self._average.model.load_state_dict(state["average"])
            self._average.model.round(limits)
            self._average.steps = state["average_steps"]
        for group, current in zip(self._optimizer.param_groups, settings, strict=True):
            group.update(current)
        self._scaler.load_state_dict(state["scaler"])
