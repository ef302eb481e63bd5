"""Channels scaled alike before they share a range of 8 bits.

A positive factor passes through ReLU, concatenation and pool: dividing what a channel's convolution
computes by it, and multiplying the weights that read the channel, leaves the network as it was
(Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019,
arXiv 1906.04721). One scale for a whole tensor then serves its quiet channels, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.network import Operation
from engines.weights import Weights


def equalise(
    weights: Weights, steps: Sequence[Operation], largest: Mapping[str, NDArray[np.float32]]
) -> Weights:
    """Return weights of the same network function that lose less in 8 bits.

    The factor of a channel is sqrt(a / w), as in SmoothQuant (arXiv 2211.10438): a is the largest
    value in the channel; w how large the weights that read it become, as a part of the largest of
    their own output channel, which sets their scale. The root leaves half of the difference
    between the channels to the activations and moves half to the weights; shares of 0.3, 0.75
    and 1 measured worse.

    Parameters
    ----------
    weights : Weights
        Are not changed.
    steps : sequence of Operation
        The network's.
    largest : mapping of str to float32 array (channels,)
        From `engines.quantisation.calibrate.measure_channels`, by the values' names.
    """
    arrays = {name: array.copy() for name, array in weights.arrays.items()}
    by_name = {step.name: step for step in steps}
    readers: dict[str, list[str]] = {}
    for step in steps:
        if step.kind == "conv":
            source = step.inputs[0]
            if source in by_name and by_name[source].kind == "pool":
                source = by_name[source].inputs[0]
            readers.setdefault(source, []).append(step.name)

    for source, names in readers.items():
        if source not in by_name:
            continue  # the image comes as it is
        factors = _factors(largest[source], [weights.arrays[f"{name}_w"] for name in names])
        for name in names:
            arrays[f"{name}_w"] *= factors[:, None, None]
        step = by_name[source]
        writers = [step] if step.kind == "conv" else [by_name[name] for name in step.inputs]
        ends = np.cumsum([writer.out_channels for writer in writers])
        for writer, part in zip(writers, np.split(factors, ends[:-1]), strict=True):
            arrays[f"{writer.name}_w"] /= part[:, None, None, None]
            arrays[f"{writer.name}_b"] /= part
    return Weights(weights.profile, arrays)


def _factors(
    largest: NDArray[np.float32], readers: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return a factor a channel, 1 in the geometric mean, and for channels that nothing passes."""
    shares = []
    for array in readers:
        magnitudes = np.abs(array).max(axis=(2, 3))
        rows = magnitudes.max(axis=1, keepdims=True)
        shares.append((magnitudes / np.where(rows > 0, rows, 1)).max(axis=0))
    share = np.max(shares, axis=0)
    alive = (largest > 0) & (share > 0)
    factors = np.ones(largest.shape, np.float64)
    factors[alive] = np.sqrt(largest[alive].astype(np.float64) / share[alive])
    if alive.any():
        factors[alive] /= np.exp(np.log(factors[alive]).mean())
    return factors.astype(np.float32)
