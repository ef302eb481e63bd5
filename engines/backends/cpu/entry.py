"""The CPU back end's entry in the table of back ends; OpenVINO is loaded when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import Backend, BackendOptions, EngineSettings


def open_cpu(settings: EngineSettings, options: Sequence[BackendOptions], reason: str) -> Backend:
    """Load the network into OpenVINO.

    Raises
    ------
    ConfigError
        If 8-bit integers are asked for and there is no quantised model.
    WeightsError
        If the quantised model cannot be used.
    """
    from squeezedrive.engines.backends.base import find_options
    from squeezedrive.engines.backends.cpu.backend import CpuBackend
    from squeezedrive.engines.backends.cpu.options import CpuOptions

    return CpuBackend(settings, find_options(CpuOptions, options), reason)
