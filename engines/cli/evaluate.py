"""`python -m engines evaluate`: its options, and what they set going."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from squeezedrive.engines.errors import ConfigError, UserError
from squeezedrive.engines.files import check_free, check_output
from squeezedrive.engines.progress import counting

if TYPE_CHECKING:
    from squeezedrive.engines.backends.base import BackendOptions
    from squeezedrive.engines.backends.cpu.options import CpuPrecision
    from squeezedrive.engines.backends.cuda.options import CudaPrecision
    from squeezedrive.engines.datasets.dataset import Dataset
    from squeezedrive.engines.evaluation.evaluate import Evaluation
    from squeezedrive.engines.evaluation.results import ImageDetections

DESCRIPTION = (
    "Measure average precision, as KITTI and COCO define it, on a data set in"
    " KITTI, COCO or YOLO layout, and say what goes wrong."
)
EXAMPLES = """\
The network's boxes are taken from a score of 0.005 on and the best 128 a picture,
whatever the threshold of drawing is. The SqueezeDet paper has the best 64: --top-n 64.

examples:
  python -m engines evaluate --data kitti --fit stretch
  python -m engines evaluate --data kitti --json figures.json --plots out
  python -m engines evaluate --data kitti --precision fp32,fp16,int8
  python -m engines evaluate --data dashcam --classes car --iou car=0.5
  python -m engines evaluate --data kitti --detections results
"""


PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


def _precisions(text: str) -> list[str]:
    chosen = names(text)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(PRECISIONS):
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(PRECISIONS)}, with commas between them, got {text!r}"
        )
    return chosen


def _class_iou(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"expected CLASS=IOU, got {text!r}")
    return name, fraction(value)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="ROOT", help="the data set's folder")
    add("--split", default="val", help="which part of it (default: val)")
    add_class_options(parser)
    add(
        "--iou", type=_class_iou, action="append", default=[], metavar="CLASS=IOU",
        help="overlap of a correct box; repeatable (default: KITTI's, else 0.5)",
    )  # fmt: skip
    add(
        "--kit", choices=("paper", "current"), default="paper",
        help="state of KITTI's development kit; current ignores low boxes (default: paper)",
    )  # fmt: skip
    add(
        "--score", type=fraction, default=0.4, metavar="S",
        help="count mistakes among boxes from this score on (default: 0.4)",
    )  # fmt: skip

    source = parser.add_argument_group("where the boxes come from")
    either = source.add_mutually_exclusive_group()
    either.add_argument("--backend", choices=CHOICES, default="auto")
    either.add_argument(
        "--detections", type=Path, metavar="DIR", help="KITTI result files instead of a network"
    )
    add_network_options(source)
    add_fit_options(source)
    add = source.add_argument
    add(
        "--precision", type=_precisions, default=["auto"], metavar="P[,P]",
        help=f"number format: {', '.join(PRECISIONS)}, bf16 on the CPU only; several, with commas"
        " between them, are compared (default: auto, which is fp16 on a GPU; on the CPU int8 if the"
        " weights have such a model beside them, else fp32)",
    )  # fmt: skip
    add(
        "--top-n", type=count, default=128, metavar="N",
        help="boxes a picture kept before suppression (default: 128)",
    )  # fmt: skip

    outputs = parser.add_argument_group("outputs")
    add = outputs.add_argument
    add(
        "--json", type=Path, metavar="FILE",
        help="write all figures and curves; of several number formats a list",
    )  # fmt: skip
    add("--plots", type=Path, metavar="DIR", help="draw curves and confusion as PNG")
    add("-y", "--overwrite", action="store_true", help="replace existing outputs")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, print the tables and write what was asked for."""
    use_trained_fit(arguments)
    plots = _check_outputs(arguments)

    from squeezedrive.engines.datasets.load import load_dataset
    from squeezedrive.engines.evaluation.evaluate import evaluate
    from squeezedrive.engines.evaluation.report import as_comparison, format_report, report_data
    from squeezedrive.engines.model.weights import DEFAULT, load_profile

    weights = arguments.weights or DEFAULT
    known = load_profile(weights.with_suffix(".json")).output.classes
    dataset = load_dataset(
        arguments.data, arguments.split, arguments.classes or known, arguments.names
    )
    min_iou = dict(arguments.iou)
    _check_names("--iou", list(min_iou), dataset.classes)
    if arguments.detections:
        from squeezedrive.engines.evaluation.results import read_results

        found = read_results(arguments.detections, dataset)
        runs: list[tuple[list[ImageDetections], dict[str, Any]]] = [
            (found, {"detections": str(arguments.detections)})
        ]
    else:
        _check_names("--classes", dataset.classes, known)
        runs = [_run_network(arguments, weights, dataset, name) for name in arguments.precision]
    sources = [source for _, source in runs]
    evaluations = [
        evaluate(dataset, found, min_iou, arguments.kit, arguments.score) for found, _ in runs
    ]
    for source in sources:
        pictures = f"{arguments.split} of {arguments.data}, {len(dataset)} pictures"
        print("; ".join([_title(source), pictures, *filter(None, [source.get("device")])]))
    print()
    if len(runs) == 1:
        print(format_report(evaluations[0]))
    else:
        print(as_comparison([source["precision"] for source in sources], evaluations))
    if arguments.json:
        data = [{"source": s, **report_data(e)} for s, e in zip(sources, evaluations, strict=True)]
        text = json.dumps(data if len(runs) > 1 else data[0], indent=1, allow_nan=False)
        try:
            arguments.json.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{arguments.json}: cannot be written: {error.strerror}") from None
        print(f"\nwrote {arguments.json}")
    if plots:
        _write_plots(evaluations[0], arguments.plots)


