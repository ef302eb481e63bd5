"""A fake teacher model whose boxes are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

WIDTH, HEIGHT = 80, 40  # of the fake teacher's input
Row = tuple[int, float, tuple[float, float, float, float]]


def write_teacher(path: Path, *rows: Row, channel: int = 0, outputs: Sequence[str] = ()) -> Path:
    """Write a model that always finds these boxes, in pixels of its input.

    It multiplies their scores by the mean of a channel, divided by 255.
    """
    image = ops.parameter([1, 3, HEIGHT, WIDTH], np.float32, name="image")
    mean = ops.reduce_mean(image, ops.constant([2, 3], np.int64), keep_dims=False)
    level = ops.gather(mean, ops.constant([channel], np.int64), ops.constant(1, np.int64))
    level = ops.divide(level, ops.constant([[255.0]], np.float32))
    scores = ops.constant(np.array([[row[1]] for row in rows], np.float32))
    corners = ops.constant(np.array([row[2] for row in rows], np.float32))
    boxes = ops.concat([corners, ops.multiply(scores, level)], 1)
    labels = ops.constant(np.array([row[0] for row in rows], np.int64))
    results = [ops.result(boxes), ops.result(labels)]
    for result, name in zip(results, outputs or ("boxes", "labels"), strict=True):
        result.output(0).set_names({name})
    ov.save_model(ov.Model(results, [image]), path, compress_to_fp16=False)
    return path
