"""The command line: read it, load the configuration, run."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.backends.select import CHOICES
from squeezedrive.pipeline.sinks.registry import sink_specs

if TYPE_CHECKING:
    from squeezedrive.pipeline.app.outputs import Outputs

# Arguments, and a note on them, which goes to the next line if there is no room for it.
EXAMPLES = (
    ("drive.mp4", "writes drive.detected.mp4 beside it"),
    ("drive.mp4 -o out.mp4 --jsonl out.jsonl --threshold 0.5", ""),
    ("drive.mp4 --start 60 --frames 300 --classes pedestrian,cyclist", ""),
    ("images/ --fps 10 --kitti results/ --no-video", ""),
    ("/media/card -o out/ --jsonl out/", "all videos of a card; --resume goes on"),
    ("'2026*/*.MP4' --track-index all", "each camera of files with two"),
    ("0 --config configs/live.yaml --show", "the first camera, in a window"),
    (
        "rtsp://camera/stream -o ride.mp4 -c configs/live.yaml --segment 300 --keep 20 \\\n"
        "      --event 'pedestrian>=1' --preview 8080 --track",
        "left running in a vehicle",
    ),
    ("0 2 -c configs/live.yaml -o ride.mp4", "two cameras: ride.0.mp4, ride.1.mp4"),
    ("drive.mp4 --detect-every 3", "faster: objects are followed between"),
    ("demo:", "the clip that comes with the program"),
    (
        "demo:loop,frames=2000 --config configs/profile.yaml --profile out/profile",
        "what this machine can do, and what limits",
    ),
    ("drive.mp4 -n 300 --profile out/sweep --sweep video.preset=ultrafast,veryfast", ""),
    ("doctor", "what is installed, what works, and what to do"),
)
NOTES_AT = 55  # column
DOCTOR = "doctor"  # in place of a source: the verb of python -m engines

EPILOG = """\
convert RESULT.jsonl --csv OUT.csv writes other files of results that exist: convert --help.

@FILE is replaced by what FILE holds, one argument a line, without empty lines and those that begin
with #: a list of videos, for example, or passwords, which other users can read on a command line.

Several files are read one after the other. Where an output is named by a folder, each has its own
in it: -o out/ --csv out/. What is broken is reported, and the others go on.

