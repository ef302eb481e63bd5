"""Train for 8 bits: the network learns with the rounding of its int8 model.

Forward, the input and the weights of each convolution are rounded as in
`engines.quantisation.graph`. Backward, gradients pass as if there were no rounding (Jacob et al.,
CVPR 2018; straight-through: Bengio et al., 2013). The limits of the inputs are measured at the
start and do not change.
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
    """Round a convolution's input, of any shape, to 127 steps on each side of 0.

    Values beyond `limit` (in the unit of the values) are clipped and pass no gradient.
    """
    if not limit:  # the measured values were all zero
        return x
    return torch.fake_quantize_per_tensor_affine(x, limit / LEVELS, 0, -LEVELS, LEVELS)


def round_weights(weight: torch.Tensor) -> torch.Tensor:
    """Round weights (out, in, k, k) to 63 steps on each side of 0, by output channel.

    The largest weight of a channel becomes step 63; all gradients pass.
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    step = torch.where(largest > 0, largest / WEIGHT_LEVELS, torch.ones_like(largest))
    return weight + ((weight.detach() / step).round() * step - weight.detach())


def input_limits(weights: Weights, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure the clipping limit of each convolution's input.

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
    """Return the int8 model of weights that were trained for it; `limits` from `input_limits`."""
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
