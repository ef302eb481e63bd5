"""How much 8 bits change what the network finds, and which layers are to blame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.quantisation.calibrate import compile_graph
from engines.quantisation.graph import quantise, quantised_values
from kernels.head import Head
from kernels.reference import decode

BEST = 64  # boxes of a picture that are looked at, as many as evaluation takes
ENOUGH = 0.1


class ChangeMeter:
    """Compares the boxes of quantised graphs with those of the float graph on some pictures.

    Parameters
    ----------
    model : ModelProto
        From `engines.onnx_graph.build_onnx`, fp32.
    limits : mapping of str to float
        From `engines.quantisation.calibrate.measure_limits`.
    pictures : sequence of float32 arrays (1, 3, height, width)
        Pixels as the model takes them.
    head : Head
        How to read the model's output.

    Attributes
    ----------
    layers : tuple of str
        The network's convolutions.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        limits: Mapping[str, float],
        pictures: Sequence[NDArray[np.float32]],
        head: Head,
    ) -> None:
        self.layers = tuple(quantised_values(model))
        self._model = model
        self._limits = limits
        self._pictures = pictures
        self._head = head
        boxes, scores = self._run(model)
        self._best = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
        self._boxes, self._scores = self._take(boxes, scores)

    def change(self, float_layers: Collection[str]) -> float:
        """Return how much boxes change with these convolutions in float, the others in 8 bits.

        It is the mean of 1 - IoU and of the difference in score, added up, over the best boxes of
        the float graph before suppression, each weighted by its score.
        """
        boxes, scores = self._take(*self._run(quantise(self._model, self._limits, float_layers)))
        moved = 1 - _iou(boxes, self._boxes) + np.abs(scores - self._scores)
        return float(np.average(moved, weights=self._scores))

    def _run(self, model: onnx.ModelProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all boxes (pictures, anchors, 4) and scores (pictures, anchors)."""
        run = compile_graph(model)
        found = [decode(run(pixels)[0][0], self._head) for pixels in self._pictures]
        return np.array([boxes for boxes, _, _ in found]), np.array(
            [score for _, score, _ in found]
        )

    def _take(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the best of the float graph's, in double precision."""
        best_boxes = np.take_along_axis(boxes, self._best[:, :, None], axis=1)
        best_scores = np.take_along_axis(scores, self._best, axis=1)
        return best_boxes.astype(np.float64), best_scores.astype(np.float64)


def _iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of boxes (..., 4) with their counterparts; 1 for two that have no area."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (boxes, others)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.ones_like(union), where=union > 0)


def choose_float_layers(
    meter: ChangeMeter, progress: Callable[[int], None] = lambda done: None, enough: float = ENOUGH
) -> tuple[str, ...]:
    """Return the convolutions to leave in float, the worst ones first: none, if all can do.

    If the whole network in 8 bits changes boxes too much, each layer is quantised alone to see its
    effect. Then layers are left in float by effect, one more at a time, until the rest will do.

    Parameters
    ----------
    meter : ChangeMeter
        Of the network.
    progress : callable
        Is given the number of layers done after each; not called if all can do.
    enough : float
        Largest change that is tolerated, see `ChangeMeter.change`.
    """
    if meter.change(()) <= enough:
        return ()
    effects = {}
    for layer in meter.layers:
        effects[layer] = meter.change([other for other in meter.layers if other != layer])
        progress(len(effects))
    worst_first = sorted(effects, key=lambda layer: -effects[layer])
    count = 1
    while meter.change(worst_first[:count]) > enough:
        count += 1
    return tuple(worst_first[:count])
