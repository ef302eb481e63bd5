"""Compare profiles: `python -m pipeline.profiling compare A/summary.json B/summary.json`."""

from __future__ import annotations

from pathlib import Path

from squeezedrive.engines.program import (
    ProgramParser,
    exit_code,
    printable_lines,
    run_program,
)
from squeezedrive.pipeline.profiling.compare import format_comparison, read_profile


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; return the exit code: 0, or 2 for wrong input."""
    parser = ProgramParser(
        prog="python -m pipeline.profiling",
        description="Work on what `run_pipeline.py SOURCE --profile DIR` has written.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    compare = verbs.add_parser("compare", help="report what changed beyond noise")
    compare.add_argument(
        "before", type=Path, metavar="A", help="a folder of --profile, or its summary.json"
    )
    compare.add_argument("after", type=Path, metavar="B", help="another one")
    arguments = parser.parse_args(argv)

    def run() -> int:
        before, after = read_profile(arguments.before), read_profile(arguments.after)
        print(printable_lines(format_comparison(before, after)))
        return 0

    return exit_code(run)


if __name__ == "__main__":
    run_program(main)
