"""How the output of the network to be trained is read."""

from __future__ import annotations

import numpy as np

from engines.training.config import TrainConfig
from kernels.head import Head, anchor_grid


def make_head(config: TrainConfig, width: int, height: int) -> Head:
    """Return how to read the network's output for an input of this size."""
    network = config.network
    threshold = network.output.exponential_threshold
    return Head(
        classes=len(network.output.classes),
        anchors=anchor_grid(width, height, network.anchors.shapes, network.anchors.centres),
        anchors_per_cell=len(network.anchors.shapes),
        layout=network.output.layout,
        exp_threshold=np.inf if threshold is None else threshold,
        width=width,
        height=height,
    )
