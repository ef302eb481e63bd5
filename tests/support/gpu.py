"""The target of the tests of the CUDA kernels: a GPU, or Numba's simulator."""

from __future__ import annotations

import itertools
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba import config, cuda

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
if SIMULATED:
    # The simulator polls without a pause until all threads are at a barrier. With Python's usual
    # 5 ms until another thread may run, it would spend most of its time on that.
    sys.setswitchinterval(5e-4)

    from numba.core import types
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    _allocating = threading.Lock()

    def _shared_array(self: Any, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """Return the array of the line that calls this: one for all threads of a block.

        The simulator's own function has no lock and sometimes gives a thread a separate array.
        """
        asking = sys._getframe(1)
        line = asking.f_code.co_filename, asking.f_lineno
        with _allocating:
            if line not in self._allocations:
                is_numba = isinstance(dtype, types.Type)
                self._allocations[line] = np.empty(shape, as_dtype(dtype) if is_numba else dtype)
            found: np.ndarray[Any, Any] = self._allocations[line]
            return found

    FakeCUDAShared.array = _shared_array

needs_target = pytest.mark.skipif(
    not cuda.is_available(),
    reason="needs an NVIDIA GPU; test_cuda_simulator.py runs this in Numba's simulator",
)


def simulate_lightly(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *in_turn: Any) -> None:
    """Make Numba's simulator faster for the kernels of a module, with the same results.

    Device functions are called directly as Python functions. The threads of the kernels in
    `in_turn`, which have no barriers, run one after the other, not each in a Python thread.
    """
    from numba.cuda.simulator.kernel import BlockManager, FakeCUDAKernel
    from numba.cuda.simulator.kernelapi import Dim3

    for name, value in list(vars(module).items()):
        if isinstance(value, FakeCUDAKernel) and value._device:
            monkeypatch.setattr(module, name, value.py_func)

    functions = [kernel.py_func for kernel in in_turn]
    at_once = BlockManager.run

    def run(self: BlockManager, block: tuple[int, ...], *arguments: Any) -> None:
        if self._f not in functions:
            at_once(self, block, *arguments)
            return
        me: Any = threading.current_thread()  # where the simulator looks for its indices
        me.blockIdx = Dim3(*block)
        for me.threadIdx in itertools.starmap(Dim3, np.ndindex(*self._block_dim)):
            self._f(*arguments)

    monkeypatch.setattr(BlockManager, "run", run)
