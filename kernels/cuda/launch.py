"""Kernels compiled once per machine, and launched without Numba in between.

A launch through Numba takes 100 us of Python, because it inspects every argument; here the types
are known beforehand, and the driver gets the values directly. Numba's compiler and its cache on
disk are used as they are.
"""

from __future__ import annotations

import functools
import pickle
import shutil
import struct
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numba import config, cuda, types
from numpy.typing import NDArray

from squeezedrive.kernels.compile import machine_code_folder

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))  # Numba's simulator runs the kernels

# Packages, where installed, that machine code depends on beside Numba.
_COMPILERS = (
    *("numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink"),
    *("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"),
)
# An array is passed as two pointers for Numba's own use, size, bytes of a value, address, and
# lengths and strides of its dimensions. All values lie 8 bytes apart.
_FORMATS = {types.int32: "i4x", types.int64: "q", types.float32: "f4x"}


class KernelRefused(RuntimeError):
    """A kernel cannot be compiled, or the driver does not load it; the message says why."""


class Kernel:
    """A kernel for arguments of certain types; made with the context current.

    Parameters
    ----------
    function : numba-cuda dispatcher
        What `cuda.jit` returned.
    arguments : Numba types
        Arrays, and scalars of int32, int64 and float32.

    Raises
    ------
    KernelRefused
        If it cannot be compiled or loaded.
    """

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._function = function
        if SIMULATED:
            return
        self._driver: Any = import_module("cuda.bindings.driver")
        self._loaded = _load(function, types.void(*arguments))  # keeps the machine code there
        self._handle = self._loaded.handle
        self._arrays = [isinstance(kind, types.Array) for kind in arguments]
        layout = struct.Struct(
            "<"
            + "".join(
                f"{5 + 2 * kind.ndim}q" if isinstance(kind, types.Array) else _FORMATS[kind]
                for kind in arguments
            )
        )
        self._pack = layout.pack
        self._offsets = np.arange(0, layout.size, 8, dtype=np.uint64)

    def enqueue(
        self, grid: tuple[int, int, int], block: tuple[int, int], stream: int, *arguments: Any
    ) -> None:
        """Enqueue a launch, and return at once.

        Parameters
        ----------
        grid, block : tuple of int
            Blocks, and threads of each.
        stream : int
            Handle of a CUDA stream; 0 is the default stream.
        arguments : Numba device arrays and numbers
            Of the types this kernel was made for.

        Raises
        ------
        RuntimeError
            If the driver refuses.
        """
        if SIMULATED:
            self._function[grid, block](*arguments)
            return
        values: list[Any] = []
        for is_array, argument in zip(self._arrays, arguments, strict=True):
            if is_array:
                values += (0, 0, argument.size, argument.dtype.itemsize, _address(argument))
                values += argument.shape
                values += argument.strides
            else:
                values.append(argument)
        cells = np.frombuffer(self._pack(*values), np.uint64)
        pointers = self._offsets + np.uint64(cells.ctypes.data)
        _check(
            self._driver.cuLaunchKernel(
                *(self._handle, *grid, *block, 1, 0, stream, pointers.ctypes.data, 0)
            )
        )


def copy_to_device(target: Any, pinned: NDArray[Any], stream: int) -> None:
    """Enqueue a copy of pinned memory of the host into a device array of the same size.

    The GPU reads the values when it runs the copy, which may be long after this returns.
    """
    if SIMULATED:
        target.copy_to_device(pinned)
        return
    driver: Any = import_module("cuda.bindings.driver")
    address = pinned.ctypes.data
    _check(driver.cuMemcpyHtoDAsync(_address(target), address, pinned.nbytes, stream))


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])


def _check(results: tuple[Any, ...]) -> None:
    if int(results[0]) != 0:
        raise RuntimeError(f"the CUDA driver reports {results[0]}")


def _load(function: Any, signature: Any) -> Any:
    """Return the kernel for a signature, from memory, from disk or newly compiled."""
    try:
        folder = _keep_on_disk(function)
        try:
            compiled = function.compile(signature)
        except (OSError, EOFError, pickle.UnpicklingError):
            if folder is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)  # cut off, by a full disk or a power failure
            compiled = function.compile(signature)
        return compiled._codelibrary.get_cufunc()
    except Exception as error:  # of Numba, NVVM, nvJitLink or cuda.core, each with its own
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise KernelRefused(text) from error


@functools.cache
def _keep_on_disk(function: Any) -> Any:
    """Make Numba keep a function's machine code in the user's cache; return the folder."""
    folder = machine_code_folder(*map(_version, _COMPILERS))
    if folder is not None:
        settings: Any = import_module("numba.cuda.core.config")
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(folder)
        try:
            function.enable_caching()
        finally:
            settings.CACHE_DIR = before
    return folder


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def pinned_array(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return pinned memory of the host, for fast copies; the context has to be current."""
    array: NDArray[Any] = cuda.pinned_array(size, dtype)
    return array
