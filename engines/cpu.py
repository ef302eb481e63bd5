"""The CPU back end: OpenVINO runs the ONNX graph, compiled Numba functions find the boxes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.preprocess import ColorFormat, PrePostProcessor

from engines.backend import BackendInfo, EngineSettings, check_batch
from engines.errors import ConfigError
from engines.onnx_graph import build_onnx, load_onnx
from engines.openvino import core
from engines.quantisation.graph import unsigned
from kernels.cpu import detect
from kernels.detections import Detections
from kernels.fit import Fit, make_fit

# What is left in float beside 8-bit integers computes in single precision.
_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class CpuBackend:
    """SqueezeDet in OpenVINO on the processor.

    One picture a slot: streams keep the cores busy as well as batches do. On two cores (busy with
    other programs, too), a picture took within 6 % the same time in two streams of one picture,
    one stream of two and two streams of two, int8.
    """

    max_batch = 1

    def __init__(self, settings: EngineSettings, reason: str) -> None:
        self.settings = settings
        profile = settings.weights.profile
        precision = _choose_precision(settings)
        if precision == "int8":
            assert settings.int8 is not None
            graph = load_onnx(settings.int8, settings.weights, settings.width, settings.height)
            graph = unsigned(graph)
        else:
            graph = build_onnx(settings.weights, settings.width, settings.height)
        model = core().read_model(io.BytesIO(graph.SerializeToString()))
        # Bytes go in as they are: conversion, layout and mean are one pass inside the graph.
        adapter = PrePostProcessor(model)
        tensor = adapter.input().tensor()
        tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        tensor.set_color_format(ColorFormat.BGR)
        if profile.input.channels == "RGB":
            adapter.input().preprocess().convert_color(ColorFormat.RGB)
        adapter.input().model().set_layout(ov.Layout("NCHW"))
        threads = settings.cpu_threads
        self.parallel = min(settings.streams, threads)
        self._compiled = core().compile_model(
            adapter.build(),
            "CPU",
            {
                "NUM_STREAMS": self.parallel,
                "ENABLE_CPU_PINNING": False,
                # Without this, processors with bfloat16 units compute in it unasked.
                "INFERENCE_PRECISION_HINT": _TYPES[precision],
                "INFERENCE_NUM_THREADS": threads,
            },
        )
        self.head = settings.head()
        self.fill = settings.fill()
        self.info = BackendInfo(
            name="cpu",
            runtime=f"OpenVINO {ov.__version__.split('-')[0]}",
            device=f"{core().get_property('CPU', 'FULL_DEVICE_NAME')}, {threads} threads"
            f" in {self.parallel} streams",
            precision=precision,
            reason=reason,
        )

    def new_slot(self, batch: int = 1) -> CpuSlot:
        """Allocate the memory for one picture in flight."""
        check_batch(batch, self.max_batch)
        return CpuSlot(self, self._compiled.create_infer_request())

    def close(self) -> None:
        """Release the network."""
        del self._compiled


class CpuSlot:
    """Input pixels, an inference request and its output, used again for every picture."""

    def __init__(self, backend: CpuBackend, request: ov.InferRequest) -> None:
        self._backend = backend
        self._request = request
        settings = backend.settings
        self._pixels = np.empty((1, settings.height, settings.width, 3), np.uint8)
        request.set_input_tensor(ov.Tensor(self._pixels, shared_memory=True))
        self._fit: Fit | None = None

    def preprocess(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Put a BGR picture (height, width, 3) of any size into the network's input."""
        (image,) = images
        settings = self._backend.settings
        size = (image.shape[1], image.shape[0])
        if self._fit is None or self._fit.source_size != size:
            self._fit = make_fit(
                settings.fit, size, (settings.width, settings.height), settings.band_centre
            )
        self._fit.preprocess(image, self._backend.fill, self._pixels[0])

    def infer(self) -> None:
        """Run the network."""
        self._request.infer()

    def detect(self) -> list[Detections]:
        """Return the boxes in pixels of the picture."""
        if self._fit is None:
            raise RuntimeError("detect() before preprocess()")
        output = self._request.get_output_tensor().data[0]
        found = detect(output, self._backend.head, self._backend.settings.detect)
        return [Detections(self._fit.to_source(found.boxes), found.scores, found.classes)]

    def close(self) -> None:
        """Release the memory."""
        del self._request


def _choose_precision(settings: EngineSettings) -> str:
    """Return "int8", "bf16" or "fp32"."""
    wanted = settings.cpu_precision
    if wanted == "int8" and settings.int8 is None:
        name = settings.weights.profile.name
        raise ConfigError(
            f"precision int8: the weights {name} have no quantised model beside them;"
            " python -m engines quantize makes one"
        )
    if wanted != "auto":
        return wanted
    return "fp32" if settings.int8 is None else "int8"
