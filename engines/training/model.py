"""The network as a PyTorch module, built from the common description of the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.network import Operation
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.pytorch import convolve, run_network
from squeezedrive.engines.training.rounding import round_input, round_weights


class ConvUnit(nn.Module):
    """A convolution, with batch normalisation and ReLU if the operation has them."""

    def __init__(self, step: Operation) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(step.in_channels, step.out_channels, step.kernel, step.stride)
        self.norm: nn.BatchNorm2d | None = None
        self.limit: float | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the operation's output, (B, out_channels, h, w)."""
        return self.activate(self.convolve(x))

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the convolution, before normalisation and ReLU."""
        weight = self.conv.weight if self.limit is None else round_weights(self.conv.weight)
        return convolve(self.step, x, weight, self.conv.bias)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Apply normalisation and ReLU to the convolution's output."""
        if self.norm is not None:
            x = self.norm(x)
        return F.relu(x, inplace=True) if self.step.relu else x

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weights and bias with the normalisation folded in, for inference."""
        weight, bias = (p.detach().double().cpu() for p in (self.conv.weight, self.conv.bias))
        if self.norm is not None:
            norm = self.norm
            scale = norm.weight.detach().double().cpu()
            scale = scale / (norm.running_var.double().cpu() + norm.eps).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = (bias - norm.running_mean.double().cpu()) * scale
            bias = bias + norm.bias.detach().double().cpu()
        return weight.numpy().astype(np.float32), bias.numpy().astype(np.float32)


class TrainableNetwork(nn.Module):
    """A network of `engines.model.network` for training.

    It starts with random weights: He initialisation, and a head close to zero whose confidence
    starts at `confidence_prior` everywhere.

    Parameters
    ----------
    dropout : float
        Probability that a value in the head's input is zeroed, in training.
    confidence_prior : float
        Confidence of an untrained head, 0 to 1.
    """

    mean: torch.Tensor

    def __init__(
        self, profile: Profile, dropout: float = 0.0, confidence_prior: float = 0.01
    ) -> None:
        super().__init__()
        self.profile = profile
        self.dropout = dropout
        self.steps = profile.operations(*profile.input.size)
        self.head = self.steps[-1].name
        self.units = nn.ModuleDict({s.name: ConvUnit(s) for s in self.steps if s.kind == "conv"})
        mean = torch.tensor(profile.input.mean, dtype=torch.float32).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.reset(list(self.units), confidence_prior)

    def unit(self, name: str) -> ConvUnit:
        """Return a convolution by the name of its operation."""
        unit = self.units[name]
        assert isinstance(unit, ConvUnit)
        return unit

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Parameters
        ----------
        pixels : tensor (B, 3, H, W)
            Values 0 to 255 in the profile's channel order, uint8 or float. H and W may be any size
            that is not too small.

        Returns
        -------
        tensor (B, head channels, rows, columns)
        """
        return self._run(pixels, lambda unit, x: unit(x))

    def _run(
        self, pixels: torch.Tensor, run_unit: Callable[[ConvUnit, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        x = (pixels.float() - self.mean) * self.profile.input.scale

        def run_convolution(step: Operation, x: torch.Tensor) -> torch.Tensor:
            unit = self.unit(step.name)
            if unit.limit is not None:
                x = round_input(x, unit.limit)
            if step.name == self.head and self.dropout and self.training:
                x = _drop(x, self.dropout)
            return run_unit(unit, x)

        return run_network(self.steps, run_convolution, x)

    def reset(self, names: list[str], confidence_prior: float) -> None:
        """Set convolutions to random weights: He initialisation, and a head close to zero."""
        for name in names:
            conv = self.unit(name).conv
            nn.init.zeros_(conv.bias)
            if name != self.head:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                continue
            nn.init.normal_(conv.weight, std=1e-4)
            anchors, classes = len(self.profile.anchors.shapes), len(self.profile.output.classes)
            channels = torch.arange(anchors) * (classes + 5) + classes
            if self.profile.output.layout == "by_kind":
                channels = torch.arange(anchors) + anchors * classes
            with torch.no_grad():
                conv.bias[channels] = math.log(confidence_prior / (1 - confidence_prior))

    def load_arrays(self, arrays: Mapping[str, NDArray[np.float32]]) -> list[str]:
        """Load convolutions by name; return the names of the missing ones.

        Raises
        ------
        WeightsError
            If an array is not part of the network or has another shape.
        """
        missing = []
        rest = dict(arrays)
        for name in self.units:
            conv = self.unit(name).conv
            weight, bias = rest.pop(f"{name}_w", None), rest.pop(f"{name}_b", None)
            if weight is None or bias is None:
                missing.append(name)
                continue
            if weight.shape != tuple(conv.weight.shape) or bias.shape != tuple(conv.bias.shape):
                raise WeightsError(
                    f"{name}: expected weights of shape {tuple(conv.weight.shape)}, got"
                    f" {weight.shape}"
                )
            with torch.no_grad():
                conv.weight.copy_(torch.from_numpy(np.array(weight, np.float32)))
                conv.bias.copy_(torch.from_numpy(np.array(bias, np.float32)))
        if rest:
            raise WeightsError(f"{next(iter(rest))} is not part of {self.profile.network}")
        return missing

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights as in `Weights.arrays`, with batch normalisation folded in."""
        arrays = {}
        for name in self.units:
            arrays[f"{name}_w"], arrays[f"{name}_b"] = self.unit(name).folded()
        return arrays

    def freeze(self, through: str) -> None:
        """Freeze the weights of a layer and of all layers before it.

        Raises
        ------
        WeightsError
            If there is no such layer.
        """
        for name in self.names_through(through):
            self.unit(name).requires_grad_(False)

    def names_through(self, layer: str) -> list[str]:
        """Return the convolutions of a layer and of all layers before it.

        Raises
        ------
        WeightsError
            If there is no such layer.
        """
        layers = [name for name, _ in groupby(self.steps, key=lambda step: step.layer)]
        if layer not in layers:
            raise WeightsError(f"no layer {layer!r}; there are {', '.join(layers)}")
        early = layers[: layers.index(layer) + 1]
        return [name for name in self.units if self.unit(name).step.layer in early]

    @torch.no_grad()
    def insert_batch_norm(self, pixels: torch.Tensor, fresh: list[str]) -> None:
        """Insert a batch normalisation after each trainable convolution with ReLU.

        Means and variances are measured on these pictures, and scale and shift undo them, so the
        network's output stays the same. Only after the convolutions in `fresh`, which have learned
        nothing yet, the output becomes normalised.

        Parameters
        ----------
        pixels : tensor (B, 3, H, W)
            Pixels as for `forward`; more pictures give a better measurement.
        fresh : list of str
            Names of convolutions with random weights.
        """

        def measure(unit: ConvUnit, x: torch.Tensor) -> torch.Tensor:
            x = unit.convolve(x)
            if unit.step.relu and unit.conv.weight.requires_grad:
                norm = nn.BatchNorm2d(unit.step.out_channels).to(x.device)
                variance, mean = torch.var_mean(x, dim=(0, 2, 3))
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
                if unit.step.name not in fresh:
                    norm.weight.copy_((variance + norm.eps).sqrt())
                    norm.bias.copy_(mean)
                unit.norm = norm.eval()
            return unit.activate(x)

        training = self.training
        self.eval()
        self._run(pixels, measure)
        self.train(training)

    @property
    def limits(self) -> dict[str, float]:
        """The clipping limit of each convolution's input; empty without rounding to 8 bits."""
        units = {name: self.unit(name).limit for name in self.units}
        return {name: limit for name, limit in units.items() if limit is not None}

    def round(self, limits: Mapping[str, float]) -> None:
        """Round inputs and weights to 8 bits from now on; see `engines.training.rounding`."""
        for name, limit in limits.items():
            self.unit(name).limit = limit

    def clone(self) -> TrainableNetwork:
        """Return a copy without gradients, in inference mode."""
        copied = copy.deepcopy(self)
        copied.requires_grad_(False)
        copied.eval()
        return copied


def _drop(x: torch.Tensor, share: float) -> torch.Tensor:
    """Apply dropout: zero a share (in steps of 1/256) of the values (B, C, H, W), scale the others.

    One random number serves eight values. Drawing one for each value, as PyTorch does, takes a
    sixth of a step's time on a CPU.
    """
    numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
    octets = numbers.random_(-(2**63), None).view(torch.uint8)[: x.numel()]
    batch, channels, rows, columns = x.shape
    kept = octets.view(batch, rows, columns, channels).permute(0, 3, 1, 2) >= round(256 * share)
    return x * (kept.to(x.dtype) / (1 - share))
