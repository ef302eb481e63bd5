"""`python -m engines quantize`: write weights as an int8 ONNX model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.cli.arguments import (
    add_fit_options,
    add_network_options,
    count,
    use_trained_fit,
)
from squeezedrive.engines.errors import ConfigError, UserError
from squeezedrive.engines.files import check_output, write_whole
from squeezedrive.engines.progress import counting

if TYPE_CHECKING:
    import onnx

    from squeezedrive.engines.model.network import Operation
    from squeezedrive.engines.model.profile import Profile

DESCRIPTION = (
    "Write weights as an ONNX model that computes in 8-bit integers, for OpenVINO"
    " and TensorRT, calibrated with pictures of a data set."
)
EXAMPLES = """\
Calibrate with pictures like those that the network will see, put into the input in the same way.
Labels are not used, so any folder of pictures is accepted. The default of 128 pictures, spread over
the split, is enough.

examples:
  python -m engines quantize --data kitti --weights runs/first/first.npz
  python -m engines quantize --data kitti --data dashcam --evaluate kitti --overwrite
  python -m engines quantize int8.onnx --data kitti --keep-float conv1 fire2
  python -m engines evaluate --data kitti --weights runs/first/first.npz --precision int8
"""

CHECKED = 8  # pictures for measuring the output's noise, which hardly changes with more


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add(
        "output", type=Path, nargs="?", metavar="OUT.onnx",
        help="default: NAME.int8.onnx beside the weights NAME.npz, where other verbs look for it",
    )  # fmt: skip
    add(
        "--data", type=Path, action="append", required=True, metavar="ROOT",
        help="data set or folder of pictures to calibrate with; may be given several times",
    )  # fmt: skip
    add("--split", default="train", help="split to calibrate with (default: train)")
    add(
        "--images", type=count, default=128, metavar="N",
        help="pictures to calibrate with (default: 128)",
    )  # fmt: skip
    add_network_options(parser)
    add_fit_options(parser)
    add(
        "--keep-float", nargs="+", default=["auto"], metavar="LAYER",
        help="layers to leave in float, named as in `describe`, or single convolutions; none;"
        " auto: the most sensitive layers, if the output is too noisy with all of them in int8"
        " (default: auto)",
    )  # fmt: skip
    add(
        "--evaluate", type=Path, metavar="ROOT", help="measure lost AP and gained speed on this set"
    )
    add("--eval-split", default="val", help="split to evaluate on (default: val)")
    add("-y", "--overwrite", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Quantise, write the model and print the result."""
    use_trained_fit(arguments)
    from squeezedrive.engines.model.weights import DEFAULT

    path = arguments.weights or DEFAULT
    output = arguments.output or path.with_suffix(".int8.onnx")
    if output.suffix != ".onnx":
        raise UserError(f"{output}: expected a name that ends in .onnx")
    check_output(output, arguments.overwrite)

    from squeezedrive.engines.datasets.load import load_dataset, load_pictures
    from squeezedrive.engines.model.onnx_graph import DIGEST, build_onnx
    from squeezedrive.engines.model.weights import load_weights

    weights = load_weights(path)
    profile = weights.profile
    width, height = arguments.size or profile.input.size
    model = build_onnx(weights, width, height)
    keep = _float_layers(arguments.keep_float, profile.operations(width, height))
    pictures = [path for root in arguments.data for path in load_pictures(root, arguments.split)]
    judges = None
    if arguments.evaluate:
        judges = load_dataset(arguments.evaluate, arguments.eval_split, profile.output.classes)

    result = _quantise(arguments, model, profile, (width, height), keep, pictures)
    result.metadata_props.add(key=DIGEST, value=weights.digest())
    write_whole(output, result.SerializeToString())
    print(f"wrote {output}: {result.ByteSize() / 1e6:.2f} MB, {model.ByteSize() / 1e6:.2f} in fp32")
    if judges:
        from squeezedrive.engines.backends.base import EngineSettings
        from squeezedrive.engines.evaluation.run import DETECT
        from squeezedrive.engines.quantisation.compare import compare

        settings = EngineSettings(
            weights, width, height, DETECT, arguments.fit, arguments.band_centre, int8=output
        )
        print(f"\n{compare(settings, judges)}")


def _float_layers(names: list[str], steps: list[Operation]) -> tuple[str, ...] | None:
    """Return the convolutions given by their own name or their layer's; None for "auto"."""
    if names == ["auto"]:
        return None
    if names == ["none"]:
        return ()
    convolutions = [step for step in steps if step.kind == "conv"]
    known = {step.layer for step in convolutions} | {step.name for step in convolutions}
    for name in names:
        if name not in known:
            layers = ", ".join(dict.fromkeys(step.layer for step in convolutions))
            raise ConfigError(
                f"--keep-float: unknown layer {name!r}, expected auto, none, or some of {layers}"
                " or their convolutions, such as fire2_squeeze1x1"
            )
    return tuple(step.name for step in convolutions if {step.name, step.layer} & set(names))


def _quantise(
    arguments: argparse.Namespace,
    model: onnx.ModelProto,
    profile: Profile,
    size: tuple[int, int],
    keep: tuple[str, ...] | None,
    pictures: list[Path],
) -> onnx.ModelProto:
    """Calibrate, choose and print the layers that stay in float, and return the model."""
    from squeezedrive.engines.quantisation.calibrate import (
        METHOD,
        correct_output,
        measure_limits,
    )
    from squeezedrive.engines.quantisation.graph import quantise
    from squeezedrive.engines.quantisation.pictures import read_pixels, spread
    from squeezedrive.engines.quantisation.sensitivity import (
        NoiseMeter,
        choose_float_layers,
        decibels,
    )

    chosen = spread(pictures, arguments.images)
    folders = [root.parent if root.is_file() else root for root in arguments.data]
    names = [f"{folder.resolve().name} {arguments.split}" for folder in folders]
    shape = f"{size[0]}x{size[1]}"
    print(
        f"{profile.name}: calibrating with {len(chosen)} pictures of {', '.join(names)}, {shape},"
        f" fit {arguments.fit}"
    )
    head = profile.head(*size)
    with counting(len(chosen)) as progress:
        pixels = read_pixels(chosen, profile, size, arguments.fit, arguments.band_centre)
        limits = measure_limits(model, pixels, head, progress)
    checked = spread(chosen, CHECKED)
    pixels = read_pixels(checked, profile, size, arguments.fit, arguments.band_centre)
    meter = NoiseMeter(model, limits, list(pixels), head)
    if keep is None:
        with counting(len(meter.layers), "layers") as progress:
            keep = choose_float_layers(meter, progress)
    ratio = decibels(meter.noise(keep))
    print(
        f"{len(meter.layers) - len(keep)} convolutions in int8, in float"
        f" {', '.join(keep) or 'none'}; signal to noise of the output {ratio:.1f} dB"
    )
    with counting(len(chosen)) as progress:
        pixels = read_pixels(chosen, profile, size, arguments.fit, arguments.band_centre)
        result = correct_output(quantise(model, limits, keep), model, pixels, head, progress)
    how = {
        "weights": "7 bits, symmetric, per output channel",
        "activations": "int8, symmetric, per tensor",
        "calibration": f"{METHOD}, mean error of the output corrected",
        "images": len(chosen),
        "data": names,
        "fit": arguments.fit,
        "float": list(keep),
        "signal_to_noise_db": round(ratio, 2),
    }
    result.metadata_props.add(key="quantisation", value=json.dumps(how))
    return result
