"""`python -m engines build`: build a TensorRT engine and keep it in the cache."""

from __future__ import annotations

import argparse

from squeezedrive.engines.cli.arguments import add_network_options, count
from squeezedrive.engines.cli.engine_cache import check_machine, say

DESCRIPTION = (
    "Build a TensorRT engine for this GPU and keep it, so that the first run starts without"
    " building one."
)
EXAMPLES = """\
examples:
  python -m engines build                                # the engine of `--backend tensorrt`
  python -m engines build --size 1248x704 --precision int8 --batch 4
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_network_options(parser)
    add = parser.add_argument
    add("--precision", choices=("fp16", "fp32", "int8"), default="fp16", help="default: fp16")
    add(
        "--batch", type=count, default=8, metavar="N",
        help="largest number of pictures at a time (default: 8)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Build an engine unless it is in the cache."""
    check_machine()
    from squeezedrive.engines.backends.base import EngineSettings
    from squeezedrive.engines.backends.tensorrt.driver import first_gpu
    from squeezedrive.engines.backends.tensorrt.executor import open_engine
    from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
    from squeezedrive.kernels.params import DetectParams

    path = arguments.weights or DEFAULT
    weights = load_weights(path)
    width, height = arguments.size or weights.profile.input.size
    settings = EngineSettings(weights, width, height, DetectParams(), int8=int8_model(path))
    gpu = first_gpu()
    executor = open_engine(settings, arguments.precision, arguments.batch, gpu, say)
    executor.close()
    print(f"ready: {executor.precision} in {executor.runtime} on {gpu.name}")
