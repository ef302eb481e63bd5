"""Read weights of the PyTorch code of J. Qiu: a state dictionary, alone or in a checkpoint."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

from squeezedrive.engines.errors import UserError, WeightsError, shortened
from squeezedrive.engines.importing.tensors import Tensors, collect_tensors, own_name
from squeezedrive.engines.model.network import SQUEEZEDET, Conv, Network


def read_pytorch(path: Path) -> Tensors:
    """Read a file of `torch.save`; only tensors and plain values are unpickled.

    Raises
    ------
    UserError
        If PyTorch is not installed.
    WeightsError
        If the file is not a state dictionary, or a name in it is unknown.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError("reading PyTorch weights needs PyTorch: pip install -e '.[train]'")
    import torch

    try:
        with warnings.catch_warnings():  # about its own future
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except Exception as error:  # the unpickler raises whatever it stumbles over
        reason = shortened(str(error).strip().split("\n")[0])
        raise WeightsError(
            f"{path}: expected a state dictionary written by torch.save, without objects that run"
            f" code when they are read: {reason or type(error).__name__}"
        ) from None
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise WeightsError(f"{path}: expected a dictionary of tensors, or one as its state_dict")
    layers = _positions(SQUEEZEDET)
    try:
        named = [
            (str(name), _own_name(str(name), layers), tensor.detach().float().numpy())
            for name, tensor in content.items()
        ]
    except (RuntimeError, TypeError) as error:  # sparse, quantised or without storage
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path}: expected dense tensors of real numbers: {reason}") from None
    return collect_tensors(
        path, named, (), "names like base.features.0.weight and base.convdet.bias"
    )


def _positions(network: Network) -> dict[str, str]:
    """Return our layers by their names in that code: numbers that count ReLUs, and the head."""
    layers = {}
    position = 0
    for layer in network.layers[:-1]:
        layers[f"features.{position}"] = layer.name
        position += 2 if isinstance(layer, Conv) else 1
    layers["convdet"] = network.layers[-1].name
    return layers


def _own_name(name: str, layers: dict[str, str]) -> str | None:
    plain = name.removeprefix("module.").removeprefix(
        "base."
    )  # prefixes of DataParallel and of the detector
    for theirs, ours in layers.items():
        if plain.startswith(f"{theirs}."):
            rest = plain[len(theirs) :].replace(".squeeze.", ".squeeze1x1.")
            return own_name(ours + rest)
    return None
