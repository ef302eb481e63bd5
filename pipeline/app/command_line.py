"""The command line: read it, load the configuration, run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.pipeline.app.arguments import (
    SHORTCUTS,
    Parser,
    add_messages,
    add_settings,
    log_to_stderr,
    read_settings,
)
from squeezedrive.pipeline.sinks.registry import sink_specs

if TYPE_CHECKING:
    from squeezedrive.engines.settings import Setting
    from squeezedrive.pipeline.app.outputs import Outputs

# Arguments and a note, which moves to the next line if there is no room for it.
EXAMPLES = (
    ("drive.mp4", "writes drive.detected.mp4 beside it"),
    ("drive.mp4 -o out.mp4 --jsonl out.jsonl --threshold 0.5", ""),
    ("drive.mp4 --start 60 --frames 300 --classes pedestrian,cyclist", ""),
    ("images/ --fps 10 --kitti results/ --no-video", ""),
    ("/media/card -o out/ --jsonl out/", "all videos of a card; --resume continues"),
    ("'2026*/*.MP4' --track-index all", "both cameras of files with two tracks"),
    ("0 --config configs/live.yaml --show", "the first camera, in a window"),
    (
        "rtsp://camera/stream -o ride.mp4 -c configs/live.yaml --segment 300 --keep 20 \\\n"
        "      --event 'pedestrian>=1' --preview 8080 --track",
        "left running in a vehicle",
    ),
    ("0 2 -c configs/live.yaml -o ride.mp4", "two cameras: ride.0.mp4, ride.1.mp4"),
    ("drive.mp4 --detect-every 3", "faster: tracking fills the gaps"),
    ("demo:", "the clip that comes with the program"),
    (
        "demo:loop,frames=2000 --config configs/profile.yaml --profile out/profile",
        "how fast this machine is, and what limits it",
    ),
    ("drive.mp4 -n 300 --profile out/sweep --sweep video.preset=ultrafast,veryfast", ""),
    ("doctor", "checks the installation, and advises"),
)
NOTES_AT = 55  # column
DOCTOR = "doctor"  # in place of a source: the verb of python -m engines

EPILOG = """\
convert RESULT.jsonl --csv OUT.csv converts results to other formats: convert --help.
fleet SOURCE... --out URL makes tables of thousands of recordings, on many machines: fleet --help.

@FILE is replaced by the arguments in FILE, one a line; empty lines and lines that begin with # are
skipped. Use it for a list of videos, or for passwords, which others can read on a command line.

Several files are processed one after the other. If an output is a folder, each file gets its own
in it: -o out/ --csv out/. A broken file is reported, and the others go on.

exit status: 0 done, 1 a fault in the program or some of several files failed, 2 wrong input, 130
or 143 interrupted (cameras and streams, which have no end of their own: 0)
"""


def program_name() -> str:
    """Return what the user typed to start the program: run_pipeline.py, or squeezedrive."""
    name = Path(sys.argv[0]).name
    return "python -m squeezedrive" if name == "__main__.py" else name


def format_examples(program: str) -> str:
    """Return `EXAMPLES` as text for the help."""
    lines = ["examples:"]
    for arguments, note in EXAMPLES:
        lines += f"  {program} {arguments}".splitlines()
        if note and len(lines[-1]) >= NOTES_AT:
            lines.append("")
        if note:
            lines[-1] = f"{lines[-1]:{NOTES_AT}}{note}"
    return "\n".join(lines)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong one ends the program with exit code 2 and a hint."""
    parser = Parser(
        prog=program_name(),
        description="Finds cars, cyclists and pedestrians in road video and marks them.",
        epilog=f"{format_examples(program_name())}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        fromfile_prefix_chars="@",
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="video file, folder or 'pattern*' of videos or images, camera (0, /dev/video0),"
        " rtsp:// or http:// stream, - for standard input, or demo: for the program's own clip;"
        " several share one network, and each has outputs of its own: ride.0.mp4, ride.1.mp4",
    )

    outputs = parser.add_argument_group(
        "outputs", "with several files, give DIR/ instead of a file: each gets its own in it"
    )
    for spec in sink_specs():
        flags = [spec.short, f"--{spec.option}"] if spec.short else [f"--{spec.option}"]
        if spec.kind == "switch":
            outputs.add_argument(*flags, action="store_true", help=spec.help)
        else:
            outputs.add_argument(*flags, metavar=spec.metavar, help=spec.help)
    outputs.add_argument("--no-video", action="store_true", help="write no annotated video")
    outputs.add_argument("--summary", metavar="FILE.json", help="write the figures of the run")
    outputs.add_argument(
        "--profile", type=Path, metavar="DIR",
        help="report where the time goes and what limits the speed: report.html, summary.json,"
        " trace.json, and video.mp4 if a video is written and has no other name",
    )  # fmt: skip
    outputs.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=A,B,C",
        help="profile each value of a configuration key three times; repeatable",
    )  # fmt: skip
    outputs.add_argument("-y", "--overwrite", action="store_true", help="replace existing outputs")
    outputs.add_argument(
        "--resume", action="store_true",
        help="skip files whose outputs are finished with the same settings and weights; replace"
        " outputs that were only begun",
    )  # fmt: skip

    settings = parser.add_argument_group("settings (defaults: configs/file.yaml)")
    add_settings(
        settings, SHORTCUTS,
        "record a clip when a condition like 'pedestrian>=1' holds; repeatable",
    )  # fmt: skip

    add_messages(parser, "info")
    arguments = parser.read(argv)
    # Clips of events are named after the video, even if no video is written.
    if arguments.no_video and arguments.output is not None and not arguments.event:
        parser.error("--output and --no-video contradict each other")
    return arguments


