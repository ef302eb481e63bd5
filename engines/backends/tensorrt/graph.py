"""The network for TensorRT: normalised pixels, any number of pictures.

It differs from the graph of the CPU back end in what lies around the layers. The kernel that fits
a frame into the input normalises it, since it has every pixel in hand anyway, and writes the
number format that the first convolution reads: nothing is converted on the way in or out.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.model.onnx_graph import build_onnx, load_onnx

EnginePrecision = Literal["fp16", "fp32", "int8"]

INPUT, OUTPUT = "image", "output"
_OPSET_OF_HALF_QUANTISATION = 19  # the first whose QuantizeLinear reads halves
_SMALLEST_HALF = np.finfo(np.float16).smallest_subnormal


def io_type(precision: EnginePrecision) -> np.dtype:
    """Return the number format of the network's input and output.

    float32 for "fp32", float16 for "fp16". With "int8" all that is not a byte is a half, so that
    format is float16 as well.
    """
    return np.dtype(np.float32 if precision == "fp32" else np.float16)


def engine_graph(settings: EngineSettings, precision: EnginePrecision) -> onnx.ModelProto:
    """Return the network for a TensorRT engine.

    Parameters
    ----------
    settings : EngineSettings
        Weights, input size, and for "int8" the quantised model.
    precision : str
        "fp16" and "fp32" for that format throughout; "int8" for convolutions on bytes, with
        scales, biases, input and output in half precision.

    Returns
    -------
    ModelProto
        Input "image" (batch, 3, height, width): (pixel - mean) x scale of the profile, pixels 0 to
        255 in its channel order. Output "output" (batch, head channels, rows, columns). Both in
        `io_type`; "batch" is free.

    Raises
    ------
    UserError
        If there is no quantised model, or the network cannot read an input of this size.
    """
    weights, width, height = settings.weights, settings.width, settings.height
    if precision == "int8":
        model = load_onnx(settings.int8, weights, width, height)
    else:
        model = build_onnx(weights, width, height)
    _without_normalisation(model.graph)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if io_type(precision) == np.float16:
        _halve(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _without_normalisation(graph: onnx.GraphProto) -> None:
    """Remove the subtraction, and the multiplication if there is one, of the input."""
    while (first := graph.node[0]).op_type in ("Sub", "Mul"):
        assert first.input[0] == INPUT
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == first.output[0]:
                    node.input[i] = INPUT
        (operand,) = (c for c in graph.initializer if c.name == first.input[1])
        graph.initializer.remove(operand)
        del graph.node[0]


def _halve(model: onnx.ModelProto) -> None:
    """Convert every float32 to float16."""
    graph = model.graph
    scales = {
        node.input[1]
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for constant in graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(constant).astype(np.float16)
            if constant.name in scales:  # of channels that are all but dead; TensorRT refuses 0
                values = np.maximum(values, _SMALLEST_HALF)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    if scales:
        (opset,) = model.opset_import
        opset.version = max(opset.version, _OPSET_OF_HALF_QUANTISATION)
