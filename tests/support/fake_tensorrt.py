"""A module that looks like tensorrt and only records its calls."""

from __future__ import annotations

import threading
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx


class FakeTensorRT(ModuleType):
    """A fake `tensorrt`: its engines hold their graph, and execution only records its arguments.

    Attributes
    ----------
    calls : list of tuple
        All calls, in order.
    errors : dict of str to str
        Methods that fail: the name, and the message for TensorRT's logger.
    steps : int
        Steps of a build; None for a build that goes on until it is cancelled.
    """

    def __init__(self) -> None:
        super().__init__("fake_tensorrt")
        self.__version__ = "11.4.0.106"
        self.calls: list[tuple[Any, ...]] = []
        self.errors: dict[str, str] = {}
        self.steps: int | None = 3
        self.ILogger = _Logger
        self.IProgressMonitor = type("IProgressMonitor", (), {})
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
        self.Builder = lambda logger: _Builder(self, logger)
        self.OnnxParser = _Parser
        self.Runtime = lambda logger: _Runtime(self, logger)

    def nptype(self, dtype: np.dtype) -> Any:
        return dtype.type

    def fails(self, name: str, logger: Any) -> bool:
        """Return whether this call has to fail; log the reason if so, as TensorRT does."""
        if name in self.errors:
            logger.log(_Logger.Severity.ERROR, self.errors[name])
        return name in self.errors


class _Logger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR


class _Builder:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        if trt.fails("Builder", logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Any:
        assert flags == 2
        return SimpleNamespace(get_input=lambda index: SimpleNamespace(shape=(-1, 3, 96, 320)))

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda name, *shapes: None)

    def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
        self._trt.calls.append(("build", threading.current_thread() is threading.main_thread()))
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, self._trt.steps or 1000)
        step = 0
        while step != self._trt.steps:
            if not monitor.step_complete("Building engine", step):
                self._trt.calls.append(("cancelled",))
                return None
            step += 1
        monitor.phase_finish("Building engine")
        return None if self._trt.fails("build", self._logger) else network.model


class _Config:
    progress_monitor: Any = None
    profiling_verbosity = ""

    def set_memory_pool_limit(self, pool: str, size: int) -> None: ...

    def clear_flag(self, flag: str) -> None: ...

    def add_optimization_profile(self, profile: Any) -> None: ...

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content + b".")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return True


class _Parser:
    num_errors = 0

    def __init__(self, network: Any, logger: Any) -> None:
        self._network = network

    def parse(self, model: bytes) -> bool:
        self._network.model = model
        return True


class _Runtime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        failed = self._trt.fails("deserialize", self._logger)
        return None if failed else _Engine(self._trt, plan, self._logger)


class _Engine:
    device_memory_size_v2 = 4096

    def __init__(self, trt: FakeTensorRT, plan: bytes, logger: Any) -> None:
        self._trt, self._logger = trt, logger
        model = onnx.load_from_string(plan)
        self._values = {value.name: value for value in (*model.graph.input, *model.graph.output)}

    def get_tensor_dtype(self, name: str) -> np.dtype:
        kind = self._values[name].type.tensor_type.elem_type
        return onnx.helper.tensor_dtype_to_np_dtype(kind)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        _, *picture = (d.dim_value for d in self._values[name].type.tensor_type.shape.dim)
        return [[batch, *picture] for batch in (1, 1, 8)]

    def create_execution_context(self, strategy: str) -> _Context | None:
        self._trt.calls.append(("context", strategy))
        return None if self._trt.fails("context", self._logger) else _Context(self._trt, self)

    def create_engine_inspector(self) -> Any:
        layers = '{"Layers": [{"Name": "conv1", "LayerType": "CaskConvolution"}]}'
        return SimpleNamespace(get_engine_information=lambda kind: layers)

    @property
    def logger(self) -> Any:
        return self._logger


class _Context:
    def __init__(self, trt: FakeTensorRT, engine: _Engine) -> None:
        self._trt, self._logger = trt, engine.logger

    def set_device_memory(self, memory: int, size: int) -> None:
        self._trt.calls.append(("memory", memory, size))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._trt.calls.append(("shape", name, shape))
        return not self._trt.fails("set_input_shape", self._logger)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._trt.calls.append(("address", name, address))
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._trt.calls.append(("execute", stream))
        return not self._trt.fails("execute", self._logger)
