"""`python -m engines import`: convert weights of another SqueezeDet implementation."""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.cli.arguments import input_size, names
from squeezedrive.engines.errors import UserError
from squeezedrive.engines.files import readable
from squeezedrive.engines.program import printable_lines

if TYPE_CHECKING:
    from squeezedrive.engines.importing.conventions import Convention
    from squeezedrive.engines.importing.tensors import Tensors

DESCRIPTION = (
    "Convert weights of another SqueezeDet implementation to NAME.npz and NAME.json, their profile."
)
EXAMPLES = """\
layouts:
  authors  .npz of arrays by name: conv1/kernels, fire2/squeeze1x1/biases, conv12_w ..., in the
           order of TensorFlow or of Caffe and PyTorch. From a TensorFlow checkpoint:
             r = tf.train.load_checkpoint("model.ckpt-87000")
             np.savez("source.npz", **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})
  keras    HDF5 of https://github.com/omni-us/squeezedet-keras
  pytorch  checkpoint of https://github.com/QiuJueqin/SqueezeDet-PyTorch

These files do not say how pixels are normalised, what the channels mean or where the anchors are.
These properties are taken from the layout's published code unless an option gives them, and the
output lists them. With a wrong one, boxes are found in wrong places: evaluate before use.

examples:
  python -m engines import source.npz --layout authors --out squeezedet.npz
  python -m engines import model.90-1.23.hdf5 --layout keras --out mine.npz --classes truck,bus
  python -m engines import squeezedet_kitti.pth --layout pytorch --out qiu.npz --licence MIT
  python -m engines import small.npz --layout authors --size 960x288 --out small-960.npz
"""


def _three(text: str) -> tuple[float, ...]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected one number, or three as A,B,C, got {text!r}")
    return tuple(values * (3 // len(values)))


def _three_positive(text: str) -> tuple[float, ...]:
    values = _three(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"expected numbers above 0, got {text!r}")
    return values


def _threshold(text: str) -> float:
    if text == "none":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"expected a number above 0, or none, got {text!r}")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="the weights file")
    add("--layout", choices=("authors", "keras", "pytorch"), required=True, help="see below")
    add("--out", type=Path, required=True, metavar="NAME.npz", help="the file to write")
    add("-y", "--overwrite", action="store_true", help="replace existing files")
    add("--name", help="name of the weights (default: that of the file)")
    add("--licence", default="not stated", help="licence of the weights (default: not stated)")

    add = parser.add_argument_group(
        "properties of the weights that differ from the published code"
    ).add_argument
    add("--size", type=input_size, metavar="WxH", help="input in pixels")
    add("--classes", type=names, metavar="A,B", help="class names in the order of the output")
    add(
        "--anchors", metavar="FILE|WxH,WxH",
        help="shapes in input pixels: YAML, or a list (default: published ones, scaled to --size)",
    )  # fmt: skip
    add("--centres", choices=("half_stride", "even"), help="centres of the anchors")
    add("--channels", choices=("BGR", "RGB"), help="order of the colours")
    add("--mean", type=_three, metavar="A[,B,C]", help="subtracted from pixels 0 to 255")
    add("--std", type=_three_positive, metavar="A[,B,C]", help="pixels are then divided by this")
    add("--padding", choices=("symmetric", "same_upper", "valid"))
    add("--head", choices=("by_kind", "per_anchor"), help="order of the output's channels")
    add(
        "--exponential", type=_threshold, metavar="X",
        help="value from which the exponential of the sizes is linear; none: never",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Read, convert and write weights, and print the assumptions about them."""
    from squeezedrive.engines.importing.conventions import CONVENTIONS
    from squeezedrive.engines.importing.convert import Overrides, convert
    from squeezedrive.engines.importing.files import check_weights_output, read_shapes
    from squeezedrive.engines.importing.tensors import recognise
    from squeezedrive.engines.model.weights import save_weights

    source, out = arguments.source, arguments.out
    check_weights_output(source, out, arguments.overwrite)

    given = Overrides(
        size=arguments.size,
        channels=arguments.channels,
        mean=arguments.mean,
        std=arguments.std,
        padding=arguments.padding,
        anchors=None if arguments.anchors is None else read_shapes(arguments.anchors),
        centres=arguments.centres,
        head=arguments.head,
        exponential=arguments.exponential,
        classes=tuple(arguments.classes) if arguments.classes else None,
    )
    tensors = _reader(arguments.layout)(source)
    network = recognise(tensors)
    if (arguments.layout, network.name) not in CONVENTIONS:
        raise UserError(f"{source}: there is no {network.name} in the layout {arguments.layout}")
    usual = CONVENTIONS[arguments.layout, network.name]
    meant = given.apply(usual)
    training = {
        "imported": f"{readable(source.name)}, layout {arguments.layout}",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "assumed": [name for name in _as_options(meant) if name not in given.given],
    }
    weights, changes = convert(
        tensors, network, meant, arguments.name or readable(out.stem), arguments.licence, training
    )
    save_weights(weights, out)
    print(f"read {source}: {network.name}, {len(tensors.arrays)} tensors")
    if tensors.left_out:
        first = ", ".join(tensors.left_out[:2])
        print(f"left out: {len(tensors.left_out)} that belong to its training ({first} ...)")
    for change in changes:
        print(f"changed: {change}")
    print(f"assumed as in {usual.source}, unless given:")
    for name, value in _as_options(meant).items():
        print(f"  --{name:12} {value}{'  (given)' if name in given.given else ''}")
    for note in usual.notes:
        print(f"note: {note}")
    text = (
        f"wrote {out} and {out.with_suffix('.json')}: {weights.profile.parameters:,} parameters,"
        f" {out.stat().st_size / 2**20:.2f} MiB, licence {arguments.licence}\n"
        f"to check: python -m engines evaluate --weights {out} --data ROOT --fit stretch"
    )
    print(printable_lines(text))


def _reader(layout: str) -> Callable[[Path], Tensors]:
    """Return the reader of a layout; packages that only one reader needs are loaded late."""
    if layout == "authors":
        from squeezedrive.engines.importing.authors import read_authors

        return read_authors
    if layout == "keras":
        from squeezedrive.engines.importing.keras import read_keras

        return read_keras
    from squeezedrive.engines.importing.pytorch import read_pytorch

    return read_pytorch


def _as_options(meant: Convention) -> dict[str, str]:
    """Return the properties of the weights as values of the options that set them."""
    return {
        "size": f"{meant.width}x{meant.height}",
        "classes": ",".join(meant.classes),
        "anchors": ",".join(f"{width:g}x{height:g}" for width, height in meant.anchors),
        "centres": meant.centres,
        "channels": meant.channels,
        "mean": ",".join(f"{value:g}" for value in meant.mean),
        "std": ",".join(f"{value:g}" for value in meant.std),
        "padding": meant.padding,
        "head": meant.head,
        "exponential": "none" if meant.exponential is None else f"{meant.exponential:g}",
    }
