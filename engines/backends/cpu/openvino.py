"""Use OpenVINO: imported without its telemetry, one core per process, compiled models, bytes in.

Every other module imports `ov` from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

__all__ = ["compile_model", "core", "ov", "take_bytes"]


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let the import of OpenVINO find its telemetry not installed, which it allows for.

    It would write an identity into the user's home folder, report to Google Analytics from a forked
    process, and keep the program up to three seconds at its end (openvino-telemetry 2025.2).
    """
    name = "openvino_telemetry"
    modules: dict[str, ModuleType | None] = dict(sys.modules)
    if name in modules or "openvino" in modules:  # somebody else wants it
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _without_telemetry():
    import openvino as ov
    from openvino.preprocess import ColorFormat, PrePostProcessor


@cache
def core() -> ov.Core:
    """Return the one OpenVINO core of this process.

    The core is never freed. A core that is freed also frees the signal stacks that it gave to
    threads (see `compile_model`), and may leave a freed stack registered (OpenVINO 2026.4).
    """
    return ov.Core()


def compile_model(model: ov.Model, options: Mapping[str, Any]) -> ov.CompiledModel:
    """Compile a model for the processor, in a separate thread.

    On processors with AMX, OpenVINO gives a thread that compiles its first model an alternate
    signal stack of 20,144 bytes, of which the kernel's own frame takes 11,952 (OpenVINO 2026.4).
    Two signals within microseconds overflow this stack and kill the process. With a separate
    thread, the threads that handle signals keep their own stack.

    Parameters
    ----------
    model : Model
        The graph.
    options : mapping
        Properties of OpenVINO's CPU plugin.
    """
    with ThreadPoolExecutor(1, "compile") as pool:
        return pool.submit(core().compile_model, model, "CPU", dict(options)).result()


def take_bytes(model: ov.Model, channels: str) -> ov.Model:
    """Return a model whose pixels are bytes (batch, height, width, 3), BGR.

    Conversion, layout and mean take one pass over the pixels inside the graph.
    """
    adapter = PrePostProcessor(model)
    tensor = adapter.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    tensor.set_color_format(ColorFormat.BGR)
    if channels == "RGB":
        adapter.input().preprocess().convert_color(ColorFormat.RGB)
    adapter.input().model().set_layout(ov.Layout("NCHW"))
    return adapter.build()