def _title(source: dict[str, Any]) -> str:
    if "detections" in source:
        return f"boxes from {source['detections']}"
    title = "{weights}, {backend} {precision}, {width}x{height}, fit {fit}, top {top_n}"
    return title.format(**source)


def _check_outputs(arguments: argparse.Namespace) -> bool:
    """Complain before, not after minutes of work; return whether plots can be drawn."""
    if arguments.json:
        check_output(arguments.json, arguments.overwrite)
    if not arguments.plots:
        return False
    if len(arguments.precision) > 1:
        raise ConfigError(
            "--plots: expected one number format, got --precision " + ",".join(arguments.precision)
        )
    check_output(arguments.plots, overwrite=True)
    if arguments.plots.exists() and not arguments.plots.is_dir():
        raise UserError(f"{arguments.plots}: is a file, expected a folder for the plots")
    if importlib.util.find_spec("matplotlib") is None:
        print(
            "no plots: matplotlib is missing; install it with  pip install -e '.[train]'",
            file=sys.stderr,
        )
        return False
    from squeezedrive.engines.evaluation.plots import CONFUSION, CURVES

    for name in (CURVES, CONFUSION):
        check_free(arguments.plots / name, arguments.overwrite)
    return True


def _check_names(option: str, names: list[str] | tuple[str, ...], known: tuple[str, ...]) -> None:
    from squeezedrive.engines.datasets.dataset import class_key

    keys = {class_key(name) for name in known}
    for name in names:
        if class_key(name) not in keys:
            raise ConfigError(f"{option}: unknown class {name!r}, expected {', '.join(known)}")


def _run_network(
    arguments: argparse.Namespace, weights_path: Path, dataset: Dataset, precision: str
) -> tuple[list[ImageDetections], dict[str, Any]]:
    """Return the boxes, and what found them."""
    from squeezedrive.engines.backends.base import EngineSettings
    from squeezedrive.engines.backends.cpu.options import CpuOptions
    from squeezedrive.engines.backends.cuda.options import CudaOptions
    from squeezedrive.engines.backends.select import open_backend
    from squeezedrive.engines.evaluation.run import DETECT, find_all
    from squeezedrive.engines.model.weights import int8_model, load_weights

    weights = load_weights(weights_path)
    profile = weights.profile
    width, height = arguments.size or profile.input.size
    detect = replace(DETECT, top_n=arguments.top_n)
    name: str = arguments.backend
    options: list[BackendOptions] = [CpuOptions(precision=cast("CpuPrecision", precision))]
    if precision == "bf16":
        if name not in ("auto", "cpu"):
            raise ConfigError(f"--precision bf16: not for the back end {name}, only for cpu")
        name = "cpu"
    elif precision != "auto":
        options.append(CudaOptions(precision=cast("CudaPrecision", precision)))
    fit, centre = arguments.fit, arguments.band_centre
    int8 = int8_model(weights_path)
    settings = EngineSettings(weights, width, height, detect, fit, centre, int8)
    with (
        closing(open_backend(name, settings, options)) as backend,
        counting(len(dataset)) as progress,
    ):
        found = find_all(backend, profile.output.classes, dataset, progress)
    info = backend.info
    source = {
        "weights": profile.name,
        "backend": info.name,
        "runtime": info.runtime,
        "device": info.device,
        "precision": info.precision,
        "width": width,
        "height": height,
        "fit": fit,
        "band_centre": centre,
        "threshold": detect.threshold,
        "top_n": detect.top_n,
        "nms_iou": detect.nms_iou,
    }
    return found, source


def _write_plots(evaluation: Evaluation, folder: Path) -> None:
    from squeezedrive.engines.evaluation.plots import write_plots

    try:
        folder.mkdir(exist_ok=True)
        paths = write_plots(evaluation, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    for path in paths:
        print(f"wrote {path}")
