"""Runs inputs one after the other in a process, which an input may kill; `campaign` starts it.

It reports in lines of JSON on its standard output: `{"begin": 12}` before an input and
`{"end": 12, "ended": "refused", "found": [[kind, detail], ...]}` after it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.case import Case, read_case
from tests.fuzz.observe import Observer
from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.targets.base import defaults_read_once

CHUNK = 100  # inputs made together; a chunk can be made again without those before it


def cases_of(name: str, target: Target, number: int, first: int) -> Iterator[Case]:
    """Yield the inputs of a target from the one numbered `first` on; `number` is the seed.

    The inputs are the same in every run and on every machine with the same versions of Hypothesis
    and of the libraries that make seeds.
    """
    strategy = target.cases()
    chunk, skipped = divmod(first, CHUNK)
    while True:
        made = _made(strategy, zlib.crc32(f"{number} {name} {chunk}".encode()))
        yield from islice(made, skipped, None)
        chunk, skipped = chunk + 1, 0


def _made(strategy: st.SearchStrategy[Case], number: int) -> list[Case]:
    made: list[Case] = []

    # Inputs are only made here and run later, because Hypothesis changes the recursion limit.
    @seed(number)
    @settings(
        max_examples=CHUNK,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(case: Case) -> None:
        made.append(case)

    keep()
    return made[:CHUNK]


def work(name: str, number: int, first: int, count: int, folder: Path, report: TextIO) -> None:
    """Run `count` inputs of a target in a folder, from number `first` on."""
    target = TARGETS[name]
    place = folder / "case"
    place.mkdir(parents=True, exist_ok=True)
    with defaults_read_once(), target.around():
        observer = Observer(place, target.connects)
        os.chdir(folder)
        cases = islice(cases_of(name, target, number, first), count)
        for position, case in enumerate(cases, first):
            case.write(place)
            os.chdir(place)
            _say(report, begin=position)
            found, ended = observer.run(lambda: target.run(case))  # noqa: B023 (called here)
            os.chdir(folder)
            if found:  # copied, because the next input replaces it
                shutil.copytree(place, folder / str(position), dirs_exist_ok=True)
            _say(report, end=position, ended=ended, found=[[v.kind, v.detail] for v in found])


def replay(name: str, folder: Path, report: TextIO) -> None:
    """Run a kept input in its own folder."""
    target = TARGETS[name]
    case = read_case(folder)
    case.write(folder)
    with defaults_read_once(), target.around():
        observer = Observer(folder, target.connects)
        os.chdir(folder)
        _say(report, begin=0)
        found, ended = observer.run(lambda: target.run(case))
        _say(report, end=0, ended=ended, found=[[v.kind, v.detail] for v in found])


def _say(report: TextIO, **values: object) -> None:
    report.write(json.dumps(values) + "\n")
    report.flush()


def main() -> None:
    """Run the inputs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    arguments = parser.parse_args()
    report = os.fdopen(os.dup(1), "w")
    faulthandler.enable(os.dup(2))
    sys.argv[0] = "run_pipeline.py"  # the program's name in its messages
    folder = arguments.folder.resolve()
    if arguments.count is None:
        replay(arguments.target, folder, report)
    else:
        work(arguments.target, arguments.seed, arguments.first, arguments.count, folder, report)
    report.flush()
    os._exit(0)  # skips Python's own end, in which threads of libraries may crash


if __name__ == "__main__":
    sys.exit(main())
