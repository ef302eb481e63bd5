"""The table of layers that `python -m engines describe` prints."""

from __future__ import annotations

from itertools import groupby

from squeezedrive.engines.model.network import NETWORKS, Fire, Operation
from squeezedrive.engines.model.profile import Profile


def describe(profile: Profile, width: int, height: int) -> str:
    """Format a network's layers as text, for an input of this size in pixels.

    Each line shows a layer: what it does, output channels and grid (width x height), parameters,
    and GFLOP for one image. A multiply-accumulate counts as two operations.

    Raises
    ------
    NetworkError
        If the network cannot read an input of this size.
    """
    steps = profile.operations(width, height)
    layers = NETWORKS[profile.network].layers
    fires = {layer.name: layer for layer in layers if isinstance(layer, Fire)}
    rows = [("layer", "kind", "channels", "grid", "parameters", "GFLOP")]
    for name, group in groupby(steps, key=lambda step: step.layer):
        members = list(group)
        last = members[-1]
        rows.append(
            (
                name,
                _kind(last, fires.get(name)),
                str(last.out_channels),
                f"{last.out_size[0]}x{last.out_size[1]}",
                f"{sum(step.parameters for step in members):,}" if last.kind != "pool" else "-",
                f"{_gflop(members):.2f}" if last.kind != "pool" else "-",
            )
        )
    parameters = sum(step.parameters for step in steps)
    rows.append(("total", "", "", "", f"{parameters:,}", f"{_gflop(steps):.2f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        "  ".join(
            cell.ljust(size) if i < 2 else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    anchors = last.out_size[0] * last.out_size[1] * len(profile.anchors.shapes)
    pixels = profile.input
    mean = ", ".join(f"{value:g}" for value in pixels.mean)
    scale = f" times {pixels.scale:g}" if pixels.scale != 1 else ""
    return "\n".join(
        [
            f"{profile.network}, weights {profile.name}: input {width}x{height}"
            f" {pixels.channels} minus ({mean}){scale}",
            *table,
            f"weights in fp32: {parameters * 4 / 2**20:.2f} MiB, in fp16:"
            f" {parameters * 2 / 2**20:.2f} MiB",
            f"{anchors:,} anchors of {len(profile.anchors.shapes)} shapes;"
            f" classes {', '.join(profile.output.classes)}; output {profile.output.layout};"
            f" padding {profile.padding}; centres {profile.anchors.centres}",
            f"licence of the weights: {profile.licence}",
        ]
    )


def _kind(step: Operation, fire: Fire | None) -> str:
    if fire is not None:
        return f"fire, squeeze {fire.squeeze}, expand {fire.expand1x1} + {fire.expand3x3}"
    stride = f", stride {step.stride}" if step.stride > 1 else ""
    name = "max" if step.kind == "pool" else "convolution"
    return f"{name} {step.kernel}x{step.kernel}{stride}{', ReLU' if step.relu else ''}"


def _gflop(steps: list[Operation]) -> float:
    return 2 * sum(step.macs for step in steps) / 1e9
