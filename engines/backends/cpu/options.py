"""How the CPU back end computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from squeezedrive.engines.backends.base import BackendOptions

CpuPrecision = Literal["auto", "int8", "bf16", "fp16", "fp32"]


class CpuOptions(BackendOptions):
    """How the CPU back end computes.

    Attributes
    ----------
    precision : str
        Number format: "int8", which needs a quantised model, "bf16", "fp16", "fp32", or "auto":
        int8 if there is such a model, else fp32. Weights in fp16 are rounded to halves even where
        the processor then computes in single precision.
    threads : int
        0 for one per core this process may use.
    streams : int
        Frames it works on at the same time, sharing the threads: 1 gives the shortest time per
        frame, more give more frames per second.
    """

    precision: CpuPrecision = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    streams: Annotated[int, Field(ge=1)] = 1
