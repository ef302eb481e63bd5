"""`python -m engines export`: write weights as ONNX, or as a weights file with a profile."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.cli.arguments import input_size
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import check_output, readable, write_whole
from squeezedrive.engines.program import printable_lines

if TYPE_CHECKING:
    from squeezedrive.engines.model.weights import Weights

DESCRIPTION = "Write weights as an ONNX model, or as a file of their own with a profile."
EXAMPLES = """\
OUT.onnx holds the network with its weights, and the profile as metadata. OUT.npz holds the weights,
and OUT.json beside it their profile; all verbs and the pipeline accept these two files.

examples:
  python -m engines export squeezedet.onnx --weights runs/first/first.npz
  python -m engines export squeezedet-fp16.onnx --precision fp16 --size 1248x704
  python -m engines export now.npz --run runs/first
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add("output", type=Path, metavar="OUT", help="file to write: OUT.onnx or OUT.npz")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weights", type=Path, metavar="FILE.npz", help="default: the project's own"
    )
    source.add_argument(
        "--run", type=Path, metavar="FOLDER",
        help="a training, finished or not: its latest weights, not its best",
    )  # fmt: skip
    add(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="precision of OUT.onnx (default: fp32)",
    )
    add(
        "--size",
        type=input_size,
        metavar="WxH",
        help="input size of OUT.onnx (default: as trained)",
    )
    add("-y", "--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Write the weights."""
    from squeezedrive.engines.model.onnx_graph import build_onnx
    from squeezedrive.engines.model.weights import DEFAULT, Weights, load_weights, save_weights

    output = arguments.output
    _check_output(arguments)
    weights = (
        _of_run(arguments.run) if arguments.run else load_weights(arguments.weights or DEFAULT)
    )
    if output.suffix == ".npz":
        profile = weights.profile.model_copy(update={"name": readable(output.stem)})
        save_weights(Weights(profile, weights.arrays), output)
        print(printable_lines(f"wrote {output} and {output.with_suffix('.json')}"))
        return
    width, height = arguments.size or (None, None)
    model = build_onnx(weights, width, height, arguments.precision)
    write_whole(output, model.SerializeToString())
    size = output.stat().st_size / 2**20
    print(printable_lines(f"wrote {output}: {arguments.precision}, {size:.2f} MiB"))


def _check_output(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output.suffix not in (".onnx", ".npz"):
        raise UserError(f"{output}: expected a name that ends in .onnx or .npz")
    paths = [output]
    if output.suffix == ".npz":
        if arguments.size or arguments.precision != "fp32":
            raise UserError(f"{output}: --size and --precision apply to OUT.onnx, not to OUT.npz")
        paths.append(output.with_suffix(".json"))
    for path in paths:
        check_output(path, arguments.overwrite)


def _of_run(folder: Path) -> Weights:
    if importlib.util.find_spec("torch") is None:
        raise UserError("reading a training needs PyTorch: pip install -e '.[train]'")
    from squeezedrive.engines.training.export import load_run

    return load_run(folder)
