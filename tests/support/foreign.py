"""The project's weights in the form of other implementations, and the boxes that weights find."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights
from squeezedrive.kernels.head import Head, HeadLayout
from squeezedrive.kernels.reference import decode

SIZE = (128, 64)
OWN_SHAPES = "36x37,366x174,115x59,162x87,38x90,258x173,224x108,78x170,72x43"
AS_OURS = (
    *("--padding", "symmetric", "--centres", "half_stride"),
    *("--anchors", OWN_SHAPES, "--exponential", "1"),
)
"""Options to import the project's own weights, which follow the conventions of no other code."""

SHAPES = tuple(tuple(map(float, pair.split("x"))) for pair in OWN_SHAPES.split(","))

Arrays = dict[str, NDArray[np.float32]]


def own_weights() -> Weights:
    """Return the project's weights with the published anchors and the published form of boxes."""
    weights = load_weights(DEFAULT)
    profile = weights.profile
    anchors = profile.anchors.model_copy(update={"shapes": SHAPES})
    output = profile.output.model_copy(update={"reach": 0.0})
    changed = {"anchors": anchors, "output": output}
    return Weights(profile.model_copy(update=changed), weights.arrays)


def with_head(weights: Weights, layout: HeadLayout, classes: Sequence[str]) -> Arrays:
    """Return the arrays with the channels of the head in another order."""
    head = weights.profile.head(*SIZE)
    other = Head(head.classes, head.anchors, head.anchors_per_cell, layout, 1.0, head.grid)
    logits = [weights.profile.output.classes.index(name) for name in classes]
    values = [*logits, *range(len(classes), len(classes) + 5)]
    arrays = dict(weights.arrays)
    for name in ("conv12_w", "conv12_b"):
        arrays[name] = np.empty_like(arrays[name])
        arrays[name][other.channels] = weights.arrays[name][head.channels[:, values]]
    return arrays


def hwio(arrays: Arrays, weight: str, bias: str) -> Arrays:
    """Return arrays as TensorFlow and Keras name and order them: fire2/squeeze1x1/kernels."""
    renamed = {}
    for name, array in arrays.items():
        layer, kind = name.rsplit("_", 1)
        path = f"{layer.replace('_', '/')}/{weight if kind == 'w' else bias}"
        renamed[path] = array.transpose(2, 3, 1, 0) if kind == "w" else array
    return renamed


def run_network(weights: Weights, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the output (channels, rows, columns) for pixels (3, height, width)."""
    graph = build_onnx(weights, pixels.shape[2], pixels.shape[1])
    model = core().read_model(io.BytesIO(graph.SerializeToString()))
    compiled = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(pixels[None])[0][0])


def found_by(
    weights: Weights,
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Return box, score and class name of every anchor in a picture of noise."""
    rng = np.random.default_rng(0)
    bgr = rng.uniform(0, 255, (3, SIZE[1], SIZE[0])).astype(np.float32)
    pixels = bgr if weights.profile.input.channels == "BGR" else bgr[::-1].copy()
    output = run_network(weights, pixels)
    boxes, scores, classes = decode(output, weights.profile.head(*SIZE))
    return boxes, scores, [weights.profile.output.classes[index] for index in classes]


def assert_same_found(weights: Weights, other: Weights) -> None:
    """Assert that both weights find the same boxes."""
    boxes, scores, classes = found_by(weights)
    other_boxes, other_scores, other_classes = found_by(other)
    np.testing.assert_allclose(other_boxes, boxes, atol=0.02)
    np.testing.assert_allclose(other_scores, scores, atol=1e-4)
    assert other_classes == classes
    assert len(set(classes)) > 1
