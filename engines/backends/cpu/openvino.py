"""OpenVINO: opened once, and what its arithmetic asks for."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import openvino as ov
from onnx import numpy_helper


@cache
def core() -> ov.Core:
    """Return the one OpenVINO core of this process.

    With its first model a core gives the thread a signal stack of its own, for the large registers
    of AMX, and frees it when it goes. Of several cores that go in the order they came, the last
    leaves a freed stack registered: the next signal, a Ctrl-C, would write into whatever memory
    has come in its place (OpenVINO 2026.4). One that stays until the end does not.
    """
    return ov.Core()


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantised graph with unsigned bytes wherever no value is negative.

    OpenVINO 2026.4 computes signed ones wrongly on processors without VNNI instructions. The steps
    are the same, and what would be clipped at 127 goes on to 255.

    Parameters
    ----------
    model : ModelProto
        From `engines.quantisation.graph.quantise`; is not changed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {constant.name: constant for constant in result.graph.initializer}
    positive: set[str] = set()
    for node in result.graph.node:
        passes_on = node.op_type in ("MaxPool", "QuantizeLinear", "DequantizeLinear")
        sources = node.input[:1] if passes_on else node.input
        if node.op_type == "Relu" or (
            (passes_on or node.op_type == "Concat") and positive.issuperset(sources)
        ):
            positive.update(node.output)
            if node.op_type == "QuantizeLinear":
                zero = numpy_helper.from_array(np.array(0, np.uint8), node.input[2])
                constants[node.input[2]].CopyFrom(zero)
    return result
