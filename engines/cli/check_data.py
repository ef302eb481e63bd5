"""`python -m engines check-data`: find mistakes in data before a training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.cli.arguments import aliases, names
from squeezedrive.engines.errors import DatasetError, UserError
from squeezedrive.engines.files import write_whole
from squeezedrive.engines.program import printable_lines
from squeezedrive.engines.progress import counting

if TYPE_CHECKING:
    from squeezedrive.engines.datasets.check import Finding, NetworkView
    from squeezedrive.engines.datasets.check_report import Role
    from squeezedrive.engines.datasets.dataset import Dataset
    from squeezedrive.engines.training.config import SetConfig, TrainConfig

DESCRIPTION = (
    "Find mistakes in data before the first epoch: every picture is decoded, every box is"
    " checked, and pictures to train on are compared with pictures to evaluate on. Give data"
    " sets, a recipe, or both, as for `train --data ROOT --config FILE`; all data that this"
    " training would use are checked."
)
EXAMPLES = """\
The exit code is 2 if a training would stop: a data set, picture or label file that cannot be read,
a picture whose size differs from that in its labels, a data set to train on without an object of
the classes. Other findings leave it at 0: boxes without area, outside the picture or labelled
twice, a class that never occurs, pictures that are nearly the same in train and val (which makes
the AP too good), objects too small to be found.

examples:
  python -m engines check-data mine
  python -m engines check-data mine --classes vehicle,person --names lorry=vehicle,animal=dontcare
  python -m engines check-data mine theirs --config training/finetune.yaml --json check.json
  python -m engines check-data --config recipe.yaml
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add("roots", nargs="*", metavar="ROOT", help="a data set; replaces those of the recipe")
    add(
        "--split", metavar="NAME",
        help="split of each ROOT to train on (default: train)",
    )  # fmt: skip
    add(
        "--val", metavar="NAME",
        help="split to evaluate on, of the first ROOT unless the recipe names other data sets"
        " (default: the recipe's, val); --set evaluate.every=0 checks none",
    )  # fmt: skip
    add("--classes", type=names, metavar="A,B", help="classes to train (default: the recipe's)")
    add(
        "--names", type=aliases, metavar="A=B",
        help="names in each ROOT and the classes that they stand for, or dontcare, for example"
        " person=pedestrian,van=dontcare",
    )  # fmt: skip
    add(
        "--config", type=Path, metavar="FILE.yaml",
        help="recipe of the training (default: configs/training/default.yaml)",
    )  # fmt: skip
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change any key of the recipe",
    )  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return 0, or 2 if a training would stop."""
    config = _recipe(arguments)
    from squeezedrive.engines.datasets.check import check
    from squeezedrive.engines.datasets.check_report import CheckedPart, CheckReport

    opened = _open(config)
    parts = []
    with counting(sum(len(one.dataset or ()) for one in opened)) as show:
        done = count(1)
        for one in opened:
            checked = None
            if one.dataset is not None:
                view = _view(config, one.entry)
                checked = check(one.dataset, one.faults, view, lambda: show(next(done)))
            entry = one.entry
            parts.append(CheckedPart(entry.root, entry.split, one.role, checked, one.unusable))
    report = CheckReport(config.network.output.classes, parts)
    print(printable_lines(report.as_text()))
    if arguments.json:
        write_whole(arguments.json, json.dumps(report.as_data(), indent=1).encode() + b"\n")
        print(printable_lines(f"wrote {arguments.json}"))
    return 2 if report.stops() else 0


@dataclass(frozen=True)
class _Opened:
    """A data set's split after reading, and the reasons why it cannot be used."""

    entry: SetConfig
    role: Role
    dataset: Dataset | None
    faults: list[DatasetError]
    unusable: tuple[Finding, ...] = ()


def _open(config: TrainConfig) -> list[_Opened]:
    """Read the labels of all data sets that a training would use."""
    wanted: list[tuple[SetConfig, Role]] = [(entry, "train") for entry in config.data.sets]
    if config.evaluate.every:
        wanted += [(entry, "val") for entry in config.evaluated_sets()]
    return [_read(entry, role, config.network.output.classes) for entry, role in wanted]


def _read(entry: SetConfig, role: Role, classes: Sequence[str]) -> _Opened:
    from squeezedrive.engines.datasets.check import Finding
    from squeezedrive.engines.datasets.load import load_dataset

    faults: list[DatasetError] = []
    try:
        dataset = load_dataset(entry.root, entry.split, classes, entry.names, faults)
    except DatasetError as error:
        what = str(error).removeprefix(f"{entry.root}: ")
        if role == "val":
            what += " (for the evaluation; --set evaluate.every=0 leaves it out)"
        whole = Finding("unusable", entry.root, what)
        return _Opened(entry, role, None, [], (whole, *map(Finding.from_error, faults)))
    unusable: tuple[Finding, ...] = ()
    if role == "train" and entry.labelled is None and not dataset.counts().any():
        what = f"no object of {', '.join(classes)} to learn from"
        unusable = (Finding("unusable", entry.root, what),)
    return _Opened(entry, role, dataset, faults, unusable)


def _recipe(arguments: argparse.Namespace) -> TrainConfig:
    """Return the configuration of the training."""
    from squeezedrive.engines.settings import parse_setting
    from squeezedrive.engines.training.config import load_train_config

    settings: list[tuple[str, Any]] = []
    if arguments.roots:
        entry = {"split": arguments.split or "train", "names": arguments.names or {}}
        sets = [{"root": str(Path(root).resolve()), **entry} for root in arguments.roots]
        settings.append(("data.sets", sets))
    elif arguments.split or arguments.names:
        raise UserError("--split and --names need a ROOT; a recipe has its own for each data set")
    if arguments.val:
        settings.append(("evaluate.split", arguments.val))
    if arguments.classes:
        settings.append(("network.output.classes", arguments.classes))
    settings += [(key, value) for _, key, value in map(parse_setting, arguments.settings)]
    config = load_train_config(arguments.config, settings)
    if not config.data.sets:
        raise UserError("no data set to check: give ROOT, or --config with data.sets")
    return config


def _view(config: TrainConfig, entry: SetConfig) -> NetworkView:
    import numpy as np

    from squeezedrive.engines.datasets.check import NetworkView

    return NetworkView(
        entry.fit or config.data.fit,
        config.network.input.size,
        config.data.band_centre,
        np.array(config.network.anchors.shapes, np.float64),
        config.augment.min_size,
        config.augment.min_visible,
    )
