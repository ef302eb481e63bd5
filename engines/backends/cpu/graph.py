"""Convert the int8 graph to the form that OpenVINO runs fastest, with other operations.

`engines.quantisation.graph.quantise` writes the form that every back end accepts. One of the
changes here depends on the processor; see `for_processor`. The table shows times of the network in
ms on one core of a Sapphire Rapids processor, limited to older instructions by ONEDNN_MAX_CPU_ISA:
medians of one run in which the variants take turns (`python -m tests.benchmarks.int8_graph`),
OpenVINO 2026.4:

| | AMX | AVX-512 VNNI | AVX2 VNNI | AVX2 |
|---|---|---|---|---|
| as written, bytes made unsigned | 13.7 | 25.0 | 35.9 | 62.5 |
| with bytes as input | 12.7 | 23.7 | 35.4 | 61.7 |
| with bytes as input and merged expansions | 12.1 | 27.3 | 41.6 | 75.2 |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from squeezedrive.engines.model.profile import InputProfile

# Fires whose expansions are merged with AMX; merging is slower for the larger inputs of the last
# two.
MERGED = tuple(f"fire{number}" for number in range(2, 10))


def for_processor(model: onnx.ModelProto, pixels: InputProfile, amx: bool) -> onnx.ModelProto:
    """Return a quantised graph in the form that a processor runs fastest.

    Parameters
    ----------
    model : ModelProto
        From `engines.quantisation.graph.quantise`; it is not changed.
    pixels : InputProfile
        What the weights want of pixels.
    amx : bool
        Whether the processor has AMX (`has_amx`), which multiplies so fast that merged expansions
        win.
    """
    graph = bytes_in(unsigned(model), pixels)
    return merge_expansions(graph) if amx else graph


def has_amx() -> bool:
    """Return whether the processor multiplies matrices of bytes (AMX), as reported by Linux."""
    try:
        return " amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantised graph with unsigned bytes wherever no value is negative.

    OpenVINO 2026.4 computes signed bytes wrongly on processors without VNNI instructions. The same
    range has 255 steps instead of 127, each half as large, which leaves a fifth of the squared
    error in the network's confidences. The model, from `engines.quantisation.graph.quantise`, is
    not changed.
    """
    result = _copy(model)
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


def bytes_in(model: onnx.ModelProto, pixels: InputProfile) -> onnx.ModelProto:
    """Return a quantised graph whose first convolution reads pixels as bytes from memory.

    Its input "image" is uint8 (batch, height, width, 3), BGR. Mean, scale and channel order become
    part of the first convolution, so no pass over the pixels is needed before it. A pixel keeps all
    its 256 steps; the padding is black instead of the mean. If the input or the weights of the
    first convolution are in float, the graph is returned unchanged.
    """
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    makers = {node.output[0]: node for node in model.graph.node}
    read = [makers.get(name) for name in first.input[:2]]
    if any(node is None or node.op_type != "DequantizeLinear" for node in read):
        return model
    result = _copy(model)
    graph = result.graph
    constants = {constant.name: constant for constant in graph.initializer}

    def put(name: str, values: NDArray[np.generic]) -> str:
        constants[name] = numpy_helper.from_array(values, name)
        return name

    steps_name, scale_name = makers[first.input[1]].input
    steps = numpy_helper.to_array(constants[steps_name])
    scale = numpy_helper.to_array(constants[scale_name]) * np.float32(pixels.scale)
    bias = numpy_helper.to_array(constants[first.input[2]])
    mean = np.array(pixels.mean, np.float32)
    bias = bias - scale * (steps * mean[:, None, None]).sum(axis=(1, 2, 3), dtype=np.float32)
    put(steps_name, steps if pixels.channels == "BGR" else steps[:, ::-1].copy())
    put(scale_name, scale)
    put(first.input[2], bias)

    grid = [put("byte_step", np.array(1, np.float32)), put("byte_zero", np.array(0, np.uint8))]
    # Rounding comes first, because OpenVINO then skips the transposition, which saves 2.5 ms.
    nodes = [
        helper.make_node("Cast", ["image"], ["float_pixels"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["float_pixels", *grid], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", *grid], ["pixels"]),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    before = set(_back(first.input[0], makers))
    for node in graph.node:
        if node.output[0] in before:
            for name in node.input:
                constants.pop(name, None)
        else:
            nodes.append(node)
            if node.name == first.name:
                node.input[0] = "planes"
    batch, _, height, width = graph.input[0].type.tensor_type.shape.dim
    shape = [batch.dim_param or batch.dim_value, height.dim_value, width.dim_value, 3]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.UINT8, shape))
    _replace(result, nodes, constants.values())
    return result


def merge_expansions(model: onnx.ModelProto, layers: tuple[str, ...] = MERGED) -> onnx.ModelProto:
    """Return a quantised graph in which one 3x3 convolution computes both expansions of some fires.

    The 1x1 kernel becomes the middle of a 3x3 kernel, and nothing has to be concatenated; the
    result is identical to the last bit. Missing fires, and fires partly in float, are left
    unchanged.
    """
    result = _copy(model)
    graph = result.graph
    constants = {constant.name: constant for constant in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    gone: set[str] = set()
    merged: dict[str, list[onnx.NodeProto]] = {}
    for layer in layers:
        if layer not in makers or makers[layer].op_type != "Concat":
            continue
        pair = [makers[f"{layer}_expand{size}_linear"] for size in ("1x1", "3x3")]
        weights = [makers.get(convolution.input[1]) for convolution in pair]
        if None in weights:
            continue
        steps, scales = (
            [numpy_helper.to_array(constants.pop(w.input[place])) for w in weights if w]
            for place in (0, 1)
        )
        biases = [numpy_helper.to_array(constants.pop(c.input[2])) for c in pair]
        steps[0] = np.pad(steps[0], ((0, 0), (0, 0), (1, 1), (1, 1)))
        parts = {"w_int8": steps, "w_scale": scales, "b": biases}
        name = f"{layer}_expand"
        for part, values in parts.items():
            constants[f"{name}_{part}"] = numpy_helper.from_array(
                np.concatenate(values), f"{name}_{part}"
            )
        convolution = onnx.NodeProto()
        convolution.CopyFrom(pair[1])
        convolution.name = name
        convolution.input[1:] = [f"{name}_w", f"{name}_b"]
        convolution.output[0] = f"{name}_linear"
        merged[layer] = [
            helper.make_node(
                "DequantizeLinear", [f"{name}_w_int8", f"{name}_w_scale"], [f"{name}_w"], axis=0
            ),
            convolution,
            helper.make_node("Relu", [f"{name}_linear"], [layer]),
        ]
        gone.update(makers[layer].input)
        gone.update(c.output[0] for c in pair)
        gone.update(c.input[1] for c in pair)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in gone:
            nodes += merged.get(node.output[0], [node])
    _replace(result, nodes, constants.values())
    return result


def _back(value: str, makers: dict[str, onnx.NodeProto]) -> Iterator[str]:
    """Yield a value and the values it is computed from, without inputs and constants."""
    if value in makers:
        yield value
        for source in makers[value].input:
            yield from _back(source, makers)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _replace(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Iterable[onnx.TensorProto]
) -> None:
    """Replace the nodes and constants of a model."""
    graph = model.graph
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("initializer")
    graph.initializer.extend(constants)
    onnx.checker.check_model(model, full_check=True)