exit status: 0 done, 1 a fault in the program or some of several files failed, 2 wrong input, 130
or 143 interrupted (cameras and streams, which have no end of their own: 0)
"""

# Options that set one configuration key each, and the name of their value.
SHORTCUTS = {
    "backend": ("backend", "|".join(CHOICES), "what runs the network"),
    "threshold": ("detect.threshold", "T", "lowest score of a box, 0 to 1"),
    "detect-every": ("track.every", "N", "the network sees one frame in N, --track the others"),
    "top-n": ("detect.top_n", "N", "boxes kept before suppression"),
    "nms-iou": ("detect.nms_iou", "T", "overlap from which a box is suppressed, 0 to 1"),
    "classes": ("detect.classes", "A,B", "only these: car,cyclist,pedestrian"),
    "frames": ("source.frames", "N", "stop after N frames"),
    "start": ("source.start", "SECONDS", "skip the beginning"),
    "track-index": ("source.track_index", "N|all", "which video track, from 0; all: each in turn"),
    "fps": ("source.fps", "F", "frame rate of images and of files without timestamps"),
    "gps": ("source.gps", "auto|FILE|exiftool|none", "where positions are: FILE.gpx, FILE.nmea"),
    "decode": ("source.decode", "auto|nvdec|cpu", "what decodes video files"),
    "fit": ("fit.mode", "band|letterbox|stretch", "how 16:9 is put into the wide network input"),
    "policy": ("queue.policy", "auto|lossless|latest|bounded_age", "when frames come too fast"),
    "segment": ("record.segment", "SECONDS", "go on in a new file so often: ride.000001.TIME.mp4"),
    "keep": ("record.keep", "GB", "delete the oldest segments and clips beyond this size"),
    "preview": ("preview.address", "[HOST:]PORT", "live page with picture, figures and controls"),
}


def program_name() -> str:
    """Return what the user typed to start the program: run_pipeline.py, or squeezedrive."""
    name = Path(sys.argv[0]).name
    return "python -m squeezedrive" if name == "__main__.py" else name


def format_examples(program: str) -> str:
    """Write `EXAMPLES` as they stand in the help."""
    lines = ["examples:"]
    for arguments, note in EXAMPLES:
        lines += f"  {program} {arguments}".splitlines()
        if note and len(lines[-1]) >= NOTES_AT:
            lines.append("")
        if note:
            lines[-1] = f"{lines[-1]:{NOTES_AT}}{note}"
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """A parser for which the lists of files that people write are lists of arguments."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Return what a line of an @FILE stands for."""
        line = arg_line.removeprefix("\ufeff")  # editors of some systems begin files with it
        return [] if not line.strip() or line.startswith("#") else [line]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; exits with code 2 and a hint if it is wrong."""
    parser = _Parser(
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
        " rtsp:// or http:// stream, - for standard input, or demo: for a clip that comes along;"
        " several share one network, and each has outputs of its own: ride.0.mp4, ride.1.mp4",
    )

    outputs = parser.add_argument_group(
        "outputs", "of several files, DIR/ in place of a file's name: there each has its own"
    )
    for spec in sink_specs():
        flags = [spec.short, f"--{spec.option}"] if spec.short else [f"--{spec.option}"]
        if spec.kind == "switch":
            outputs.add_argument(*flags, action="store_true", help=spec.help)
        else:
            outputs.add_argument(*flags, metavar=spec.metavar, help=spec.help)
    outputs.add_argument("--no-video", action="store_true", help="write no annotated video")
    outputs.add_argument("--summary", metavar="FILE.json", help="the figures of the run")
    outputs.add_argument(
        "--profile", type=Path, metavar="DIR",
        help="where the time goes and what limits: report.html, summary.json, trace.json, and"
        " video.mp4 if a video is written and has no other name",
    )  # fmt: skip
    outputs.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=A,B,C",
        help="profile with each value of a configuration key, in turn, three times; repeatable",
    )  # fmt: skip
    outputs.add_argument("-y", "--overwrite", action="store_true", help="replace existing outputs")
    outputs.add_argument(
        "--resume", action="store_true",
        help="leave out files whose outputs are finished, with the same settings and weights, and"
        " replace those that were only begun",
    )  # fmt: skip

    settings = parser.add_argument_group("settings (defaults: configs/file.yaml)")
    settings.add_argument(
        "-c", "--config", type=Path, metavar="FILE.yaml",
        help="changes to configs/file.yaml; where there is no such file, one of the package: live,"
        " configs/live.yaml or profile",
    )  # fmt: skip
    settings.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="set any configuration key, for example --set video.crf=18; repeatable",
    )  # fmt: skip
    settings.add_argument(
        "--event", action="append", default=[], metavar="CONDITION",
        help="keep a clip of moments like 'pedestrian>=1', with the seconds before; repeatable",
    )  # fmt: skip
    settings.add_argument(
        "--track", action="store_true", help="follow objects: numbers that last, steady boxes"
    )
    short = {"threshold": "-t", "frames": "-n"}
    for name, (_, metavar, text) in SHORTCUTS.items():
        flags = [short[name]] if name in short else []
        settings.add_argument(*flags, f"--{name}", metavar=metavar, help=text)

    messages = parser.add_argument_group("messages")
    messages.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True,
        help="report progress while running",
    )  # fmt: skip
    messages.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"],
        help="least severity of messages shown (default: info)",
    )  # fmt: skip
    try:
        arguments = parser.parse_args(argv)
    except UnicodeDecodeError as error:
        parser.error(f"expected @FILE to be a text in {error.encoding}: {error.reason}")
    # Clips of events are called after the video, whether or not it is written.
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


def settings_of(arguments: argparse.Namespace) -> list[tuple[str, str, Any]]:
    """List what the command line sets as (how it was written, configuration key, value)."""
    from squeezedrive.engines.settings import parse_setting
    from squeezedrive.pipeline.config import parse_number

    settings = [parse_setting(text) for text in arguments.set]
    for name, (key, _, _) in SHORTCUTS.items():
        text = getattr(arguments, name.replace("-", "_"))
        if text is not None:
            names = [part.strip() for part in text.split(",") if part.strip()]
            value = names if name == "classes" else parse_number(text)
            settings.append((f"--{name}", key, value))
    if arguments.event:
        settings.append(("--event", "record.events", arguments.event))
    if arguments.track:
        settings.append(("--track", "track.enabled", True))
    asked = asked_sinks(arguments)
    for spec in sink_specs():
        if spec.option in asked:
            settings += [(f"--{spec.option}", key, True) for key in spec.turns_on]
    if arguments.no_video:
        settings.append(("--no-video", "video.write", False))
    return settings


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline and print what it did; return the exit code."""
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


class _LineFormatter(logging.Formatter):
    """Puts a message into one line; a traceback follows in its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        from squeezedrive.engines.program import printable

        return printable(super().formatMessage(record))


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("{levelname}: {message}", style="{"))
    names = ((logging.INFO, "info"), (logging.WARNING, "warning"), (logging.ERROR, "error"))
    for number, name in names:
        logging.addLevelName(number, name)
    log = logging.getLogger("squeezedrive")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["convert"]:
        from squeezedrive.pipeline.app.convert import main as convert

        return convert(argv[1:], program_name())
    if argv == [DOCTOR] and not Path(DOCTOR).exists():
        from squeezedrive.engines.__main__ import main as engines

        return engines([DOCTOR])
    arguments = parse_arguments(argv)
    _log_to_stderr(arguments.log_level)
    from squeezedrive.engines.program import exit_code

    return exit_code(lambda: run(arguments))
