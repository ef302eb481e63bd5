"""The network as an ONNX model, the one interchange format of all back ends."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from squeezedrive.engines.errors import ConfigError, WeightsError
from squeezedrive.engines.model.weights import Weights

Precision = Literal["fp32", "fp16"]
DIGEST = "weights_sha256"  # metadata key of quantised models: the weights they were made from
_OPSET = 17


def build_onnx(
    weights: Weights,
    width: int | None = None,
    height: int | None = None,
    precision: Precision = "fp32",
    batch: int | str = 1,
) -> onnx.ModelProto:
    """Build the ONNX model of a network.

    Normalisation is part of the graph. So a back end only has to provide pixels, and every back end
    normalises them as in training.

    Parameters
    ----------
    weights : Weights
    width, height : int, optional
        Input size in pixels; the default is the profile's.
    precision : str
        "fp32" or "fp16". In fp16, all weights and all values in between are half precision; input
        and output stay float32.
    batch : int or str
        Number of images in a batch; a string names a free dimension.

    Returns
    -------
    ModelProto
        Input "image", float32 (batch, 3, height, width), pixels 0 to 255 in the profile's channel
        order. Output "output", float32 (batch, head channels, rows, columns).

    Raises
    ------
    NetworkError
        If the network cannot read an input of this size.
    """
    profile = weights.profile
    width = width or profile.input.width
    height = height or profile.input.height
    half = precision == "fp16"
    dtype = np.float16 if half else np.float32

    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, values: object) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    pixels = "image"
    if half:
        nodes.append(helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT16))
        pixels = "pixels"
    mean = constant("mean", np.reshape(profile.input.mean, (1, 3, 1, 1)))
    nodes.append(helper.make_node("Sub", [pixels, mean], ["centred"]))
    values = {"image": "centred"}
    if profile.input.scale != 1.0:
        scale = constant("scale", profile.input.scale)
        nodes.append(helper.make_node("Mul", ["centred", scale], ["scaled"]))
        values["image"] = "scaled"

    steps = profile.operations(width, height)
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        values[step.name] = step.name
        if step.kind == "concat":
            nodes.append(helper.make_node("Concat", inputs, [step.name], name=step.name, axis=1))
            continue
        (left, right), (top, bottom) = step.pads
        window = partial(
            helper.make_node,
            name=step.name,
            kernel_shape=[step.kernel] * 2,
            strides=[step.stride] * 2,
            pads=[top, left, bottom, right],
        )
        if step.kind == "pool":
            nodes.append(window("MaxPool", inputs, [step.name]))
            continue
        inputs += [constant(n, weights.arrays[n]) for n in (f"{step.name}_w", f"{step.name}_b")]
        output = f"{step.name}_linear" if step.relu else step.name
        nodes.append(window("Conv", inputs, [output]))
        if step.relu:
            nodes.append(helper.make_node("Relu", [output], [step.name]))

    last = steps[-1]
    if half:
        nodes.append(helper.make_node("Cast", [last.name], ["output"], to=TensorProto.FLOAT))
    else:
        nodes[-1].output[0] = "output"
    grid = [last.out_size[1], last.out_size[0]]
    float_value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        profile.name,
        [float_value("image", TensorProto.FLOAT, [batch, 3, height, width])],
        [float_value("output", TensorProto.FLOAT, [batch, profile.head_channels, *grid])],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="squeezedrive",
        ir_version=8,
    )
    helper.set_model_props(model, {"profile": profile.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def load_onnx(path: Path | None, weights: Weights, width: int, height: int) -> onnx.ModelProto:
    """Read a quantised model of these weights for an input of this size in pixels.

    The graph holds no sizes except those of its input and output, so one file serves all input
    sizes.

    Raises
    ------
    ConfigError
        If there is no quantised model (`path` is None).
    WeightsError
        If it cannot be read, is not quantised, or belongs to other weights.
    """
    profile = weights.profile
    if path is None:
        raise ConfigError(
            f"precision int8: the weights {profile.name} have no quantised model beside them;"
            " python -m engines quantize makes one"
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception:  # protobuf, the checker and its parts have errors of their own
        raise WeightsError(f"{path}: is not a valid ONNX model") from None
    stored = {prop.key: prop.value for prop in model.metadata_props}
    digest = weights.digest()
    # Models of earlier versions of this program hold none.
    for what, same in (
        ("its profile is not that of", stored.get("profile") == profile.model_dump_json()),
        ("it was not made from", stored.get(DIGEST, digest) == digest),
    ):
        if not same:
            raise WeightsError(
                f"{path}: {what} the weights {profile.name}; python -m engines quantize makes one"
                " that belongs to them"
            )
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise WeightsError(f"{path}: expected a quantised model, got one in float")
    for values in (model.graph.input, model.graph.output):
        if len(values) != 1 or len(values[0].type.tensor_type.shape.dim) != 4:
            raise WeightsError(f"{path}: expected one input and one output, of 4 dimensions each")
    last = profile.operations(width, height)[-1]
    for value, shape in (
        (model.graph.input[0], (1, 3, height, width)),
        (model.graph.output[0], (1, profile.head_channels, last.out_size[1], last.out_size[0])),
    ):
        for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
    return model
