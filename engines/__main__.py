"""Work on the network: `python -m engines VERB`, of which `--help` lists the verbs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from squeezedrive.engines.cli.anchors import add_anchors_parser, run_anchors
from squeezedrive.engines.cli.arguments import input_size, use_trained_fit
from squeezedrive.engines.cli.evaluate import add_evaluate_parser, run_evaluate
from squeezedrive.engines.cli.export import add_export_parser, run_export
from squeezedrive.engines.cli.import_weights import add_import_parser, run_import
from squeezedrive.engines.cli.quantize import add_quantize_parser, run_quantize
from squeezedrive.engines.cli.tensorrt import (
    add_tensorrt_parsers,
    run_build,
    run_clear_cache,
    run_inspect,
)
from squeezedrive.engines.cli.train import add_train_parser, run_train
from squeezedrive.engines.errors import UserError

EXAMPLES = """\
examples:
  python -m engines describe
  python -m engines describe --config configs/training/plus.yaml
  python -m engines export squeezedet.onnx
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
    either = describe.add_mutually_exclusive_group()
    either.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="a network to be trained, without weights"
    )
    either.add_argument(
        "--weights", type=Path, metavar="FILE.npz", help="default: the project's own"
    )
    describe.add_argument(
        "--size", type=input_size, metavar="WxH", help="input in pixels; default: as trained"
    )
    add_export_parser(verbs)
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
        if "fit" in arguments:
            use_trained_fit(arguments)
        {
            "describe": _describe,
            "export": run_export,
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
    from squeezedrive.engines.model.describe import describe
    from squeezedrive.engines.model.weights import DEFAULT, load_weights
    from squeezedrive.engines.training.config import load_train_config

    if arguments.config is not None:
        profile = load_train_config(arguments.config).profile("none", 0)
    else:
        profile = load_weights(arguments.weights or DEFAULT).profile
    size = arguments.size or (profile.input.width, profile.input.height)
    print(describe(profile, *size))


if __name__ == "__main__":
    sys.exit(main())
