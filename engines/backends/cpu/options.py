"""Options of the CPU back end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from squeezedrive.engines.backends.base import BackendOptions

CpuPrecision = Literal["auto", "int8", "bf16", "fp16", "fp32"]

MOST = 1024  # threads and streams


class CpuOptions(BackendOptions):
    """Options of the CPU back end.

    Attributes
    ----------
    precision : str
        Number format: "int8", which needs a quantised model, "bf16", "fp16", "fp32", or "auto":
        int8 if there is a quantised model, else fp32. With "fp16", weights are rounded to halves
        even if the processor computes in single precision.
    threads : int
        Number of threads; 0 for one per core that this process may use.
    streams : int
        Frames that are processed at the same time and share the threads. 1 gives the shortest time
        per frame; more give more frames per second.
    """

    precision: CpuPrecision = "auto"
    threads: Annotated[int, Field(ge=0, le=MOST)] = 0
    streams: Annotated[int, Field(ge=1, le=MOST)] = 1
