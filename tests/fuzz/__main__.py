"""`python -m tests.fuzz`: see `tests.fuzz`."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from squeezedrive.engines.signals import on_signals
from tests.fuzz import __doc__ as about
from tests.fuzz.campaign import PATIENCE, Outcome, replay, run_target, write_input
from tests.fuzz.targets import TARGETS

SLICE = 1000  # inputs of a target before the next target's turn


def shares(names: list[str], inputs: int) -> dict[str, int]:
    """Return how many of the inputs each target gets."""
    total = sum(TARGETS[name].share for name in names)
    return {name: max(1, round(inputs * TARGETS[name].share / total)) for name in names}


def campaign(
    names: list[str], inputs: int, seed: int, jobs: int, keep: Path, patience: float
) -> dict[str, Outcome]:
    """Run the inputs in slices, so an interrupted campaign has tried all targets.

    The first signal ends it after the current inputs, the second one at once.
    """
    stop = threading.Event()
    wanted = shares(names, inputs)
    rounds = max((count - 1) // SLICE + 1 for count in wanted.values())
    slices = [
        (name, first, min(SLICE, wanted[name] - first))
        for first in range(0, rounds * SLICE, SLICE)
        for name in names
        if first < wanted[name]
    ]
    totals = {name: Outcome() for name in names}
    lock = threading.Lock()
    start = time.monotonic()

    def run(one: tuple[str, int, int]) -> None:
        name, first, count = one
        outcome = run_target(name, seed, count, keep, first, patience=patience, stop=stop)
        with lock:
            total = totals[name]
            _add(total, outcome, name)
            done = sum(one.inputs for one in totals.values())
            print(
                f"{time.monotonic() - start:6.0f} s {done:7} {name:8} {total.inputs:6} of"
                f" {wanted[name]}, {dict(total.ended)}",
                flush=True,
            )

    with on_signals(lambda _: stop.set(), once=True), ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(run, slices):
            pass
    return totals


def _add(total: Outcome, outcome: Outcome, name: str) -> None:
    for kind, numbers in outcome.found.items():
        if kind not in total.found:
            places = ", ".join(map(str, outcome.kept.get(kind, [])))
            print(f"  {name} {numbers[0]}: {kind} ({places})", flush=True)
        total.found.setdefault(kind, []).extend(numbers)
    total.inputs += outcome.inputs
    total.ended += outcome.ended
    total.seconds += outcome.seconds


def _print_table(totals: dict[str, Outcome]) -> int:
    """Print the results of all targets; return how many inputs went wrong."""
    print(f"\n{'target':9} {'inputs':>7} {'done':>7} {'refused':>8} {'wrong':>6} {'ms':>6}")
    wrong = 0
    for name, total in totals.items():
        numbers = {number for found in total.found.values() for number in found}
        wrong += len(numbers)
        print(
            f"{name:9} {total.inputs:7} {total.ended['done']:7} {total.ended['refused']:8}"
            f" {len(numbers):6} {1000 * total.seconds / max(total.inputs, 1):6.0f}"
        )
    print(f"{'all':9} {sum(total.inputs for total in totals.values()):7}{'':17}{wrong:7}\n")
    for name, total in totals.items():
        for kind, numbers in total.found.items():
            print(f"{name}: {kind}: {len(numbers)} times, the first is input {numbers[0]}")
    return wrong


def main(argv: list[str] | None = None) -> int:
    """Run a campaign, or one input; return 1 if something went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    add("--inputs", type=int, default=10_000, metavar="N", help="inputs in all (default: 10,000)")
    add("--seed", type=int, default=0, metavar="N", help="the same N makes the same inputs")
    add("--jobs", type=int, default=2, metavar="N", help="processes at once (default: 2)")
    add(
        "--keep", type=Path, default=Path("out/fuzz"), metavar="DIR",
        help="folder for inputs that went wrong (default: out/fuzz)",
    )  # fmt: skip
    add(
        "--patience", type=float, default=PATIENCE, metavar="SECONDS",
        help="limit for one input; give more on a busy machine (default: 10)",
    )  # fmt: skip
    add("--only", type=int, metavar="NUMBER", help="run this input of one target; print the result")
    add("--replay", type=Path, metavar="DIR", help="run a kept input of one target")
    arguments = parser.parse_args(argv)
    names = arguments.targets or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"expected one of {', '.join(TARGETS)}, got {name!r}")
    if arguments.only is not None or arguments.replay is not None:
        if len(arguments.targets) != 1:
            parser.error("--only and --replay: expected one TARGET")
        place = arguments.replay
        if arguments.only is not None:
            place = arguments.keep / names[0] / str(arguments.only)
            write_input(names[0], arguments.seed, arguments.only, place)
            print(f"wrote {place}")
        found, ended = replay(names[0], place, arguments.patience)
        for kind, detail in found:
            print(f"{kind}\n{detail}")
        print(ended)
        return 1 if found else 0
    totals = campaign(
        names, arguments.inputs, arguments.seed, arguments.jobs, arguments.keep, arguments.patience
    )
    return 1 if _print_table(totals) else 0


if __name__ == "__main__":
    sys.exit(main())
