"""The interface of a library that runs the network on the GPU."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class ExecutionContext(Protocol):
    """One execution of the network at a time, for one number of pictures.

    Each slot has its own. Used by the stage threads one after the other, never by two at once,
    always with the primary CUDA context current.
    """

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        """Set where input and output lie, once: device addresses of C-contiguous arrays.

        Parameters
        ----------
        input_address : int
            Of (batch, 3, height, width) in the executor's `input_type`: normalised pixels.
        output_address : int
            Of (batch, channels, rows, columns) in the executor's `output_type`.
        batch : int
            1 to the executor's `max_batch`.
        """

    def enqueue(self, stream: int) -> None:
        """Enqueue the network on a CUDA stream, given by its handle, and return at once."""

    def close(self) -> None:
        """Release what the context holds. Its work has to be finished."""


class Executor(Protocol):
    """A network loaded on the GPU of the current primary context.

    Attributes
    ----------
    runtime : str
        Library with version.
    precision : str
        Number format of the arithmetic: "fp16", "fp32" or "int8".
    input_type, output_type : np.dtype
        float16 or float32.
    max_batch : int
        Most pictures of one execution.
    recordable : bool
        Whether an execution may be recorded as a CUDA graph and repeated, once it has run.
    workspace_bytes : int
        Device memory that an execution needs beside input and output; 0 if the library allocates
        it by itself. Contexts that never run at the same time may share it.
    """

    runtime: str
    input_type: np.dtype
    output_type: np.dtype
    max_batch: int
    recordable: bool
    workspace_bytes: int

    @property
    def precision(self) -> str:
        """Number format of the arithmetic."""

    def new_context(self, workspace: int) -> ExecutionContext:
        """Return a context that works in `workspace_bytes` of device memory at this address."""

    def close(self) -> None:
        """Release the network. Contexts have to be closed before."""
