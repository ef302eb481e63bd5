"""What a target is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

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
        Part of the inputs of a campaign with all targets.
    quick : int
        Inputs in the normal tests.
    around : callable
        Make what surrounds all runs, such as stand-ins for slow parts.
    connects : bool
        Whether its runs may connect to this machine.
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
