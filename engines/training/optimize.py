"""Optimiser, learning rate, gradient clipping and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from engines.training.config import OptimizerConfig, ScheduleConfig
from engines.training.model import Detector


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all weights that are not frozen; only kernels decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim == 1], "weight_decay": 0.0},
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.rate, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.rate, betas=(config.momentum, 0.999))


def learning_rate(
    step: int, steps_per_epoch: int, epochs: int, rate: float, config: ScheduleConfig
) -> float:
    """Return the learning rate of a step, counted from 0 over the whole training.

    It rises in a straight line for `config.warmup` epochs, then follows half a cosine down to
    `config.final` of the highest, or is multiplied by `config.factor` every `config.every` steps.
    """
    warmup = round(config.warmup * steps_per_epoch)
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if config.kind == "steps":
        return float(rate * config.factor ** (step // config.every))
    done = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
    return rate * (config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2)


def clip_gradients(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
    """Shorten gradients longer than `config.clip`: each variable's by itself, or all together."""
    if not config.clip:
        return
    given = [p for p in parameters if p.grad is not None]
    for group in [[p] for p in given] if config.clip_by == "variable" else [given]:
        nn.utils.clip_grad_norm_(group, config.clip)


class Average:
    """An exponential moving average of a model's weights and statistics.

    The first steps count more than `decay` says, so that the start is soon forgotten:
    min(decay, (1 + n) / (10 + n)) at step n.
    """

    def __init__(self, model: Detector, decay: float) -> None:
        self.model = model.clone()
        self.steps = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, model: Detector) -> None:
        """Take in a model's weights after a step."""
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
