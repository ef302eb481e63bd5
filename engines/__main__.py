"""Work on the network: `python -m engines VERB`, of which `--help` lists the verbs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engines.anchors_cli import add_anchors_parser, run_anchors
from engines.arguments import input_size
from engines.errors import UserError
from engines.evaluation.cli import add_evaluate_parser, run_evaluate
from engines.importing.cli import add_import_parser, run_import
from engines.quantisation.cli import add_quantize_parser, run_quantize
from engines.tensorrt.cli import add_tensorrt_parsers, run_build, run_clear_cache, run_inspect
from engines.training.cli import add_train_parser, run_train

EXAMPLES = """\
examples:
  python -m engines describe
  python -m engines describe --config configs/training/plus.yaml
  python -m engines export squeezedet.onnx
  python -m engines export squeezedet-fp16.onnx --precision fp16 --size 1248x704
  python -m engines evaluate --data kitti/ --split val
  python -m engines anchors --data kitti/
  python -m engines import source.npz --layout authors --out squeezedet.npz
  python -m engines quantize int8.onnx --data kitti/ --fit stretch
  python -m engines build --precision fp16
"""


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m engines",
        description="Look at the network, write it as ONNX, measure how well it detects, train it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    describe = verbs.add_parser("describe", help="print the layers with sizes and costs")
    export = verbs.add_parser("export", help="write weights as an ONNX model")
    export.add_argument("output", type=Path, metavar="OUT.onnx")
    export.add_argument("--precision", choices=("fp32", "fp16"), default="fp32")
    export.add_argument("-y", "--overwrite", action="store_true", help="replace an existing file")
    either = describe.add_mutually_exclusive_group()
    either.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="a network to be trained, without weights"
    )
    for place in (either, export):
        place.add_argument(
            "--weights", type=Path, metavar="FILE.npz", help="default: the project's own"
        )
    for verb in (describe, export):
        verb.add_argument(
            "--size", type=input_size, metavar="WxH", help="input in pixels; default: as trained"
        )
    add_evaluate_parser(verbs)
    add_train_parser(verbs)
    add_anchors_parser(verbs)
    add_import_parser(verbs)
    add_quantize_parser(verbs)
    add_tensorrt_parsers(verbs)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run a verb; return the exit code: 0, 2 for wrong input, 130 if interrupted."""
    arguments = _parse(argv)
    try:
        if arguments.verb == "train":
            return run_train(arguments)
        {
            "describe": _describe,
            "export": _export,
            "evaluate": run_evaluate,
            "anchors": run_anchors,
            "import": run_import,
            "quantize": run_quantize,
            "build": run_build,
            "inspect": run_inspect,
            "clear-cache": run_clear_cache,
        }[arguments.verb](arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _describe(arguments: argparse.Namespace) -> None:
    from engines.describe import describe
    from engines.training.config import load_config
    from engines.weights import DEFAULT, load_weights

    if arguments.config is not None:
        profile = load_config(arguments.config).profile("none", 0)
    else:
        profile = load_weights(arguments.weights or DEFAULT).profile
    size = arguments.size or (profile.input.width, profile.input.height)
    print(describe(profile, *size))


def _export(arguments: argparse.Namespace) -> None:
    from engines.onnx_graph import build_onnx
    from engines.weights import DEFAULT, load_weights

    output = arguments.output
    if output.exists() and not arguments.overwrite:
        raise UserError(f"{output}: exists already; --overwrite replaces it")
    weights = load_weights(arguments.weights or DEFAULT)
    width, height = arguments.size or (None, None)
    model = build_onnx(weights, width, height, arguments.precision)
    try:
        output.write_bytes(model.SerializeToString())
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    print(f"wrote {output}: {arguments.precision}, {output.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    sys.exit(main())
