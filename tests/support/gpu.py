"""Where tests of the CUDA kernels run: on a GPU, or in Numba's simulator."""

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
    # The simulator looks without a pause whether threads have come to a barrier; with the usual
    # 5 ms until another thread may run, that is what it does most.
    sys.setswitchinterval(5e-4)

    from numba.core import types
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    _allocating = threading.Lock()

    def _shared_array(self: Any, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """Return the array of the line that asks for it: one for all threads of a block.

        The simulator's own way has no lock, and now and then gives a thread an array of its own.
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
    """Spare Numba's simulator what takes most of its time, and changes nothing, in a module.

    Device functions are called as the Python functions that they are there. The threads of the
    kernels in `in_turn`, which have no barriers, run one after the other instead of each in a
    thread of Python.
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
