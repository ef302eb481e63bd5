"""List the back ends, and choose the one that runs on this machine.

A new back end needs a folder and a line in `BACKENDS`. Importing this module imports no library
that runs a network, because command lines take the names from here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.cpu.entry import open_cpu
from squeezedrive.engines.backends.tensorrt.entry import open_tensorrt, tensorrt_obstacles
from squeezedrive.engines.backends.torch.entry import open_torch, torch_obstacles
from squeezedrive.engines.errors import BackendUnavailable, UserError

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import Backend, BackendOptions, EngineSettings

log = logging.getLogger("squeezedrive")


@dataclass(frozen=True)
class BackendEntry:
    """The functions that check and open a back end.

    Attributes
    ----------
    open : callable
        Takes the settings, the options of all back ends and the reason for its `BackendInfo`;
        returns the back end with the network loaded. Raises BackendUnavailable if this machine
        cannot run it, another UserError if it cannot run with these settings.
    obstacles : callable or None
        Returns the reasons why the back end cannot run on this machine, the most basic first, each
        with its remedy. None for a back end that runs on any machine.
    """

    open: Callable[[EngineSettings, Sequence[BackendOptions], str], Backend]
    obstacles: Callable[[], list[str]] | None = None


BACKENDS = {  # "auto" takes the first that runs on this machine
    "tensorrt": BackendEntry(open_tensorrt, tensorrt_obstacles),
    "torch": BackendEntry(open_torch, torch_obstacles),
    "cpu": BackendEntry(open_cpu),
}

CHOICES = ("auto", *BACKENDS)
"""The names that the user may choose from."""


def open_backend(
    name: str, settings: EngineSettings, options: Sequence[BackendOptions] = ()
) -> Backend:
    """Load the network into one of `CHOICES`; "auto" is the first of `BACKENDS` that can run here.

    Options may be those of any back ends; missing options have their defaults.

    Raises
    ------
    BackendUnavailable
        If the back end asked for cannot run on this machine; the message says what is missing.
    UserError
        If the back end can run here, but not with these settings.
    """
    if name == "auto":
        return _open_first(settings, options)
    entry = BACKENDS[name]
    try:
        if entry.obstacles is not None and (found := entry.obstacles()):
            raise BackendUnavailable("; ".join(found))
        return entry.open(settings, options, "asked for")
    except BackendUnavailable as error:
        raise BackendUnavailable(
            f"backend {name} cannot run here: {error}; --backend cpu runs anywhere"
        ) from None


def _open_first(settings: EngineSettings, options: Sequence[BackendOptions]) -> Backend:
    reasons: dict[str, str] = {}
    for name, entry in BACKENDS.items():
        reason = _reason(reasons) or "the fastest"
        if entry.obstacles is None:
            return entry.open(settings, options, reason)
        try:
            if not (found := entry.obstacles()):
                return entry.open(settings, options, reason)
        except Exception as error:
            if not _keeps_from_running(error):
                raise
            reasons[name] = str(error) or type(error).__name__
            log.debug("back end %s does not run: %s", name, reasons[name], exc_info=True)
        else:
            reasons[name] = found[0]
            log.debug("back end %s cannot run: %s", name, "; ".join(found))
    raise BackendUnavailable(_reason(reasons))


def _keeps_from_running(error: Exception) -> bool:
    """Return whether an error comes from the machine or a library, and not from this program.

    Libraries report missing or broken parts as ImportError, OSError (shared objects), RuntimeError
    (PyTorch, TensorRT) and MemoryError, or with classes of their own that have no common base
    (PyCUDA, Numba, cuda.core: a driver that is too old, a kernel that cannot be compiled for this
    GPU). Other errors of Python itself, such as KeyError or TypeError, are faults of this program,
    and so is a missing module of this program.
    """
    if isinstance(error, ImportError) and (error.name or "").startswith("squeezedrive"):
        return False
    by_python = type(error).__module__ == "builtins"
    return not by_python or isinstance(
        error, UserError | ImportError | OSError | RuntimeError | MemoryError
    )


def _reason(obstacles: dict[str, str]) -> str:
    """Summarise why other back ends do not run: their first obstacles, without remedies."""
    short = {name: text.splitlines()[0].split(" (")[0] for name, text in obstacles.items()}
    by_text: dict[str, list[str]] = {}
    for name, text in short.items():
        by_text.setdefault(text, []).append(name)
    return "; ".join(f"no {' and no '.join(names)}: {text}" for text, names in by_text.items())
