"""The definition of a target."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.settings import Layer, file_layer
from tests.fuzz.case import Case

SEEDS = Path(__file__).resolve().parent.parent / "seeds"


@dataclass(frozen=True)
class Target:
    """A part of the program that takes input.

    Attributes
    ----------
    cases : callable
        Make the strategy for its inputs.
    run : callable
        Run the program with an input that was written into the current folder, see `Case.write`;
        return its exit code.
    share : int
        Weight of the target in a campaign, relative to the other targets.
    quick : int
        Number of inputs in the normal tests.
    around : callable
        Make a context for all runs, for example with fakes of slow parts.
    connects : bool
        Whether its runs may make connections.
    """

    cases: Callable[[], st.SearchStrategy[Case]]
    run: Callable[[Case], int | None]
    share: int
    quick: int
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    connects: bool = False


def seed_files(*names: str) -> list[bytes]:
    """Return the content of files in `seeds/`."""
    return [(SEEDS / name).read_bytes() for name in names]


@contextmanager
def defaults_read_once() -> Iterator[None]:
    """Read the program's own files only once, because this would take most of the time.

    These are the configuration and the kinds of outputs. argparse looks for no translations.
    """
    from squeezedrive.engines.training import config as training
    from squeezedrive.pipeline import config as pipeline
    from squeezedrive.pipeline.sinks import registry

    read = cache(file_layer)

    def layer_of(path: Path, paths: Sequence[str] = ()) -> Layer:
        if not path.is_relative_to(CONFIGS):
            return file_layer(path, paths)
        layer = read(path, tuple(paths))
        return Layer(layer.origin, deepcopy(layer.values))

    with (
        mock.patch.object(pipeline, "file_layer", layer_of),
        mock.patch.object(training, "file_layer", layer_of),
        mock.patch.object(registry, "_specs_in", cache(registry._specs_in)),
        mock.patch.object(argparse, "_", str),
    ):
        yield
