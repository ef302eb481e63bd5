"""Training for 8 bits: the network learns with the rounding that its int8 model will do.

What a convolution reads, its input and its weights, is rounded on the way forward as
`engines.quantisation.graph` does, and gradients pass as if it were not (Jacob et al., CVPR 2018;
straight-through: Bengio et al., 2013). Limits of the inputs are measured at the start and stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from squeezedrive.engines.model.onnx_graph import DIGEST, build_onnx
from squeezedrive.engines.model.weights import Weights
from squeezedrive.engines.quantisation.calibrate import METHOD, measure_limits
from squeezedrive.engines.quantisation.graph import (
    LEVELS,
    WEIGHT_LEVELS,
    quantise,
    quantised_values,
)


def round_input(x: torch.Tensor, limit: float) -> torch.Tensor:
    """Round what a convolution reads, of any shape, to 127 steps each side of 0.

    What lies beyond `limit` (in the values' own unit) is clipped, and passes no gradient.
    """
    if not limit:  # nothing but zeros came here
        return x
    return torch.fake_quantize_per_tensor_affine(x, limit / LEVELS, 0, -LEVELS, LEVELS)


def round_weights(weight: torch.Tensor) -> torch.Tensor:
    """Round weights (out, in, k, k) to 63 steps each side of 0, by output channel.

    The largest of a channel is the 63rd step; all gradients pass.
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    step = torch.where(largest > 0, largest / WEIGHT_LEVELS, torch.ones_like(largest))
    return weight + ((weight.detach() / step).round() * step - weight.detach())


def input_limits(weights: Weights, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure where to clip what each convolution reads.

    Parameters
    ----------
    weights : Weights
    pixels : uint8 array (B, 3, height, width)
        Pictures to measure with, in the profile's channel order.

    Returns
    -------
    dict of str to float
        A limit for each convolution by name.
    """
    height, width = pixels.shape[2:]
    graph = build_onnx(weights, width, height)
    pictures = (np.ascontiguousarray(picture[None], np.float32) for picture in pixels)
    limits = measure_limits(graph, pictures, weights.profile.head(width, height))
    return {name: limits[value] for name, value in quantised_values(graph).items()}


def build_int8(weights: Weights, limits: Mapping[str, float]) -> onnx.ModelProto:
    """Return the model in 8 bits that weights were trained for; `limits` as of `input_limits`."""
    graph = build_onnx(weights, *weights.profile.input.size)
    values = quantised_values(graph)
    model = quantise(graph, {value: limits[name] for name, value in values.items()})
    how = {
        "weights": "7 bits, symmetric, per output channel",
        "activations": "int8, symmetric, per tensor",
        "calibration": f"{METHOD}, then trained with these limits",
        "float": [],
    }
    model.metadata_props.add(key="quantisation", value=json.dumps(how))
    model.metadata_props.add(key=DIGEST, value=weights.digest())
    return model
