"""Profiles with every combination of some settings and shows what they change."""

from __future__ import annotations

import itertools
import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.errors import ConfigError, UserError
from pipeline.config import Config, load_config, parse_setting
from pipeline.errors import SinkError
from pipeline.execute import execute
from pipeline.outputs import Outputs
from pipeline.profiling.profiler import prepare_folder

log = logging.getLogger("squeezedrive")

SCHEMA = "squeezedrive.sweep"
VERSION = 1
ROUNDS = 3
_BUSY_OTHERS = 0.05  # from this share of the cores on, other programs are worth a word
Setting = tuple[str, str, Any]  # as `pipeline.config.load_config` takes them


@dataclass
class Cell:
    """One combination of settings.

    Attributes
    ----------
    label : str
        As shown to the user.
    settings : dict of str to value
        By configuration key.
    folder : Path
        Where the profile of its last run lies.
    runs : list of dict
        Figures of each run.
    failure : UserError or None
        What keeps it from running on this machine.
    """

    label: str
    settings: dict[str, Any]
    config: Config
    folder: Path
    runs: list[dict[str, float]] = field(default_factory=list)
    failure: UserError | None = None


def sweep(
    source: str,
    path: Path | None,
    settings: Sequence[Setting],
    grid: Sequence[str],
    outputs: Outputs,
) -> int:
    """Run every combination three times, print a table, write sweep.json; return the exit code.

    All combinations run once before any runs again, so that a machine that becomes slower or
    faster does so for all of them. One that cannot run on this machine is told and left out.

    Parameters
    ----------
    source : str
        As for `Session`.
    path : Path or None
        The user's configuration file.
    settings : sequence of (origin, key, value)
        What the command line changes besides.
    grid : sequence of str
        "key=a,b,c", as given to --sweep.
    outputs : Outputs
        Its `profile` is the folder; a sweep writes nothing else.

    Raises
    ------
    UserError
        If something the user gave cannot be used, or no combination can run.
    """
    if outputs.profile is None:
        raise ConfigError("--sweep: expected --profile DIR, too, where the profiles go")
    if replace(outputs, profile=None, overwrite=False) != Outputs():
        raise ConfigError("--sweep: writes profiles only; leave the other outputs out")
    cells = make_cells(path, settings, grid, outputs.profile)
    prepare_folder(outputs.profile, outputs.overwrite)
    for number, cell in itertools.product(range(1, ROUNDS + 1), cells):
        if cell.failure is not None:
            continue
        run = Outputs(profile=cell.folder, overwrite=True)
        try:
            code = execute([source], cell.config, run, progress=False, report=False)
        except UserError as error:
            cell.failure = error
            log.warning("%s cannot run: %s", cell.label, error)
            continue
        if code:
            return code
        cell.runs.append(_figures(cell.folder))
        fps = cell.runs[-1]["fps"]
        log.info("round %d of %d, %s: %.1f fps", number, ROUNDS, cell.label, fps)
    if not any(cell.runs for cell in cells):
        raise cells[0].failure or ConfigError("--sweep: nothing ran")
    print(render(cells), flush=True)
    result = outputs.profile / "sweep.json"
    try:
        result.write_text(json.dumps(as_data(source, cells), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{result}: cannot write the sweep: {error.strerror}") from None
    return 0


def make_cells(
    path: Path | None, settings: Sequence[Setting], grid: Sequence[str], folder: Path
) -> list[Cell]:
    """Return all combinations of the grid, the last key changing fastest.

    Raises
    ------
    ConfigError
        If a key or value is wrong, or a key comes twice.
    """
    axes: list[list[Setting]] = []
    for text in grid:
        key, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--sweep: expected KEY=A,B,C, got {text!r}")
        if any(key == axis[0][1] for axis in axes):
            raise ConfigError(f"--sweep {text}: {key} is there twice")
        axes.append([parse_setting(f"{key}={value}", "--sweep") for value in values.split(",")])
    cells = []
    for number, chosen in enumerate(itertools.product(*axes), start=1):
        label = " ".join(origin.removeprefix("--sweep ") for origin, _, _ in chosen)
        config = load_config(path, [*settings, *chosen])
        by_key = {key: value for _, key, value in chosen}
        cells.append(Cell(label, by_key, config, folder / str(number)))
    return cells


def render(cells: Sequence[Cell]) -> str:
    """Lay the results out as a table; the spread is that of the runs, lowest to highest."""
    width = max(len("setting"), *(len(cell.label) for cell in cells))
    lines = [
        f"median of {ROUNDS} runs, taken in turn",
        f"{'setting':<{width}}     fps  lowest highest  to first  cpu ms/frame  latency p50, ms",
    ]
    first = next(statistics.median(_column(cell, "fps")) for cell in cells if cell.runs)
    for cell in cells:
        if not cell.runs:
            lines.append(f"{cell.label:<{width}}  cannot run: {cell.failure}")
            continue
        fps = _column(cell, "fps")
        median = statistics.median(fps)
        cpu = statistics.median(_column(cell, "cpu_ms_per_frame"))
        latency = statistics.median(_column(cell, "latency_p50_ms"))
        lines.append(
            f"{cell.label:<{width}} {median:7.1f} {min(fps):7.1f} {max(fps):7.1f}"
            f" {median / first:8.2f}x {cpu:13.1f} {latency:16.0f}"
        )
    lines += ["", _winner(cells)]
    busy = max((max(_column(cell, "others")) for cell in cells if cell.runs), default=0.0)
    if busy > _BUSY_OTHERS:
        lines.append(f"other programs took up to {busy:.0%} of the cores: repeat without them")
    return "\n".join(lines)


def as_data(source: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the results ready for JSON; docs/profiling.md describes them."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "source": source,
        "rounds": ROUNDS,
        "cells": [
            {
                "settings": cell.settings,
                "folder": cell.folder.name,
                "runs": cell.runs,
                "median": {
                    key: statistics.median(_column(cell, key)) for key in (cell.runs or [{}])[0]
                },
                "failure": None if cell.failure is None else str(cell.failure),
            }
            for cell in cells
        ],
    }


def _winner(cells: Sequence[Cell]) -> str:
    ran = sorted(
        (cell for cell in cells if cell.runs), key=lambda c: -statistics.median(_column(c, "fps"))
    )
    best = ran[0]
    lowest = min(_column(best, "fps"))
    rivals = [cell.label for cell in ran[1:] if max(_column(cell, "fps")) >= lowest]
    if not rivals:
        return f"fastest: {best.label}, in every run"
    return f"fastest: {best.label}, but runs overlap with {', '.join(rivals)}"


def _column(cell: Cell, key: str) -> list[float]:
    return [run[key] for run in cell.runs]


def _figures(folder: Path) -> dict[str, float]:
    profile = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    cpu = profile["cpu"]
    shared = cpu["share_with_other_programs"]
    return {
        "fps": profile["fps"]["pipeline"]["mean"],
        "cpu_ms_per_frame": cpu["ms_per_frame"]["mean"],
        "cpu_share": cpu["share"],
        "others": 0.0 if shared is None else max(shared - cpu["share"], 0.0),
        "latency_p50_ms": profile["latency_ms"]["p50"],
        "latency_p99_ms": profile["latency_ms"]["p99"],
    }
