"""Convert results to other formats: `run_pipeline.py convert RESULT.jsonl --csv OUT.csv`."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.program import ProgramParser, exit_code, printable
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sinks.registry import file_specs, open_sinks

NOTE = """\
Damaged lines are left out and reported. The files are the same as those of the run itself, except
that sizes in MOT files may differ by 0.01 pixels, and that pictures are numbered, as results do not
hold their names.
To process a video file called convert, write ./convert.
"""


def main(argv: list[str], program: str) -> int:
    """Write the files; return the exit code: 0, 2 for wrong input, 130 if interrupted."""
    specs = [spec for spec in file_specs() if spec.kind != "switch"]
    parser = ProgramParser(
        prog=f"{program} convert",
        description="Converts results to other formats.",
        epilog=NOTE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "result", type=Path, metavar="RESULT.jsonl", help="file that --jsonl has written"
    )
    for spec in specs:
        parser.add_argument(
            f"--{spec.option}", dest=spec.option, type=Path, metavar=spec.metavar, help=spec.help
        )
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace existing outputs")
    arguments = parser.parse_args(argv)
    values = vars(arguments)
    asked = {spec.option: values[spec.option] for spec in specs if values[spec.option]}
    return exit_code(lambda: convert(arguments.result, asked, arguments.overwrite))


def convert(result: Path, asked: dict[str, Path], overwrite: bool = False) -> int:
    """Convert a file of JSON lines to outputs, paths by option; return the exit code, 0.

    Raises
    ------
    UserError
        If no output is asked for, the file cannot be read or has no frame, an output exists or
        cannot be written, or an output needs tracked objects and the file has none.
    """
    from squeezedrive.pipeline.app.outputs import Outputs, plan_outputs
    from squeezedrive.pipeline.app.results import ResultFile
    from squeezedrive.pipeline.config import load_config

    if not asked:
        options = ", ".join(f"--{spec.option}" for spec in file_specs())
        raise ConfigError(f"expected an output, one or more of {options}")
    source = ResultFile(result)
    for spec in file_specs():
        if spec.option in asked and "track.enabled" in spec.turns_on and not source.followed:
            raise SinkError(
                f"--{spec.option}: expected tracked objects, {result} has none: it was written"
                " without --track"
            )
    config = load_config(None, [("convert", "video.write", False)])
    (paths,) = plan_outputs(Outputs(asked, overwrite=overwrite), [source.info], config)
    sinks = open_sinks(paths, source, source.class_names, config, lambda: source.header)
    frames = 0
    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        for one in source.results:
            for sink in sinks:
                sink.write(one)
            frames += 1
    for line in source.report.warnings:
        print(printable(f"warning: {line}"), file=sys.stderr)
    names = ", ".join(str(path) for path in asked.values())
    where = sys.stderr if STDOUT in asked.values() else sys.stdout
    print(f"wrote {names}: {frames} frames", file=where)
    return 0
