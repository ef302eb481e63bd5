"""Options of the back ends on an NVIDIA GPU."""

from __future__ import annotations

from typing import Literal

from squeezedrive.engines.backends.base import BackendOptions

CudaPrecision = Literal["fp16", "int8", "fp32"]


class CudaOptions(BackendOptions):
    """Options of the back ends on an NVIDIA GPU.

    Attributes
    ----------
    precision : str
        Number format: "fp16", "int8", which needs TensorRT and a quantised model, or "fp32".
    """

    precision: CudaPrecision = "fp16"
