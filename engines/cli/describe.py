"""`python -m engines describe`: print a network's layers with sizes and costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from squeezedrive.engines.cli.arguments import input_size
from squeezedrive.engines.program import printable_lines

DESCRIPTION = "Print the layers of a network with their sizes and costs."
EXAMPLES = """\
examples:
  python -m engines describe
  python -m engines describe --size 960x288
  python -m engines describe --config configs/training/plus.yaml
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="the network of a recipe, without weights"
    )
    either.add_argument(
        "--weights", type=Path, metavar="FILE.npz", help="default: the project's own"
    )
    parser.add_argument(
        "--size", type=input_size, metavar="WxH", help="input in pixels; default: as trained"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the layers."""
    from squeezedrive.engines.model.describe import describe
    from squeezedrive.engines.model.weights import DEFAULT, load_weights
    from squeezedrive.engines.training.config import load_train_config

    if arguments.config is not None:
        profile = load_train_config(arguments.config).profile("none", 0)
    else:
        profile = load_weights(arguments.weights or DEFAULT).profile
    size = arguments.size or profile.input.size
    print(printable_lines(describe(profile, *size)))
