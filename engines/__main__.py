"""Commands that work on the network: `python -m engines VERB`; `--help` lists the verbs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from squeezedrive.engines.program import ProgramParser, exit_code, run_program

# A verb's file in engines/cli has DESCRIPTION, EXAMPLES, add_options(parser) and run(arguments).
# `run` raises UserError for mistakes that the user can correct.
VERBS = {
    "doctor": ("doctor", "report what is installed, what works, and what to do"),
    "describe": ("describe", "print the layers with sizes and costs"),
    "export": (
        "export",
        "write an ONNX model, or the weights of a training with their profile",
    ),
    "evaluate": ("evaluate", "measure AP on labelled data sets"),
    "check-data": ("check_data", "find mistakes in data to train on"),
    "train": ("train", "train weights on labelled pictures"),
    "anchors": ("anchors", "find anchor shapes for a data set"),
    "import": ("import_weights", "convert weights of another SqueezeDet for this program"),
    "quantize": ("quantize", "write weights as an int8 ONNX model"),
    "build": ("build", "build a TensorRT engine for this GPU"),
    "inspect": ("inspect", "show the TensorRT engines in the cache"),
    "clear-cache": ("clear_cache", "remove the TensorRT engines in the cache"),
}

EXAMPLES = """\
examples:
  python -m engines doctor
  python -m engines describe
  python -m engines describe --config configs/training/plus.yaml
  python -m engines export squeezedet.onnx
  python -m engines evaluate --data kitti/ --split val
  python -m engines check-data kitti/
  python -m engines anchors --data kitti/
  python -m engines import source.npz --layout authors --out squeezedet.npz
  python -m engines quantize int8.onnx --data kitti/ --fit stretch
  python -m engines build --precision fp16
"""


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = ProgramParser(
        prog="python -m engines",
        description="Look at the network, write it as ONNX, measure how well it detects, train it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for verb, (_, text) in VERBS.items():
        options = verbs.add_parser(
            verb, help=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if verb == chosen:  # the files of other verbs are not loaded
            module = _load(verb)
            options.description, options.epilog = module.DESCRIPTION, module.EXAMPLES
            module.add_options(options)
    return parser.parse_args(argv)


def _load(verb: str) -> ModuleType:
    return import_module(f"squeezedrive.engines.cli.{VERBS[verb][0]}")


def main(argv: list[str] | None = None) -> int:
    """Run a verb and return the exit code: 0, 2 for wrong input, 130 if interrupted."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _load(arguments.verb).run(arguments) or 0)


def program() -> NoReturn:
    """Run a verb, and end with its exit code."""
    run_program(main)


if __name__ == "__main__":
    program()
