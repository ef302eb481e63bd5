"""OpenVINO: opened once, and what its arithmetic asks for."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnx
import openvino as ov
from onnx import numpy_helper


@cache
def core() -> ov.Core:
    """Return the one OpenVINO core of this process.

    It stays until the end: a core frees the signal stacks that it gave to threads, see
    `compile_model`, when it goes, and may leave a freed one registered (OpenVINO 2026.4).
    """
    return ov.Core()


def compile_model(model: ov.Model, options: Mapping[str, Any]) -> ov.CompiledModel:
    """Compile a model for the processor, in a thread made for it.

    On processors with AMX the first model that a thread compiles gives this thread an alternate
    signal stack of 20,144 bytes, of which the kernel's own frame takes 11,952 (OpenVINO 2026.4).
    Two signals within microseconds run over its end and kill the process, so the threads that
    handle signals keep their own.

    Parameters
    ----------
    model : Model
        The graph.
    options : mapping
        Properties of OpenVINO's CPU plugin.
    """
    with ThreadPoolExecutor(1, "compile") as pool:
        return pool.submit(core().compile_model, model, "CPU", dict(options)).result()


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantised graph with unsigned bytes wherever no value is negative.

    OpenVINO 2026.4 computes signed ones wrongly on processors without VNNI instructions. What 127
    steps reached is reached by 255, half as large: a fifth of the squared error in the network's
    confidences. The model, of `engines.quantisation.graph.quantise`, is not changed.
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
                _, scale, zero = node.input
                steps = numpy_helper.to_array(constants[scale])
                fine = np.asarray(steps * np.float32(127 / 255), steps.dtype)
                constants[scale].CopyFrom(numpy_helper.from_array(fine, scale))
                constants[zero].CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), zero))
    return result
