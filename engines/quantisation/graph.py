"""Build the ONNX graph with 8-bit integers, by QuantizeLinear and DequantizeLinear.

The inputs of convolutions are quantised: weights with one scale per output channel, pixels and
values with one scale per tensor. All zero points are 0, the only form that TensorRT accepts;
OpenVINO accepts any. Biases, sums and the network's output stay float. The branches of a
concatenation share the scale after it, and the scale before a pool also holds after it. So a back
end has nothing to requantise: between the first and the last convolution, it passes on only bytes.

This leaves half the range unused for the output of a ReLU. The CPU back end uses the other half
when it loads the model (`engines.backends.cpu.graph.unsigned`); TensorRT accepts no unsigned bytes.

Weights have 7 bits, because processors without VNNI instructions add products of bytes in pairs in
16 bits. With 8 bits, these sums overflow (255 x 127 x 2 > 32767 > 255 x 63 x 2), and the network
finds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LEVELS = 127  # steps of a value on each side of 0; -128 is unused
WEIGHT_LEVELS = 63  # steps of a weight on each side of 0


def quantise_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a convolution's weights to 7 bits; each output channel's largest becomes 63.

    Parameters
    ----------
    weights : float32 array (out, in, k, k)

    Returns
    -------
    int8 array (out, in, k, k), float32 array (out,)
        Steps, -63 to 63, and their size; a weight is about steps x size. Halves are rounded to the
        even neighbour, as in QuantizeLinear.
    """
    largest = np.abs(weights).max(axis=(1, 2, 3))
    scale = _scale(largest, WEIGHT_LEVELS)
    steps = np.rint(weights / scale[:, None, None, None])
    return np.clip(steps, -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8), scale


def quantised_values(model: onnx.ModelProto) -> dict[str, str]:
    """Return the name of the value that is quantised for each convolution.

    This is the convolution's input, or the input of the pool before it. Rounding before or after a
    pool gives the same result, and a pool of bytes moves a quarter of the memory. The model comes
    from `engines.model.onnx_graph.build_onnx`, fp32.
    """
    pools = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "MaxPool"
    }
    return {
        node.name: pools.get(node.input[0], node.input[0])
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def quantise(
    model: onnx.ModelProto, limits: Mapping[str, float], float_layers: Collection[str] = ()
) -> onnx.ModelProto:
    """Return a graph whose convolutions compute in 8-bit integers.

    Parameters
    ----------
    model : ModelProto
        From `engines.model.onnx_graph.build_onnx`, fp32; it is not changed.
    limits : mapping of str to float
        The magnitude that becomes 127 for each of `quantised_values`; larger values are clipped.
    float_layers : collection of str
        Names of convolutions that stay in float, including their input.

    Returns
    -------
    ModelProto
        The graph with the same input, output and metadata; weights are stored in 8 bits.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}

    def constant(name: str, values: NDArray[np.generic]) -> str:
        constants[name] = numpy_helper.from_array(values, name)
        return name

    def through_bytes(value: str) -> str:
        """Round a value to 8 bits, once for all readers, and return the result's name."""
        if value not in rounded:
            grid = [
                constant(f"{value}_scale", _scale(np.float32(limits[value]))),
                constant(f"{value}_zero", np.array(0, np.int8)),
            ]
            steps, rounded[value] = f"{value}_int8", f"{value}_rounded"
            nodes.append(helper.make_node("QuantizeLinear", [value, *grid], [steps], name=steps))
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [steps, *grid], [rounded[value]], name=rounded[value]
                )
            )
        return rounded[value]

    int8_layers = {
        node.name: node
        for node in graph.node
        if node.op_type == "Conv" and node.name not in float_layers
    }
    int8_inputs = {node.input[0] for node in int8_layers.values()}
    pooled = {node.output[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        if node.op_type == "MaxPool" and node.output[0] in int8_inputs:
            node.input[0] = through_bytes(node.input[0])
        elif node.name in int8_layers:
            if node.input[0] not in pooled:
                node.input[0] = through_bytes(node.input[0])
            name = node.input[1]
            steps, scale = quantise_weights(numpy_helper.to_array(constants.pop(name)))
            stored = [constant(f"{name}_int8", steps), constant(f"{name}_scale", scale)]
            nodes.append(
                helper.make_node("DequantizeLinear", stored, [name], name=f"{name}_float", axis=0)
            )
        nodes.append(node)

    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("initializer")
    graph.initializer.extend(constants.values())
    onnx.checker.check_model(result, full_check=True)
    return result


def _scale(largest: NDArray[np.float32] | np.float32, levels: int = LEVELS) -> NDArray[np.float32]:
    """Return the size of a step; 1 if all values are zero."""
    return np.asarray(np.where(largest > 0, largest / levels, 1), np.float32)
