"""`python -m engines evaluate`: measure average precision on labelled data sets."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.backends.select import CHOICES
from squeezedrive.engines.cli.arguments import (
    add_class_options,
    add_fit_options,
    add_network_options,
    count,
    fraction,
    names,
    use_trained_fit,
)
from squeezedrive.engines.cli.boxes import Found, find_boxes, read_found
from squeezedrive.engines.errors import ConfigError, UserError
from squeezedrive.engines.files import check_free, check_output
from squeezedrive.engines.program import printable_lines

if TYPE_CHECKING:
    from squeezedrive.engines.datasets.dataset import Dataset
    from squeezedrive.engines.evaluation.evaluate import Evaluation
    from squeezedrive.engines.evaluation.overview import SetFigures
    from squeezedrive.kernels.fit import Fit

DESCRIPTION = (
    "Measure average precision, as KITTI and COCO define it, on data sets in KITTI,"
    " COCO, YOLO or Pascal VOC layout, also by the height of the objects, and count the"
    " kinds of mistakes."
)
EXAMPLES = """\
The evaluation uses the network's boxes with a score of at least 0.005, and the best 256 of each
picture; the threshold for drawing does not matter. The SqueezeDet paper uses 64: --top-n 64.
Several data sets are printed in one table, with their mean. Lists in ImageSets beside that
of the split, such as val-night.txt beside val.txt, are parts with lines of their own.

examples:
  python -m engines evaluate --data kitti --fit stretch
  python -m engines evaluate --data kitti --json figures.json --plots out
  python -m engines evaluate --data kitti --precision fp32,fp16,int8
  python -m engines evaluate --data dashcam --classes car --iou car=0.5
  python -m engines evaluate --data kitti --detections results
  python -m engines evaluate --data kitti --data bdd100k --names truck=dontcare
"""


PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


def _precisions(text: str) -> list[str]:
    chosen = names(text)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(PRECISIONS):
        raise argparse.ArgumentTypeError(
            f"expected one or more of {', '.join(PRECISIONS)}, separated by commas, got {text!r}"
        )
    return chosen


def _class_iou(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"expected CLASS=IOU, got {text!r}")
    return name, fraction(value)


def _height(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a height in pixels, 0 or more, got {text!r}")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add(
        "--data", type=Path, action="append", required=True, metavar="ROOT",
        help="the data set's folder; repeatable",
    )  # fmt: skip
    add("--split", default="val", help="split to evaluate on (default: val)")
    add_class_options(parser)
    add(
        "--iou", type=_class_iou, action="append", default=[], metavar="CLASS=IOU",
        help="overlap of a correct box; repeatable (default: KITTI's, else 0.5)",
    )  # fmt: skip
    add(
        "--kit", choices=("paper", "current"), default="paper",
        help="version of KITTI's development kit; current ignores low boxes (default: paper)",
    )  # fmt: skip
    add(
        "--score", type=fraction, metavar="S",
        help="count mistakes and false boxes from this score on (default: the score from which the"
        " pipeline draws boxes)",
    )  # fmt: skip
    add(
        "--min-height", type=_height, metavar="PX",
        help="ignore lower objects in the table of all sets; in pixels of a picture 640 wide, for"
        " others in proportion (default: 12.5)",
    )  # fmt: skip

    source = parser.add_argument_group("where the boxes come from")
    either = source.add_mutually_exclusive_group()
    either.add_argument("--backend", choices=CHOICES, default="auto")
    either.add_argument(
        "--detections", type=Path, action="append", metavar="DIR",
        help="KITTI result files instead of a network; one DIR per data set, in the same order",
    )  # fmt: skip
    add_network_options(source)
    add_fit_options(source)
    add = source.add_argument
    add(
        "--precision", type=_precisions, default=["auto"], metavar="P[,P]",
        help=f"number format: {', '.join(PRECISIONS)} (bf16 only on the CPU); several, separated by"
        " commas, are compared (default: auto, which is fp16 on a GPU; on the CPU int8 if the"
        " weights have such a model beside them, else fp32)",
    )  # fmt: skip
    add(
        "--top-n", type=count, default=256, metavar="N",
        help="boxes a picture kept before suppression (default: 256)",
    )  # fmt: skip

    outputs = parser.add_argument_group("outputs")
    add = outputs.add_argument
    add(
        "--json", type=Path, metavar="FILE",
        help="write all figures and curves; a list for several data sets or number formats",
    )  # fmt: skip
    add(
        "--plots", type=Path, metavar="DIR",
        help="draw curves and confusion as PNG; of several data sets, each in a folder of its name",
    )  # fmt: skip
    add("-y", "--overwrite", action="store_true", help="replace existing outputs")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, print the tables and write the requested files."""
    use_trained_fit(arguments)

    from squeezedrive.engines.datasets.load import load_datasets, set_names
    from squeezedrive.engines.evaluation.road import dataset_fits
    from squeezedrive.engines.model.weights import DEFAULT, load_profile, profile_path

    weights = arguments.weights or DEFAULT
    profile = load_profile(profile_path(weights))
    known = profile.output.classes
    roots = arguments.data
    if arguments.detections and len(arguments.detections) != len(roots):
        raise ConfigError(
            f"--detections: expected one for each of {len(roots)} data sets, got"
            f" {len(arguments.detections)}"
        )
    datasets = load_datasets(roots, arguments.split, arguments.classes or known, arguments.names)
    titles = set_names(datasets, roots)
    folders = _check_outputs(arguments, titles)
    _check_names("--iou", [name for name, _ in arguments.iou], datasets[0].classes)
    if not arguments.detections:
        _check_names("--classes", datasets[0].classes, known)
    size = arguments.size or profile.input.size
    fits = [dataset_fits(d, arguments.fit, size, arguments.band_centre) for d in datasets]
    if arguments.detections:
        runs = [read_found(arguments.detections, datasets)]
    else:
        runs = [find_boxes(arguments, weights, datasets, name) for name in arguments.precision]
    figures = _measure(arguments, datasets, titles, fits, runs)
    if arguments.json:
        _write_json(arguments.json, figures, runs)  # first, because printing may fail
    _print(figures, runs)
    if arguments.json:
        print(printable_lines(f"\nwrote {arguments.json}"))
    for place, folder in enumerate(folders):
        _write_plots(figures[place].evaluation, folder)


