"""`python -m engines anchors`: find anchor shapes for a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.cli.arguments import (
    add_class_options,
    add_fit_options,
    add_network_options,
    count,
    use_trained_fit,
)
from squeezedrive.engines.program import printable_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezedrive.engines.datasets.anchors import Objects
    from squeezedrive.engines.model.profile import Profile

DESCRIPTION = (
    "Cluster the sizes of a data set's boxes into anchor shapes, in pixels of the network's input."
)
EXAMPLES = """\
Fit and size must be those of the training. To train with the shapes, put the last
lines into its configuration.

examples:
  python -m engines anchors --data kitti
  python -m engines anchors --data kitti --data dashcam -k 7 --size 1248x704 --fit letterbox
  python -m engines anchors --data trucks --split train --classes truck,bus
"""


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add(
        "--data", type=Path, action="append", required=True, metavar="ROOT",
        help="a data set; may be given several times",
    )  # fmt: skip
    add("--split", default="train", help="split to use (default: train)")
    add("-k", "--count", type=count, default=9, metavar="K", help="shapes to find (default: 9)")
    add_class_options(parser)
    add_network_options(parser)
    add_fit_options(parser)
    add(
        "--seed", type=_seed, default=0, metavar="N",
        help="seed of the random starts; the same seed gives the same shapes (default: 0)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Cluster and print shapes, how well they match, and how to train with them."""
    use_trained_fit(arguments)
    from squeezedrive.engines.datasets.anchors import cluster, measure
    from squeezedrive.engines.datasets.load import load_datasets
    from squeezedrive.engines.model.weights import DEFAULT, load_profile, profile_path

    profile = load_profile(profile_path(arguments.weights or DEFAULT))
    classes = arguments.classes or list(profile.output.classes)
    datasets = load_datasets(arguments.data, arguments.split, classes, arguments.names)
    size = arguments.size or profile.input.size
    objects = measure(datasets, arguments.fit, size, arguments.band_centre)
    # Rounding comes first, so that the figures belong to the printed shapes.
    shapes = cluster(objects.sizes, arguments.count, arguments.seed).round()
    pictures = sum(map(len, datasets))
    print(
        f"{len(objects.sizes):,} objects in {pictures:,} pictures, {arguments.split} of"
        f" {', '.join(map(str, arguments.data))};"
        f" sizes in an input of {size[0]}x{size[1]}, fit {arguments.fit}"
    )
    print(printable_lines(format_anchors(objects, shapes, classes, profile)))


def format_anchors(
    objects: Objects, shapes: NDArray[np.float64], classes: list[str], profile: Profile
) -> str:
    """Format shapes, their mean best IoU beside that of a profile's anchors, and configuration."""
    import numpy as np

    from squeezedrive.engines.datasets.anchors import MIN_SIZE, MIN_VISIBLE, mean_best_iou, size_iou

    nearest = size_iou(objects.sizes, shapes).argmax(axis=1)
    share = np.bincount(nearest, minlength=len(shapes)) / len(nearest)
    table = [
        f"{width:5.0f}  {height:6.0f}  {part:7.1%}"
        for (width, height), part in zip(shapes, share, strict=True)
    ]
    known = np.array(profile.anchors.shapes)
    matches = zip(
        ["all", *classes],
        [len(objects.sizes), *np.bincount(objects.classes, minlength=len(classes))],
        mean_best_iou(objects, shapes, len(classes)),
        mean_best_iou(objects, known, len(classes)),
        strict=True,
    )
    column = max(len(name) for name in ("all", *classes))
    rows = [
        f"{name:{column}}  {count:8,}  " + (f"{new:.3f}  {old:.3f}" if count else "    -      -")
        for name, count, new, old in matches
    ]
    pairs = ", ".join(f"[{width:.0f}, {height:.0f}]" for width, height in shapes)
    return "\n".join(
        [
            f"left out: {objects.left_out:,} narrower or lower than {MIN_SIZE:g} px, or of which"
            f" less than {MIN_VISIBLE:.0%} is inside",
            "",
            "width  height    share",
            *table,
            "",
            "mean IoU of an object with its most similar shape,"
            f" of these {len(shapes)} (new) and of the {len(known)} of {profile.name} (old):",
            f"{'':{column}}   objects    new    old",
            *rows,
            "",
            "for the training's configuration:",
            "network:",
            "  anchors:",
            f"    shapes: [{pairs}]",
        ]
    )
