"""TensorRT executes the network: engines are built, kept and run here.

This file only says what that needs and whether this machine has it, and imports nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

from squeezedrive.engines.backends.cuda import machine

_PACKAGES = {"tensorrt": "pip install tensorrt-cu13", **machine.PACKAGES}


def obstacles() -> list[str]:
    """List what keeps TensorRT from running here, most basic first, each with its remedy.

    The driver is asked before any package is imported: TensorRT and PyCUDA fail in ways that
    cannot be caught on a machine without one.
    """
    found = []
    if (problem := machine.driver_problem()) is not None:
        found.append(problem)
    found += [
        f"Python package {package} is not installed ({remedy})"
        for package, remedy in _PACKAGES.items()
        if find_spec(package) is None
    ]
    return found
