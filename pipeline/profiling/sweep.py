"""Profile every combination of some settings and show what they change."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from squeezedrive.engines.errors import ConfigError, UserError
from squeezedrive.engines.files import check_free
from squeezedrive.engines.settings import Setting
from squeezedrive.engines.signals import on_signals
from squeezedrive.engines.yaml_text import load_yaml
from squeezedrive.pipeline.app.outputs import PROFILE_FILES, PROFILE_VIDEO, Outputs
from squeezedrive.pipeline.app.run import RunOutcome, run_session
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import Config, load_config
from squeezedrive.pipeline.core.errors import SinkError, SourceError
from squeezedrive.pipeline.profiling.profiler import SWEEP_FILE, profile_folder
from squeezedrive.pipeline.sources.pipe import is_pipe

log = logging.getLogger("squeezedrive")

SCHEMA = "squeezedrive.sweep"
VERSION = 1
ROUNDS = 3
_MARGIN = 0.02  # runs of the same program differ by so much
_NO_AXIS = ("preview.token",)  # secrets: a sweep shows and writes every value
_BUSY_OTHERS = 0.05  # from this share of the cores on, other programs are reported


@dataclass
class Cell:
    """One combination of settings."""

    label: str  # as shown to the user
    settings: dict[str, Any]  # by configuration key
    config: Config
    folder: Path  # where the profile of its last run lies
    runs: list[dict[str, float]] = field(default_factory=list)  # figures of each
    failure: UserError | None = None  # why it cannot run, or run again, on this machine

    def column(self, key: str) -> list[float]:
        """Return one figure of all runs."""
        return [run[key] for run in self.runs]

    def median(self, key: str) -> float:
        """Return the median of one figure."""
        return statistics.median(self.column(key))


def sweep(
    source: str,
    path: Path | None,
    settings: Sequence[Setting],
    grid: Sequence[str],
    outputs: Outputs,
) -> int:
    """Run every combination three times, print a table, write sweep.json; return the exit code.

    All combinations run once before any runs again, every other time in reverse order, so that a
    machine that becomes slower or faster does so for all of them. A combination that cannot run on
    this machine is reported and left out. sweep.json is written after each run, and a signal ends
    the sweep with the table so far.

    `path` and `settings` are those of `load_config`, `grid` has the values of --sweep: "key=a,b,c".
    The folder is `outputs.profile`; a sweep writes nothing else.

    Raises
    ------
    UserError
        If something the user gave cannot be used, or no combination can run.
    """
    if outputs.profile is None:
        raise ConfigError("--sweep: expected --profile DIR as well, the folder of the profiles")
    if replace(outputs, profile=None, overwrite=False) != Outputs():
        raise ConfigError("--sweep: writes profiles only; leave the other outputs out")
    if is_pipe(source):
        raise ConfigError("--sweep: reads its source several times, and a pipe can be read once")
    cells = make_cells(path, settings, grid, outputs.profile)
    with profile_folder(outputs.profile, outputs.overwrite):
        for cell in cells:
            for name in (*PROFILE_FILES, PROFILE_VIDEO):
                check_free(cell.folder / name, outputs.overwrite, SinkError)
        try:
            with on_signals(_interrupt):
                signal_number = _run_all(source, cells, outputs.profile / SWEEP_FILE)
        except KeyboardInterrupt as interrupt:  # between two runs, or while one was being prepared
            (signal_number,) = interrupt.args
    if any(cell.runs for cell in cells):
        print(format_sweep(cells), flush=True)
    elif not signal_number:
        raise cells[0].failure or ConfigError("--sweep: nothing ran")
    if signal_number:
        log.warning("the sweep was ended by %s", signal.Signals(signal_number).name)
        return 128 + signal_number
    return 0


def _run_all(source: str, cells: Sequence[Cell], result: Path) -> int:
    """Run all cells `ROUNDS` times, write the results after each run; return the signal, or 0."""
    for number in range(1, ROUNDS + 1):
        for cell in cells if number % 2 else reversed(cells):
            if cell.failure is not None:
                continue
            try:
                finished = _run(source, cell)
            except UserError as error:
                if isinstance(error, SourceError) and not any(one.runs for one in cells):
                    raise  # it would not open for the others either
                cell.failure = error
                log.warning("%s cannot run: %s", cell.label, error)
                continue
            if finished.signals:
                return finished.signals[0]
            assert finished.profile is not None
            cell.runs.append(_figures(finished.profile))
            fps = cell.runs[-1]["fps"]
            log.info("round %d of %d, %s: %.1f fps", number, ROUNDS, cell.label, fps)
            _write(result, sweep_data(finished.profile["source"], cells))
    return 0


def _interrupt(number: int) -> None:
    """Interrupt the work between two runs; runs collect signals by themselves."""
    raise KeyboardInterrupt(number)


def _write(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=1, default=str) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path}: cannot write the sweep: {error.strerror}") from None


def _run(source: str, cell: Cell) -> RunOutcome:
    outputs = Outputs(profile=cell.folder, overwrite=True)
    with (
        profile_folder(cell.folder, overwrite=True),
        open_session([source], cell.config, outputs) as session,
    ):
        finished = run_session(session, cell.folder, progress=False)
    if finished.failure is not None:
        raise finished.failure
    return finished


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
            raise ConfigError(f"--sweep {text}: {key} is given twice")
        if key in _NO_AXIS:
            raise ConfigError(f"--sweep: {key} is a secret, and a sweep shows its values")
        axes.append(_axis(key, values))
    cells = []
    for number, chosen in enumerate(itertools.product(*axes), start=1):
        label = " ".join(origin.removeprefix("--sweep ") for origin, _, _ in chosen)
        config = load_config(path, [*settings, *chosen])
        by_key = {key: value for _, key, value in chosen}
        cells.append(Cell(label, by_key, config, folder / str(number)))
    return cells


def _axis(key: str, text: str) -> list[Setting]:
    """Return a setting for each value; the values are written like the items of a YAML list."""
    try:
        values = load_yaml(f"[{text}]", key)
    except yaml.YAMLError:
        raise ConfigError(f"--sweep {key}={text}: the values are not valid YAML") from None
    if not isinstance(values, list) or not values or text.rstrip().endswith(","):
        raise ConfigError(f"--sweep {key}={text}: expected values with commas between them")
    names = [
        value if isinstance(value, str) else json.dumps(value, default=str) for value in values
    ]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--sweep {key}={text}: {name} is given twice")
    return [(f"--sweep {key}={n}", key, value) for n, value in zip(names, values, strict=True)]


def format_sweep(cells: Sequence[Cell]) -> str:
    """Lay the results out as a table, with the lowest and the highest of the runs."""
    width = max(len("setting"), *(len(cell.label) for cell in cells))
    lines = [
        f"median of {ROUNDS} runs, taken in turn",
        f"{'setting':<{width}}     fps  lowest highest  to first  cpu ms/frame  latency p50, ms",
    ]
    first = next(cell.median("fps") for cell in cells if cell.runs)
    for cell in cells:
        if not cell.runs:
            reason = "not run yet" if cell.failure is None else f"cannot run: {cell.failure}"
            lines.append(f"{cell.label:<{width}}  {reason}")
            continue
        fps, median = cell.column("fps"), cell.median("fps")
        lines.append(
            f"{cell.label:<{width}} {median:7.1f} {min(fps):7.1f} {max(fps):7.1f}"
            f" {median / first:8.2f}x {cell.median('cpu_ms_per_frame'):13.1f}"
            f" {cell.median('latency_p50_ms'):16.0f}"
        )
        if len(cell.runs) < ROUNDS:
            reason = "" if cell.failure is None else f"; then it could not run: {cell.failure}"
            lines[-1] += f"  ({len(cell.runs)} of {ROUNDS} runs{reason})"
    if sum(len(cell.runs) > 0 for cell in cells) > 1:
        lines += ["", _winner(cells)]
    busy = max((max(cell.column("others")) for cell in cells if cell.runs), default=0.0)
    if busy > _BUSY_OTHERS:
        lines.append(f"other programs took up to {busy:.0%} of the cores: repeat without them")
    return "\n".join(lines)


def sweep_data(source: str, cells: Sequence[Cell]) -> dict[str, Any]:
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
                "median": {key: cell.median(key) for key in (cell.runs or [{}])[0]},
                "failure": None if cell.failure is None else str(cell.failure),
            }
            for cell in cells
        ],
    }


def _winner(cells: Sequence[Cell]) -> str:
    ran = sorted((cell for cell in cells if cell.runs), key=lambda cell: -cell.median("fps"))
    best = ran[0]
    lowest = min(best.column("fps"))
    rivals = [cell.label for cell in ran[1:] if max(cell.column("fps")) * (1 + _MARGIN) >= lowest]
    if not rivals:
        return f"fastest: {best.label}, in every run by more than {_MARGIN:.0%}"
    return f"fastest: {best.label}, but by less than {_MARGIN:.0%} in some run: {', '.join(rivals)}"


def _figures(profile: Mapping[str, Any]) -> dict[str, float]:
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
