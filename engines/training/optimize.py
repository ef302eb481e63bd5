"""The optimiser, the learning rate, gradient clipping and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from squeezedrive.engines.training.config import OptimizerConfig, ScheduleConfig
from squeezedrive.engines.training.model import TrainableNetwork


def make_optimizer(
    model: TrainableNetwork, config: OptimizerConfig, slow_through: str | None
) -> torch.optim.Optimizer:
    """Return an optimiser of all weights that are not frozen; weight decay applies to kernels only.

    Layers up to `slow_through` learn at `config.slow_share` of the rate.

    Raises
    ------
    WeightsError
        If there is no such layer.
    """
    slow = set(model.names_through(slow_through)) if slow_through else set()
    groups: list[dict[str, Any]] = []
    for share, names in ((1.0, set(model.units) - slow), (config.slow_share, slow)):
        units = [unit for name, unit in model.units.items() if name in names]
        trainable = [p for unit in units for p in unit.parameters() if p.requires_grad]
        for decay, chosen in (
            (config.weight_decay, [p for p in trainable if p.ndim > 1]),
            (0.0, [p for p in trainable if p.ndim == 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.rate, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.rate, betas=(config.momentum, 0.999))


def learning_rate(
    step: int, steps_per_epoch: int, epochs: int, rate: float, config: ScheduleConfig
) -> float:
    """Return the learning rate of a step, counted from 0 over the whole training.

    The rate rises linearly for `config.warmup` epochs. Then it falls along half a cosine to
    `config.final` times the highest rate, or is multiplied by `config.factor` every `config.every`
    steps.
    """
    warmup = round(config.warmup * steps_per_epoch)
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if config.kind == "steps":
        return float(rate * config.factor ** (step // config.every))
    done = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
    return rate * (config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2)


def clip_gradients(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
    """Clip gradients to the length `config.clip`, each variable by itself or all together."""
    if not config.clip:
        return
    given = [p for p in parameters if p.grad is not None]
    for group in [[p] for p in given] if config.clip_by == "variable" else [given]:
        nn.utils.clip_grad_norm_(group, config.clip)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step; slow layers get their share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


class Average:
    """An exponential moving average of a model's weights and statistics.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, model: TrainableNetwork, decay: float) -> None:
        self.model = model.clone()
        self.steps = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, model: TrainableNetwork) -> None:
        """Add a model's weights to the average after a step."""
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        state = model.state_dict()
        mine, theirs = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                mine.append(value)
                theirs.append(state[name])
            else:
                value.copy_(state[name])
        torch._foreach_lerp_(mine, theirs, 1 - decay)