def asked_sinks(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the sinks the command line asks for: path by option, an empty one for a switch."""
    asked = {}
    for spec in sink_specs():
        value = vars(arguments)[spec.option.replace("-", "_")]
        if value:
            asked[spec.option] = "" if spec.kind == "switch" else value
    return asked


def asked_outputs(arguments: argparse.Namespace) -> Outputs:
    """Return the outputs the command line asks for."""
    from squeezedrive.pipeline.app.outputs import Outputs

    sinks, summary = asked_sinks(arguments), arguments.summary
    named = sinks if summary is None else {**sinks, "summary": summary}
    return Outputs(
        {option: Path(path) for option, path in sinks.items()},
        None if summary is None else Path(summary),
        arguments.profile,
        arguments.overwrite,
        frozenset(option for option, path in named.items() if path.endswith("/")),
    )


def settings_of(arguments: argparse.Namespace) -> list[Setting]:
    """Return the settings that the command line makes."""
    settings = read_settings(arguments)
    asked = asked_sinks(arguments)
    for spec in sink_specs():
        if spec.option in asked:
            settings += [(f"--{spec.option}", key, True) for key in spec.turns_on]
    if arguments.no_video:
        settings.append(("--no-video", "video.write", False))
    return settings


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline and print the summary; return the exit code."""
    from squeezedrive.engines.errors import ConfigError
    from squeezedrive.pipeline.app.run import run_sources
    from squeezedrive.pipeline.app.tasks import find_files
    from squeezedrive.pipeline.config import load_config

    outputs = asked_outputs(arguments)
    settings = settings_of(arguments)
    if arguments.sweep:
        from squeezedrive.pipeline.profiling.sweep import sweep

        if len(arguments.sources) > 1:
            raise ConfigError("--sweep: expected one source, got several")
        return sweep(arguments.sources[0], arguments.config, settings, arguments.sweep, outputs)
    config = load_config(arguments.config, settings)
    collection = find_files(arguments.sources, config, outputs, arguments.resume)
    if collection is not None:
        from squeezedrive.pipeline.app.files import run_files

        return run_files(collection, config, outputs, arguments.resume, arguments.progress)
    return run_sources(arguments.sources, config, outputs, progress=arguments.progress)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["convert"]:
        from squeezedrive.pipeline.app.convert import main as convert

        return convert(argv[1:], program_name())
    if argv[:1] == ["fleet"]:
        from squeezedrive.pipeline.fleet.command import main as fleet

        return fleet(argv[1:], program_name())
    if argv == [DOCTOR] and not Path(DOCTOR).exists():
        from squeezedrive.engines.__main__ import main as engines

        return engines([DOCTOR])
    arguments = parse_arguments(argv)
    log_to_stderr(arguments.log_level)
    from squeezedrive.engines.program import exit_code

    return exit_code(lambda: run(arguments))