def _measure(
    arguments: argparse.Namespace,
    datasets: Sequence[Dataset],
    titles: Sequence[str],
    fits: Sequence[Sequence[Fit]],
    runs: Sequence[Found],
) -> list[SetFigures]:
    """Return the figures of each data set in each number format, set by set."""
    from squeezedrive.engines.evaluation.evaluate import SHOWN_SCORE, evaluate
    from squeezedrive.engines.evaluation.overview import SetFigures
    from squeezedrive.engines.evaluation.road import MIN_HEIGHT, evaluate_road

    min_iou = dict(arguments.iou)
    score = SHOWN_SCORE if arguments.score is None else arguments.score
    least = MIN_HEIGHT if arguments.min_height is None else arguments.min_height
    return [
        SetFigures(
            title,
            one.variant,
            evaluate(dataset, one.boxes[place], min_iou, arguments.kit, score),
            evaluate_road(dataset, one.boxes[place], fits[place], least),
        )
        for place, (dataset, title) in enumerate(zip(datasets, titles, strict=True))
        for one in runs
    ]


def _print(figures: Sequence[SetFigures], runs: Sequence[Found]) -> None:
    from squeezedrive.engines.evaluation.overview import (
        format_heights,
        format_means,
        format_overview,
    )
    from squeezedrive.engines.evaluation.report import as_comparison, format_report

    sets = [figures[start : start + len(runs)] for start in range(0, len(figures), len(runs))]
    for (first, *_), *sources in zip(sets, *(one.sources for one in runs), strict=True):
        dataset = first.evaluation.dataset
        pictures = f"{dataset.split} of {dataset.root}, {len(dataset)} pictures"
        for source in sources:
            print("; ".join([_title(source), pictures, *filter(None, [source.get("device")])]))
    print()
    if len(sets) == 1:
        evaluations = [one.evaluation for one in figures]
        if len(runs) == 1:
            print(format_report(evaluations[0]))
        else:
            print(as_comparison([one.variant for one in runs], evaluations))
        print()
    print(format_overview(figures))
    if len(sets) > 1:
        print(f"\n{format_means(figures)}")
    for same in sets:
        print(f"\n{format_heights(same)}")


def _title(source: dict[str, Any]) -> str:
    if "detections" in source:
        return f"boxes from {source['detections']}"
    title = "{weights}, {backend} {precision}, {width}x{height}, fit {fit}, top {top_n}"
    return title.format(**source)


def _check_outputs(arguments: argparse.Namespace, titles: Sequence[str]) -> list[Path]:
    """Check outputs before minutes of work; return each data set's folder for plots."""
    if arguments.json:
        check_output(arguments.json, arguments.overwrite)
    if not arguments.plots:
        return []
    if len(arguments.precision) > 1:
        raise ConfigError(
            "--plots: expected one number format, got --precision " + ",".join(arguments.precision)
        )
    folder: Path = arguments.plots
    check_output(folder, overwrite=True)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, expected a folder for the plots")
    if importlib.util.find_spec("matplotlib") is None:
        print(
            "no plots: matplotlib is missing; install it with  pip install -e '.[train]'",
            file=sys.stderr,
        )
        return []
    from squeezedrive.engines.evaluation.plots import CONFUSION, CURVES

    folders = [folder / title for title in titles] if len(titles) > 1 else [folder]
    for place in folders:
        for name in (CURVES, CONFUSION):
            check_free(place / name, arguments.overwrite)
    return folders


def _check_names(option: str, names: list[str] | tuple[str, ...], known: tuple[str, ...]) -> None:
    from squeezedrive.engines.datasets.dataset import class_key

    keys = {class_key(name) for name in known}
    for name in names:
        if class_key(name) not in keys:
            raise ConfigError(f"{option}: unknown class {name!r}, expected {', '.join(known)}")


def _write_json(path: Path, figures: Sequence[SetFigures], runs: Sequence[Found]) -> None:
    from squeezedrive.engines.evaluation.overview import road_data
    from squeezedrive.engines.evaluation.report import report_data

    sources = [one.sources[place] for place in range(len(runs[0].sources)) for one in runs]
    data = [
        {"source": s, **report_data(f.evaluation), "road": road_data(f)}
        for s, f in zip(sources, figures, strict=True)
    ]
    text = json.dumps(data if len(data) > 1 else data[0], indent=1, allow_nan=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _write_plots(evaluation: Evaluation, folder: Path) -> None:
    from squeezedrive.engines.evaluation.plots import write_plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = write_plots(evaluation, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    for path in paths:
        print(printable_lines(f"wrote {path}"))
