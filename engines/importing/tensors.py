"""Assign the tensors of a foreign file to convolutions, and bring them into our order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.network import NETWORKS, SQUEEZEDET, Network, Operation, operations

_KINDS = {
    **dict.fromkeys(("w", "weight", "weights", "kernel", "kernels"), "w"),
    **dict.fromkeys(("b", "bias", "biases"), "b"),
}


@dataclass(frozen=True)
class Tensors:
    """The tensors of a file.

    Attributes
    ----------
    path : Path
        The file, for messages.
    arrays : mapping of str to float array
        `<operation>_w` in the file's own order of dimensions, and `<operation>_b`.
    left_out : tuple of str
        Names in the file that belong to the training and not to the network.
    """

    path: Path
    arrays: Mapping[str, NDArray[np.floating]]
    left_out: tuple[str, ...]


def convolutions(network: Network, head_channels: int = 1) -> list[Operation]:
    """List a network's convolutions."""
    # Names and shapes of the weights depend on neither padding nor size.
    steps = operations(network, head_channels, 1248, 384, "same_upper")
    return [step for step in steps if step.kind == "conv"]


# Both networks have the same layer names.
_NAMES = frozenset(step.name for step in convolutions(SQUEEZEDET))


def own_name(name: str) -> str | None:
    """Return `conv1_w` for `conv1/kernels`, `conv1.weight` and the like; None for other names."""
    *layer, kind = re.split(r"[/._-]", name.removesuffix(":0"))
    operation = "_".join(layer)
    if operation not in _NAMES or kind not in _KINDS:
        return None
    return f"{operation}_{_KINDS[kind]}"


def collect_tensors(
    path: Path,
    named: Iterable[tuple[str, str | None, ArrayLike]],
    left_out: Iterable[str],
    hint: str,
) -> Tensors:
    """Gather tensors given as (name in the file, our name or None if unknown, values).

    Raises
    ------
    WeightsError
        If a name is unknown or occurs twice, or values are not finite floating-point numbers. The
        message contains the `hint`, which describes the expected names.
    """
    arrays: dict[str, NDArray[np.floating]] = {}
    for name, own, values in named:
        if own is None:
            raise WeightsError(f"{path}: {name} is not a tensor of SqueezeDet; expected {hint}")
        if own in arrays:
            raise WeightsError(f"{path}: {name} occurs twice; expected one {own}")
        array = np.asarray(values)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise WeightsError(
                f"{path}: {name}: expected finite floating-point numbers, got {array.dtype}"
                + (" with inf or NaN" if array.dtype.kind == "f" else "")
            )
        arrays[own] = array
    if not arrays:
        raise WeightsError(f"{path}: holds no tensors; expected {hint}")
    return Tensors(path, arrays, tuple(left_out))


def recognise(tensors: Tensors) -> Network:
    """Return the network that the tensors belong to, by the shape of the first convolution.

    Raises
    ------
    WeightsError
        If they belong to none of the networks.
    """
    shape = _get(tensors, "conv1_w").shape
    first = {network: convolutions(network)[0] for network in NETWORKS.values()}
    for network, step in first.items():
        if shape in (_oihw(step, step.kernel), _hwio(step, step.kernel)):
            return network
    known = " or ".join(
        f"{_oihw(step, step.kernel)} ({network.name})" for network, step in first.items()
    )
    raise WeightsError(f"{tensors.path}: conv1_w: expected shape {known}, got {shape}")


def arrange(tensors: Tensors, network: Network) -> tuple[dict[str, NDArray[np.float32]], bool]:
    """Return weights in the order out, in, rows, columns, as in `engines.model.weights`.

    The shapes show the file's order, because no convolution has the same shape in both orders. A
    head of 1x1 becomes the centre of a 3x3 kernel of zeros, which gives the same network.

    Returns
    -------
    arrays : dict of str to float32 array
        `<operation>_w` and `<operation>_b` of every convolution.
    widened : bool
        Whether the head was 1x1.

    Raises
    ------
    WeightsError
        If a tensor is missing or of a wrong shape.
    """
    head = network.layers[-1].name
    steps = convolutions(network, _get(tensors, f"{head}_b").size)
    arrays: dict[str, NDArray[np.float32]] = {}
    for step in steps:
        kernels = (step.kernel, 1) if step.name == head else (step.kernel,)
        weight = _weight(tensors, network, step, kernels)
        bias = _get(tensors, f"{step.name}_b")
        if bias.shape != (step.out_channels,):
            raise WeightsError(
                f"{tensors.path}: {step.name}_b of {network.name}: expected shape"
                f" {(step.out_channels,)}, got {bias.shape}"
            )
        margin = (step.kernel - weight.shape[2]) // 2
        weight = np.pad(weight, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
        arrays[f"{step.name}_w"] = np.ascontiguousarray(weight, np.float32)
        arrays[f"{step.name}_b"] = np.array(bias, np.float32)
    return arrays, margin > 0


def _weight(
    tensors: Tensors, network: Network, step: Operation, kernels: tuple[int, ...]
) -> NDArray[np.floating]:
    """Return a convolution's weights, out before in; raise if they have no such kernel size."""
    weight = _get(tensors, f"{step.name}_w")
    for kernel in kernels:
        if weight.shape == _oihw(step, kernel):
            return weight
        if weight.shape == _hwio(step, kernel):
            return weight.transpose(3, 2, 0, 1)
    raise WeightsError(
        f"{tensors.path}: {step.name}_w of {network.name}: expected shape"
        f" {_oihw(step, step.kernel)} or {_hwio(step, step.kernel)}, got {weight.shape}"
    )


def _get(tensors: Tensors, name: str) -> NDArray[np.floating]:
    if name not in tensors.arrays:
        raise WeightsError(
            f"{tensors.path}: {name} is missing; expected {2 * len(_NAMES)} tensors, got"
            f" {len(tensors.arrays)}"
        )
    return tensors.arrays[name]


def _oihw(step: Operation, kernel: int) -> tuple[int, ...]:
    return step.out_channels, step.in_channels, kernel, kernel


def _hwio(step: Operation, kernel: int) -> tuple[int, ...]:
    return kernel, kernel, step.in_channels, step.out_channels
