"""The CPU back end: OpenVINO runs the ONNX graph, compiled Numba functions find the boxes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
import onnx

from squeezedrive.engines.backends.base import (
    Backend,
    BackendInfo,
    EngineSettings,
    Slot,
    check_batch,
)
from squeezedrive.engines.backends.cpu.graph import for_processor, has_amx
from squeezedrive.engines.backends.cpu.openvino import compile_model, core, ov, take_bytes
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.errors import WeightsError
from squeezedrive.engines.model.onnx_graph import Precision, build_onnx, load_onnx
from squeezedrive.kernels.cpu import detect
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.fit import Fit, HostPicture

# Raised for a damaged graph: by OpenVINO, by ONNX, and where parts of the graph are missing.
_DAMAGED = (
    RuntimeError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    LookupError,
    ValueError,
    StopIteration,
)

# With 8-bit integers, the layers in float compute in single precision.
_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


class CpuBackend(Backend):
    """SqueezeDet in OpenVINO on the processor.

    Streams use the cores nearly as well as batches: on two cores, int8, the whole pipeline
    processed 20.0, 21.2 and 21.0 frames per second with 1, 2 and 4 pictures at once (overlapping
    runs), with 370, 570 and 1120 ms from picture to outputs.

    Raises
    ------
    ConfigError, WeightsError
        If a quantised model is needed and is missing, or cannot be used.
    """

    max_batch = 8

    def __init__(self, settings: EngineSettings, options: CpuOptions, reason: str) -> None:
        self.settings = settings
        profile = settings.weights.profile
        size = settings.width, settings.height
        precision = options.precision
        if precision == "auto":
            precision = "fp32" if settings.int8 is None else "int8"
        form = ""
        if precision == "int8":
            amx = has_amx()
            model = _quantised(settings, amx)
            form = f", graph for processors {'with' if amx else 'without'} AMX"
        else:
            stored: Precision = "fp16" if precision == "fp16" else "fp32"
            model = _read(build_onnx(settings.weights, *size, stored))
        if model.input().element_type != ov.Type.u8:
            model = take_bytes(model, profile.input.channels)
        threads = options.threads or len(os.sched_getaffinity(0))
        self.parallel = min(options.streams, threads)
        self._model = model
        self._options = {
            "NUM_STREAMS": self.parallel,
            "ENABLE_CPU_PINNING": False,
            # Without this, processors with bfloat16 units use bfloat16 by default.
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": threads,
        }
        self._compiled = {1: compile_model(self._model, self._options)}
        self.head = settings.head()
        self.fill = profile.input.fill
        device = f"{core().get_property('CPU', 'FULL_DEVICE_NAME')}, {threads} threads"
        device += f" in {self.parallel} streams{form}"
        # Where a processor lacks a number format, OpenVINO takes single precision without a word.
        computes = self._compiled[1].get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computes != _TYPES[precision]:
            device += f", no {precision}: computes in fp32"
        self.info = BackendInfo(
            name="cpu",
            runtime=f"OpenVINO {ov.__version__.split('-')[0]}",
            device=device,
            precision=precision,
            reason=reason,
        )

    def new_slot(self, batch: int = 1) -> CpuSlot:
        """Allocate the memory for up to `batch` pictures in flight, 1 to `max_batch`."""
        check_batch(batch, self.max_batch)
        if batch not in self._compiled:
            _, *size = self._model.input().partial_shape
            model = self._model.clone()
            model.reshape(ov.PartialShape([ov.Dimension(1, batch), *size]))
            self._compiled[batch] = compile_model(model, self._options)
        return CpuSlot(self, self._compiled[batch].create_infer_request(), batch)

    def close(self) -> None:
        """Release the network."""
        self._compiled.clear()


def _read(graph: onnx.ModelProto) -> ov.Model:
    return core().read_model(io.BytesIO(graph.SerializeToString()))


def _quantised(settings: EngineSettings, amx: bool) -> ov.Model:
    """Return the quantised model, which is a file of the user's and may hold any graph."""
    graph = load_onnx(settings.int8, settings.weights, settings.width, settings.height)
    try:
        model = _read(for_processor(graph, settings.weights.profile.input, amx))
        shape = model.output().partial_shape
    except _DAMAGED as error:
        raise WeightsError(
            f"{settings.int8}: is not a graph as python -m engines quantize writes it:"
            f" {type(error).__name__}"
        ) from None
    channels = settings.weights.profile.head_channels
    rank = shape.rank
    if rank.is_dynamic or rank.get_length() != 4 or shape[1] != channels:
        raise WeightsError(
            f"{settings.int8}: expected an output of {channels} channels, got {shape}"
        )
    return model


class CpuSlot(Slot):
    """Input pixels, an inference request and its output, reused for every batch."""

    def __init__(self, backend: CpuBackend, request: ov.InferRequest, batch: int) -> None:
        self._backend = backend
        self._request = request
        settings = backend.settings
        self._pixels = np.empty((batch, settings.height, settings.width, 3), np.uint8)
        self._fits: dict[int, Fit] = {}  # of the last picture in each place
        self._count = 0  # pictures in the batch

    def preprocess(self, images: Sequence[HostPicture]) -> None:
        """Put pictures of any sizes into the network's input; see `Slot`."""
        check_batch(len(images), len(self._pixels))
        settings = self._backend.settings
        for place, image in enumerate(images):
            size = (image.shape[1], image.shape[0])
            fit = self._fits.get(place)
            if fit is None or fit.source_size != size:
                fit = settings.fit_of(size)
                self._fits[place] = fit
            fit.preprocess(image, self._backend.fill, self._pixels[place])
        if self._count != len(images):
            self._count = len(images)
            pixels = self._pixels[: self._count]
            self._request.set_input_tensor(ov.Tensor(pixels, shared_memory=True))

    def infer(self) -> None:
        """Run the network."""
        self._request.infer()

    def detect(self) -> list[Detections]:
        """Return the boxes of each picture in its own pixels."""
        if not self._count:
            raise RuntimeError("detect() before preprocess()")
        outputs = self._request.get_output_tensor().data
        results = []
        for place in range(self._count):
            found = detect(outputs[place], self._backend.head, self._backend.settings.detect)
            boxes = self._fits[place].to_source(found.boxes)
            results.append(Detections(boxes, found.scores, found.classes))
        return results

    def close(self) -> None:
        """Release the memory."""
        del self._request
