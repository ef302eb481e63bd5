"""Where tests of the CUDA kernels run: on a GPU, or in Numba's simulator."""

from __future__ import annotations

import pytest
from numba import config, cuda

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))

needs_target = pytest.mark.skipif(
    not cuda.is_available(),
    reason="needs an NVIDIA GPU; test_cuda_simulator.py runs this in Numba's simulator",
)
