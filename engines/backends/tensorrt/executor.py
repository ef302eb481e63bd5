"""TensorRT behind the interface of `engines.backends.cuda.executor`."""

from __future__ import annotations

import hashlib
from importlib import import_module
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.tensorrt.builder import (
    OPTIMUM_BATCH,
    WORKSPACE_MIB,
    build_engine,
    failure,
)
from squeezedrive.engines.backends.tensorrt.cache import EngineCache, EngineKey, open_user_cache
from squeezedrive.engines.backends.tensorrt.driver import FirstGpu
from squeezedrive.engines.backends.tensorrt.graph import (
    INPUT,
    OUTPUT,
    EnginePrecision,
    engine_graph,
)
from squeezedrive.engines.backends.tensorrt.log import open_logger
from squeezedrive.engines.backends.tensorrt.progress import Say
from squeezedrive.engines.errors import GpuMemoryError, UserError


class TensorRTExecutor:
    """An engine loaded on the GPU of the current primary context; an `Executor`.

    `trt` is the module tensorrt, or one that looks like it; `plan` is what `build_engine` returned
    for this precision.

    Raises
    ------
    GpuMemoryError
        If there is not enough memory.
    BackendUnavailable
        If TensorRT refuses the engine, for example one of another version.
    """

    recordable = True

    def __init__(self, trt: Any, plan: bytes, precision: EnginePrecision) -> None:
        self.runtime = f"TensorRT {trt.__version__}"
        self.precision = precision
        self._trt = trt
        self._logger = open_logger(trt)
        self._logger.last_error = ""
        try:
            self._runtime: Any = trt.Runtime(self._logger)
        except TypeError:  # all that the bindings say when the library returns nothing
            raise failure("TensorRT cannot start", self._logger.last_error) from None
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise failure("TensorRT cannot load the engine", self._logger.last_error)
        self.input_type = np.dtype(trt.nptype(self._engine.get_tensor_dtype(INPUT)))
        self.output_type = np.dtype(trt.nptype(self._engine.get_tensor_dtype(OUTPUT)))
        _, _, largest = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(INPUT, 0))
        self.max_batch = int(largest[0])
        self._picture = tuple(int(size) for size in largest[1:])
        self.workspace_bytes = int(self._engine.device_memory_size_v2)

    def new_context(self, workspace: int) -> TensorRTContext:
        """Return a context that works in `workspace_bytes` of device memory at this address.

        All contexts use the one optimisation profile; TensorRT shares it since version 10. A CUDA
        graph is valid only while its context keeps the number of pictures, so that each number has
        a context; with a workspace of its own each would take as much memory as the largest.

        Raises
        ------
        GpuMemoryError
            If there is not enough memory.
        """
        self._logger.last_error = ""
        managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(managed)
        if context is None:
            raise failure("TensorRT cannot open another context", self._logger.last_error)
        context.set_device_memory(workspace, self.workspace_bytes)
        return TensorRTContext(context, self._logger, self._picture)

    def layers(self) -> str:
        """Return the layers as JSON, from TensorRT's engine inspector."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Release the engine. Contexts have to be closed before."""
        self._engine = None
        self._runtime = None


class TensorRTContext:
    """One execution at a time; see `engines.backends.cuda.executor`.

    `picture` is channels, height and width of the input.
    """

    def __init__(self, context: Any, logger: Any, picture: tuple[int, ...]) -> None:
        self._context: Any = context
        self._logger = logger
        self._picture = picture

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        """Set where input and output lie: device addresses of C-contiguous arrays.

        Raises
        ------
        RuntimeError
            If TensorRT refuses; the message is its own.
        """
        self._logger.last_error = ""
        context = self._context
        if not (
            context.set_input_shape(INPUT, (batch, *self._picture))
            and context.set_tensor_address(INPUT, input_address)
            and context.set_tensor_address(OUTPUT, output_address)
        ):
            raise RuntimeError(
                f"TensorRT refuses a batch of {batch} at these addresses:"
                f" {self._logger.last_error or 'it gives no reason'}"
            )

    def enqueue(self, stream: int) -> None:
        """Enqueue the network on a CUDA stream, given by its handle; raises as `bind` does."""
        if not self._context.execute_async_v3(stream):
            reason = self._logger.last_error or "it gives no reason"
            raise RuntimeError(f"TensorRT cannot run the network: {reason}")

    def close(self) -> None:
        """Release what the context holds. Its work has to be finished."""
        self._context = None


def open_engine(
    settings: EngineSettings,
    precision: EnginePrecision,
    max_batch: int,
    gpu: GpuContext | FirstGpu,
    say: Say,
    trt: Any = None,
    cache: EngineCache | None = None,
) -> TensorRTExecutor:
    """Load the engine for this GPU from the cache, or build it and keep it.

    Building uses the first GPU that CUDA shows to this process; `gpu` has to be that one, and its
    primary context current.

    Parameters
    ----------
    max_batch : int
        Most pictures of one execution.
    say : callable
        Takes lines for the user: problems of a cached engine, and the progress of a build.
    trt : module, optional
        The library that builds and executes; tensorrt by default.
    cache : EngineCache, optional
        The engines on disk; those in the user's cache folder by default.

    Raises
    ------
    UserError
        If an engine can neither be loaded nor built: see `build_engine`.
    """
    if trt is None:
        trt = import_module("tensorrt")
    if cache is None:
        cache = open_user_cache(say)
    model = engine_graph(settings, precision)
    key = EngineKey(
        model=settings.weights.profile.name,
        graph=hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        precision=precision,
        input=f"{settings.width}x{settings.height}",
        max_batch=max_batch,
        optimum_batch=OPTIMUM_BATCH,
        workspace_mib=WORKSPACE_MIB,
        tensorrt=trt.__version__,
        gpu=gpu.name,
        compute_capability=".".join(str(part) for part in gpu.compute_capability),
    )
    plan = cache.load(key)
    if plan is not None:
        try:
            return TensorRTExecutor(trt, plan, precision)
        except GpuMemoryError:
            raise
        except UserError as error:
            say(f"{key.name}: {error}; built anew")
    built = build_engine(trt, model, max_batch, say, cache.load_timings(key))
    cache.store(key, built.plan)
    cache.store_timings(key, built.timings)
    return TensorRTExecutor(trt, built.plan, precision)
