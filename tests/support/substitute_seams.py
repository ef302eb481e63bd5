"""The names that the checks of the substitute for a GPU import; see tests/support/substitute.py."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from squeezedrive.engines.backends.base import EngineSettings, Slot
from squeezedrive.engines.backends.cpu.backend import CpuBackend
from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.backend import CudaBackend, make_kernels
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import open_gpu
from squeezedrive.engines.backends.cuda.nvdec import NvDecoder
from squeezedrive.engines.backends.cuda.slot import CudaSlot
from squeezedrive.engines.backends.cuda.stream import STEPS
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.model.onnx_graph import build_onnx
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.params import DetectParams

__all__ = ["UserError", "open_gpu"]  # for the checks

WIDTH, HEIGHT = 320, 96
WEIGHTS = load_weights(DEFAULT)
# The threshold is low enough to find boxes in the coarse blocks of the checks' pictures.
SETTINGS = EngineSettings(WEIGHTS, WIDTH, HEIGHT, DetectParams(threshold=0.02, top_n=64))


def open_backend(dtype: str) -> CudaBackend:
    """Return the CUDA back end with `HostExecutor`, whose input and output have this type."""
    executor = HostExecutor(dtype)
    kernels = make_kernels(SETTINGS, executor)
    return CudaBackend("tensorrt", SETTINGS, open_gpu(), executor, kernels, "check")


def cpu_slot() -> Slot:
    """Return a slot of the CPU back end, which gives the expected boxes."""
    return CpuBackend(SETTINGS, CpuOptions(precision="fp32"), "check").new_slot()


def chain_of(slot: CudaSlot) -> Chain:
    """Return the object that records and repeats the work of a slot."""
    assert slot._runner is not None
    return Chain(slot._runner)


class Chain:
    """A `BatchRunner`, which records its work when it does the work for the second time."""

    def __init__(self, runner: BatchRunner) -> None:
        self.runner = runner

    def replay(self) -> None:
        """Enqueue all steps."""
        for step in STEPS:
            self.runner.enqueue(step)

    def collect(self) -> list[Detections]:
        """Wait for the boxes."""
        return self.runner.collect()

    def capture(self) -> int:
        """Discard the recorded work and record it again; return its number of nodes."""
        runner = self.runner
        current = runner._current
        for work in (runner._input._work, current.infer, current.detect):
            work.close()
        for _ in range(2):
            self.replay()
            self.runner.collect()
        return self.runner.launches


def replace_threshold(chain: Chain, threshold: float) -> None:
    """Set another threshold in the chain's detector, as a control of the live page would."""
    detector = chain.runner._detector
    detector.params = replace(detector.params, threshold=threshold)


def has_capture(chain: Chain) -> bool:
    """Return whether chains can be recorded as graphs."""
    return True


def capture(chain: Chain) -> int:
    """Record the chain as a graph; return its number of nodes."""
    return chain.capture()


class HostExecutor:
    """The network, run by OpenVINO on memory of the fake driver, which is host memory."""

    runtime, precision, max_batch = "OpenVINO on the host", "fp16", 8
    idle = False  # True: skip the network, which then takes no time
    recordable = False  # the network runs when it is enqueued
    workspace_bytes = 0

    def __init__(self, dtype: str) -> None:
        self.input_type = self.output_type = np.dtype(dtype)
        model = core().read_model(build_onnx(WEIGHTS, WIDTH, HEIGHT).SerializeToString())
        self.model = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
        self.output_shape = SETTINGS.head().output_shape
        self.mean = np.reshape(WEIGHTS.profile.input.mean, (1, 3, 1, 1)).astype(np.float32)

    def new_context(self, workspace: int) -> HostContext:
        """Return a `HostContext`."""
        return HostContext(self)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class HostContext:
    """A context of `HostExecutor`, which runs one batch at a time."""

    def __init__(self, executor: HostExecutor) -> None:
        self.executor = executor
        self.request: Any = executor.model.create_infer_request()

    def bind(self, input_address: int, output_address: int, batch: int) -> None:
        """Set the addresses of input and output."""
        dtype = self.executor.input_type
        self.input: Any = _memory(input_address, (batch, 3, HEIGHT, WIDTH), dtype)
        self.output: Any = _memory(output_address, (batch, *self.executor.output_shape), dtype)

    def enqueue(self, stream: int) -> None:
        """Run at once, as the fake driver's streams are synchronous; add no node to a graph."""
        if self.executor.idle:
            return
        pixels = self.input.astype(np.float32) + self.executor.mean
        for i in range(len(pixels)):
            self.output[i] = self.request.infer(pixels[i : i + 1])[0][0]

    def close(self) -> None:
        """Release the memory."""
        self.request = self.input = self.output = None


def _memory(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)


def open_decoder() -> NvDecoder:
    """Return the project's NVDEC decoder on a fake PyNvVideoCodec, with a picture per packet."""
    gpu = open_gpu()

    class Packet:
        bsl, bsl_data, pts = 0, 0, 0

    class Decoded:
        format = "NV12"

        def __init__(self, pts: int) -> None:
            self.pts = pts
            with gpu.current():
                self.planes = [gpu.driver.mem_alloc(rows * 64) for rows in (36, 18)]

        def cuda(self) -> list[Any]:
            layouts = ((36, 64, 1), (64, 1, 1)), ((18, 32, 2), (64, 2, 1))
            return [
                SimpleNamespace(
                    __cuda_array_interface__={
                        "shape": shape,
                        "strides": strides,
                        "typestr": "|u1",
                        "data": (int(plane), False),
                        "version": 3,
                    }
                )
                for plane, (shape, strides) in zip(self.planes, layouts, strict=True)
            ]

        def __del__(self) -> None:
            with gpu.current():
                self.planes.clear()

        def getPTS(self) -> int:
            return self.pts

    nvc = SimpleNamespace(
        PyNvVCException=type("PyNvVCException", (Exception,), {}),
        PyNvVCExceptionUnsupported=type("PyNvVCExceptionUnsupported", (Exception,), {}),
        cudaVideoCodec=SimpleNamespace(H264=1, HEVC=2),
        Pixel_Format=SimpleNamespace(NV12="NV12"),
        PacketData=Packet,
        CreateDecoder=lambda **_: SimpleNamespace(
            Decode=lambda packet: [Decoded(packet.pts)] if packet.bsl else []
        ),
    )
    return NvDecoder("h264", "bt709", _no_pixels, nvc, gpu)


def _no_pixels(luma: Any, chroma: Any) -> Any:
    raise AssertionError("no picture is fetched here")
