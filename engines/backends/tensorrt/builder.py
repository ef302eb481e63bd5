"""Build a TensorRT engine for this GPU from the network's graph.

Runs on TensorRT 10 and 11, and on TensorRT-RTX, which builds without a GPU: the module is a
parameter, and only what all three have is used. The network is strongly typed: every value has the
number format that the graph says, so that fp16 is fp16 throughout without a flag that allows it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

from squeezedrive.engines.backends.tensorrt.graph import INPUT
from squeezedrive.engines.backends.tensorrt.log import open_logger
from squeezedrive.engines.backends.tensorrt.progress import BuildProgress, Say
from squeezedrive.engines.errors import BackendUnavailable, GpuMemoryError, UserError

OPTIMUM_BATCH = 1  # the number of pictures for which kernels are chosen
WORKSPACE_MIB = 1024  # most device memory a layer's kernel may use beside its tensors

_OUT_OF_MEMORY = ("outofmemory", "insufficientmemory", "badalloc")


@dataclass(frozen=True)
class Built:
    """An engine, and the timings of its kernels, which the next build on this GPU can use."""

    plan: bytes
    timings: bytes


def build_engine(
    trt: Any, model: onnx.ModelProto, max_batch: int, say: Say, timings: bytes = b""
) -> Built:
    """Build an engine, which takes seconds to minutes; `say` gets a line now and then.

    Uses the first GPU that CUDA shows to this process. Ctrl-C ends the build at its next step.

    Parameters
    ----------
    trt : module
        tensorrt, or one that looks like it.
    max_batch : int
        Most pictures of one execution; any number from 1 on can be run.
    timings : bytes
        Of an earlier build; those of another GPU or version are ignored.

    Raises
    ------
    GpuMemoryError
        If there is not enough memory.
    BackendUnavailable
        If TensorRT cannot build here, or cannot read the network.
    KeyboardInterrupt
        If the build was interrupted.
    """
    logger = open_logger(trt)
    logger.last_error = ""
    try:
        builder = trt.Builder(logger)
    except TypeError:  # all that the bindings say when the library returns nothing
        raise failure("TensorRT cannot start its builder", logger.last_error) from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise _unreadable(parser)

    progress = BuildProgress(trt, say)
    config = builder.create_builder_config()
    config.progress_monitor = progress.monitor
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: fp32 would be ten bits of mantissa
    # Costs nothing at run time, and `inspect` can show what became of each layer.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    smallest, best, largest = (
        (batch, *tuple(network.get_input(0).shape)[1:]) for batch in (1, OPTIMUM_BATCH, max_batch)
    )
    profile.set_shape(INPUT, smallest, best, largest)
    config.add_optimization_profile(profile)
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)

    say("building the TensorRT engine for this GPU, which takes up to a few minutes once")
    plan = _attend(lambda: builder.build_serialized_network(network, config), progress, say)
    if plan is None:
        raise failure("TensorRT could not build the engine", logger.last_error)
    return Built(bytes(plan), bytes(cache.serialize()))


def failure(what: str, reason: str) -> UserError:
    """Return the error for a failure of TensorRT, with its last message."""
    text = f"{what}: {reason or 'it gives no reason'}"
    plain = reason.lower().replace(" ", "").replace("_", "")
    if any(words in plain for words in _OUT_OF_MEMORY):
        return GpuMemoryError(
            f"{text}; the memory of the GPU is not enough: end other programs on it (nvidia-smi"
            " lists them), or choose a smaller batch or network input"
        )
    return BackendUnavailable(
        f"{text}; run_pipeline.py --log-level debug shows all that TensorRT says"
    )


def _unreadable(parser: Any) -> BackendUnavailable:
    reasons = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        reasons.append(f"{error.node_operator()} {error.node_name()}: {error.desc()}")
    text = " ".join("; ".join(reasons[:3]).split())
    return BackendUnavailable(
        f"TensorRT cannot read the network: {text}; --backend cpu runs anywhere"
    )


def _attend(work: Callable[[], Any], progress: BuildProgress, say: Say) -> Any:
    """Run a build in another thread, report its progress, and end it if interrupted.

    In this thread, Python would handle Ctrl-C only after the build.
    """
    result: list[Any] = []
    failed: list[BaseException] = []
    finished = threading.Event()

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            finished.set()

    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    try:
        thread.start()
        # Not joined: an interrupted join() forgets that the thread still runs (CPython 3.11).
        while not finished.wait(0.1):
            progress.tick()
    except KeyboardInterrupt:
        progress.cancel()
        say("interrupted: waiting for TensorRT to end its step (Ctrl-C again: do not wait)")
        # The second ends the process at once: TensorRT's threads would abort it otherwise.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        finished.wait()
        signal.signal(signal.SIGINT, before)
        raise
    except BaseException:
        progress.cancel()
        if thread.ident is not None:  # else it could not be started
            finished.wait()
        raise
    if failed:
        raise failed[0]
    return result[0]
