"""SqueezeDet+ as configs/training/plus.yaml describes it, with random weights."""

from __future__ import annotations

import numpy as np

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.model.profile import Profile
from squeezedrive.engines.model.weights import Weights
from squeezedrive.engines.training.config import load_train_config

PARAMETERS = 7_021_640


def plus_profile() -> Profile:
    """Return the profile that a training with plus.yaml would write."""
    return load_train_config(CONFIGS / "training" / "plus.yaml").profile("random", PARAMETERS)


def plus_weights() -> Weights:
    """Return random weights that keep the size of values in all layers (He initialisation)."""
    profile = plus_profile()
    rng = np.random.default_rng(0)
    arrays = {}
    for step in profile.operations(profile.input.width, profile.input.height):
        if step.kind == "conv":
            inputs = step.in_channels * step.kernel**2
            shape = (step.out_channels, step.in_channels, step.kernel, step.kernel)
            spread = np.float32(np.sqrt(2 / inputs))
            arrays[f"{step.name}_w"] = rng.standard_normal(shape, np.float32) * spread
            arrays[f"{step.name}_b"] = rng.standard_normal(step.out_channels, np.float32)
    return Weights(profile, arrays)
