"""Measure the values between the layers, and choose the limits at which they are clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from squeezedrive.engines.backends.cpu.graph import unsigned
from squeezedrive.engines.backends.cpu.openvino import compile_model, core, ov
from squeezedrive.engines.quantisation.graph import LEVELS, quantised_values
from squeezedrive.kernels.head import Head

METHOD = "least squared error"

SHARE = 0.05  # part of a picture's cells that can hold an object

_BINS = 8192
_CANDIDATES = 200


class Histogram:
    """Counts of magnitudes in equal bins, from 0 to a power of two times the first maximum.

    When a larger value comes, bins are merged in pairs, so counts stay exact in a single pass.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self._top = 0.0
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of an array of any shape."""
        magnitudes = np.abs(values.ravel())
        largest = float(magnitudes.max())
        self.largest = max(self.largest, largest)
        self._top = self._top or largest
        if not self._top:
            self._counts[0] += magnitudes.size
            return
        while largest > self._top:
            half = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.concatenate([half, np.zeros_like(half)])
            self._top *= 2
        bins = (magnitudes * np.float32(_BINS / self._top)).astype(np.intp)
        np.minimum(bins, _BINS - 1, out=bins)  # the largest itself lies on the upper edge
        self._counts += np.bincount(bins, minlength=_BINS)

    def best_limit(self) -> float:
        """Return the clipping limit with the least mean squared error in 8 bits; 0 for zeros only.

        A low limit gives fine steps for the many small values and clips the few large ones.
        Compared with other methods (largest value, percentiles, least divergence), this one
        disturbed the network's output least, or nearly so, for all weights tried.
        """
        centres = (np.arange(_BINS, dtype=np.float64) + 0.5) * (self._top / _BINS)
        there = self._counts > 0
        centres, counts = centres[there], self._counts[there]
        limits = [self.largest * part / _CANDIDATES for part in range(1, _CANDIDATES + 1)]
        return min(limits, key=lambda limit: _squared_error(centres, counts, limit))


def _squared_error(values: NDArray[np.float64], counts: NDArray[np.int64], limit: float) -> float:
    step = limit / LEVELS if limit else 1.0
    rounded = np.minimum(np.rint(values / step), LEVELS) * step
    return float(np.sum(counts * (values - rounded) ** 2))


def surest_cells(output: NDArray[np.floating], head: Head) -> NDArray[np.bool_]:
    """Return the cells with the most confident anchors, a `SHARE` of each picture's cells.

    In the other cells, nothing is found whatever their values are, so the values grow in training;
    in some weights to a hundred times the values that matter.

    Parameters
    ----------
    output : array (B, channels, rows, columns)
        The network's output.
    head : Head

    Returns
    -------
    bool array (B, rows, columns)
    """
    confidence = output[:, head.channels[:, head.classes]].max(axis=1)
    least = np.quantile(confidence, 1 - SHARE, axis=(1, 2), keepdims=True)
    return np.asarray(confidence >= least)


def measure_limits(
    model: onnx.ModelProto,
    pictures: Iterable[NDArray[np.float32]],
    head: Head,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Run the network and return the clipping limit of each value to be quantised.

    The limit of the head's input depends only on the cells that matter; see `surest_cells`.

    Parameters
    ----------
    model : ModelProto
        From `engines.model.onnx_graph.build_onnx`, fp32.
    pictures : iterable of float32 arrays (1, 3, height, width)
        Pixels as the model takes them.
    head : Head
    progress : callable
        Called after each picture with the number of pictures done.

    Returns
    -------
    dict of str to float
        A limit for each name of `quantised_values`.
    """
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    histograms = {name: Histogram() for name in quantised_values(model).values()}
    tapped.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in histograms
    )
    last = model.graph.node[-1].input[0]
    run = compile_graph(tapped)
    for done, pixels in enumerate(pictures, 1):
        values = run(pixels, share_outputs=True)
        for name, histogram in histograms.items():
            value = values[name]
            if name == last:
                value = value.transpose(0, 2, 3, 1)[surest_cells(values[0], head)]
            histogram.add(value)
        progress(done)
    return {name: histogram.best_limit() for name, histogram in histograms.items()}


def correct_output(
    quantised: onnx.ModelProto,
    model: onnx.ModelProto,
    pictures: Iterable[NDArray[np.float32]],
    head: Head,
    progress: Callable[[int], None] = lambda done: None,
) -> onnx.ModelProto:
    """Return the quantised graph with a corrected bias in its head: no channel has a mean error.

    Rounding moves confidences in one direction: AP stays the same, but more boxes reach a threshold
    (Nagel et al., ICCV 2019: bias correction). The mean error is measured with OpenVINO, over the
    cells that matter (`surest_cells`).

    Parameters
    ----------
    quantised : ModelProto
        From `engines.quantisation.graph.quantise`, made from `model`; it is not changed.
    model, pictures, head, progress
        See `measure_limits`.
    """
    exact, rounded = compile_graph(model), compile_graph(quantised)
    errors: list[NDArray[np.float64]] = []
    for done, pixels in enumerate(pictures, 1):
        expected = np.array(exact(pixels)[0], np.float64)
        cells = surest_cells(expected, head)
        error = np.asarray(rounded(pixels)[0], np.float64) - expected
        errors.append(error.transpose(0, 2, 3, 1)[cells])
        progress(done)
    result = onnx.ModelProto()
    result.CopyFrom(quantised)
    name = next(node for node in reversed(result.graph.node) if node.op_type == "Conv").input[2]
    bias = next(constant for constant in result.graph.initializer if constant.name == name)
    corrected = numpy_helper.to_array(bias) - np.concatenate(errors).mean(axis=0)
    bias.CopyFrom(numpy_helper.from_array(corrected.astype(np.float32), name))
    return result


def compile_graph(model: onnx.ModelProto) -> ov.CompiledModel:
    """Compile a graph for the CPU; its operations in float compute in fp32."""
    graph = core().read_model(unsigned(model).SerializeToString())
    return compile_model(graph, {"INFERENCE_PRECISION_HINT": "f32"})
