"""Read the latest weights of a training, finished or not."""

from __future__ import annotations

from pathlib import Path

import torch

from squeezedrive.engines.model.weights import Weights
from squeezedrive.engines.training.checkpoint import load_checkpoint
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.device import Compute
from squeezedrive.engines.training.learner import Learner
from squeezedrive.engines.training.report import RunFolder, stored_config


def load_run(path: Path) -> Weights:
    """Return the weights in the checkpoint of a training's folder; their average if there is one.

    Batch normalisation is folded into the convolutions.

    Raises
    ------
    UserError
        If the folder holds no training, or its configuration or checkpoint is damaged.
    """
    config = load_train_config(stored_config(path))
    compute = Compute(torch.device("cpu"), "fp32", rank=0, world=1)
    folder = RunFolder(path)
    state = load_checkpoint(folder.checkpoint, compute.device)
    learner = Learner(config, compute, None)
    learner.restore(state)
    arrays = learner.evaluated.to_arrays()
    profile = config.profile(folder.weights.stem, sum(array.size for array in arrays.values()))
    step = f" and {state['step']} steps" if state["step"] else ""
    training = {
        "run": profile.name,
        "epochs": f"{state['epoch']}{step} of {config.epochs}",
        "batch": config.batch,
        "seed": config.seed,
    }
    return Weights(profile.model_copy(update={"training": training}), arrays)
