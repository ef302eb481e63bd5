"""`python -m engines train`: train weights on labelled pictures."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from squeezedrive.engines.errors import UserError

DESCRIPTION = "Train weights on labelled pictures in KITTI, COCO or YOLO layout."
EXAMPLES = """\
examples:
  python -m engines train --data kitti --init squeezenet.npz --out runs/first
  python -m engines train --data mine --config training/finetune --out runs/mine
  python -m engines train --data kitti --data dashcam --config configs/training/paper.yaml \\
      --out runs/paper
  python -m engines train --resume --out runs/first
  torchrun --nproc-per-node 4 -m engines train --data kitti --out runs/four
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--data", action="append", default=[], metavar="ROOT",
        help="a data set; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml",
        help="recipe: changes to configs/training/default.yaml; if there is no such file, one of"
        " the package, for example training/paper or configs/training/plus.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for all outputs"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE.npz",
        help="weights to start from: a network or a backbone",
    )
    parser.add_argument("--resume", action="store_true", help="continue the training in --out")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change any key of the configuration",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the verb; return the exit code."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("training needs PyTorch: pip install -e '.[train]'")
    from squeezedrive.engines.settings import parse_setting
    from squeezedrive.engines.training.config import load_train_config
    from squeezedrive.engines.training.loop import train
    from squeezedrive.engines.training.report import stored_config

    settings = [(key, value) for _, key, value in map(parse_setting, arguments.settings)]
    path = arguments.config
    if arguments.resume:
        if path or arguments.data or arguments.init:
            raise UserError(
                "--resume takes configuration, data and weights from the folder; only --set can"
                " change something"
            )
        path = stored_config(arguments.out)
    if arguments.data:
        sets = [{"root": str(Path(root).resolve())} for root in arguments.data]
        settings.insert(0, ("data.sets", sets))
    if arguments.init:
        settings.insert(0, ("network.init", str(arguments.init.resolve())))
    return train(load_train_config(path, settings), arguments.out, arguments.resume)
