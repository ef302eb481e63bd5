"""Save and load the state of a training; after a power failure, the old or new one exists."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import write_whole

VERSION = 1


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing or damaged, or belongs to another training or program version."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; it replaces the last one.

    Raises
    ------
    UserError
        If the state cannot be written; the last one stays unchanged.
    """
    # Written to memory first, because PyTorch's error does not mention a full disk.
    content = io.BytesIO()
    torch.save({"version": VERSION, **state}, content)
    write_whole(path, content.getbuffer(), sync=True)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state; it may hold only tensors and plain values, no code.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or cannot be used.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint yet; train without --resume starts again")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: damaged checkpoint: {reason}") from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise CheckpointError(f"{path}: not a checkpoint of this version of the program")
    return state


def random_state() -> dict[str, torch.Tensor]:
    """Return the states of PyTorch's random number generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Restore the states of PyTorch's random number generators."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"].cpu())
