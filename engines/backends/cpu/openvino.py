"""OpenVINO, opened once."""

from __future__ import annotations

from functools import cache

import openvino as ov


@cache
def core() -> ov.Core:
    """Return the one OpenVINO core of this process.

    With its first model a core gives the thread a signal stack of its own, for the large registers
    of AMX, and frees it when it goes. Of several cores that go in the order they came, the last
    leaves a freed stack registered: the next signal, a Ctrl-C, would write into whatever memory
    has come in its place (OpenVINO 2026.4). One that stays until the end does not.
    """
    return ov.Core()
