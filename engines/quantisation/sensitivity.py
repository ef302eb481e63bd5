"""How much of the network's output 8 bits disturb, and which layers are to blame."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from squeezedrive.engines.quantisation.calibrate import compile_graph, surest_cells
from squeezedrive.engines.quantisation.graph import quantise, quantised_values
from squeezedrive.kernels.head import Head

# Weights with a KITTI mAP of 0.61, all in 8 bits at 4.7 dB, lost no AP, others 0.006 at 14.3 dB.
ENOUGH_DB = 4.0


class NoiseMeter:
    """Compares the output of quantised graphs with that of the float graph on some pictures.

    Parameters
    ----------
    model : ModelProto
        From `engines.model.onnx_graph.build_onnx`, fp32.
    limits : mapping of str to float
        From `engines.quantisation.calibrate.measure_limits`.
    pictures : sequence of float32 arrays (1, 3, height, width)
        Pixels as the model takes them.
    head : Head
        How to read its output.
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
        output = self._run(model)
        self._cells = surest_cells(output, head)
        self._expected = self._at_cells(output)
        self._power = self._expected.var(axis=0)

    def noise(self, float_layers: Collection[str]) -> float:
        """Return the noise with these convolutions in float and the others in 8 bits.

        It is the mean squared error of an output channel as a part of its variance, in the cells
        that matter (`surest_cells`), averaged over the channels: logits and the four deltas have
        different ranges. Noises of single layers add
        up to about that of all of them.
        """
        output = self._at_cells(self._run(quantise(self._model, self._limits, float_layers)))
        error = np.mean((output - self._expected) ** 2, axis=0)
        varies = self._power > 0
        return float(np.mean(error[varies] / self._power[varies])) if varies.any() else 0.0

    def _at_cells(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        return output.transpose(0, 2, 3, 1)[self._cells]

    def _run(self, model: onnx.ModelProto) -> NDArray[np.float64]:
        run = compile_graph(model)
        outputs = [np.asarray(run(pixels)[0], np.float64) for pixels in self._pictures]
        return np.concatenate(outputs)


def choose_float_layers(
    meter: NoiseMeter,
    progress: Callable[[int], None] = lambda done: None,
    enough_db: float = ENOUGH_DB,
) -> tuple[str, ...]:
    """Return the convolutions to leave in float, the worst ones first: none, if all can do.

    If the whole network in 8 bits is too noisy, each layer is quantised alone to see its effect.
    Then layers are left in float by effect, one more at a time, until the rest is good enough.

    `progress` is given the number of layers done after each; it is not called if all can do.
    `enough_db` is the least ratio of signal to noise of the output, see `decibels`.
    """
    if decibels(meter.noise(())) >= enough_db:
        return ()
    effects = {}
    for layer in meter.layers:
        effects[layer] = meter.noise([other for other in meter.layers if other != layer])
        progress(len(effects))
    worst_first = sorted(effects, key=lambda layer: -effects[layer])
    count = 1
    while decibels(meter.noise(worst_first[:count])) < enough_db:
        count += 1
    return tuple(worst_first[:count])


def decibels(noise: float) -> float:
    """Return a noise as ratio of signal to noise: 20 dB is a noise of a hundredth."""
    return -10 * math.log10(noise) if noise > 0 else math.inf
