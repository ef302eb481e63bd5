"""Arguments that several commands share: argument files, settings, messages."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.select import CHOICES
from squeezedrive.engines.program import ProgramParser

if TYPE_CHECKING:
    from squeezedrive.engines.settings import Setting

# Options that set one configuration key each, and the name of their value.
SHORTCUTS = {
    "backend": ("backend", "|".join(CHOICES), "back end that runs the network"),
    "threshold": ("detect.threshold", "T", "lowest score of a box, 0 to 1"),
    "detect-every": ("track.every", "N", "run the network on one frame in N, track the others"),
    "top-n": ("detect.top_n", "N", "boxes kept before suppression"),
    "nms-iou": ("detect.nms_iou", "T", "overlap from which a box is suppressed, 0 to 1"),
    "classes": ("detect.classes", "A,B", "keep only these: car,cyclist,pedestrian"),
    "frames": ("source.frames", "N", "stop after N frames"),
    "start": ("source.start", "SECONDS", "skip this much of the beginning"),
    "track-index": ("source.track_index", "N|all", "video track, from 0; all: each in turn"),
    "fps": ("source.fps", "F", "frame rate of images and of files without timestamps"),
    "gps": ("source.gps", "auto|FILE|exiftool|none", "source of positions: FILE.gpx, FILE.nmea"),
    "decode": ("source.decode", "auto|nvdec|cpu", "decoder of video files"),
    "fit": ("fit.mode", "band|letterbox|stretch", "how 16:9 is fitted into the wide network input"),
    "policy": ("queue.policy", "auto|lossless|latest|bounded_age", "used if frames come too fast"),
    "segment": ("record.segment", "SECONDS", "start a new file this often: ride.000001.TIME.mp4"),
    "keep": ("record.keep", "GB", "delete the oldest segments and clips beyond this size"),
    "preview": ("preview.address", "[HOST:]PORT", "serve a page: picture, figures and controls"),
}


class Parser(ProgramParser):
    """A parser that takes an @FILE with one argument a line, as people write lists of files."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Return the argument in a line of an @FILE; none for an empty line or a comment."""
        line = arg_line.removeprefix("\ufeff")  # editors of some systems begin files with it
        return [] if not line.strip() or line.startswith("#") else [line]

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse the command line; a wrong one ends the program with exit code 2 and a hint."""
        try:
            return self.parse_args(argv)
        except UnicodeDecodeError as error:
            self.error(f"expected @FILE to be a text in {error.encoding}: {error.reason}")


def add_messages(parser: argparse.ArgumentParser, level: str) -> argparse._ArgumentGroup:
    """Add the options for messages; those of `level` and above are shown by default."""
    messages = parser.add_argument_group("messages")
    messages.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True,
        help="report progress while running",
    )  # fmt: skip
    messages.add_argument(
        "--log-level", default=level, choices=["debug", "info", "warning", "error"],
        help=f"lowest severity of the messages shown (default: {level})",
    )  # fmt: skip
    return messages


def add_settings(
    settings: argparse._ArgumentGroup,
    shortcuts: Mapping[str, tuple[str, str, str]],
    event: str,
    tracked: str = "in video files",
) -> None:
    """Add the options that change the configuration: `shortcuts` are some or all of `SHORTCUTS`.

    `event` is the help text of --event, `tracked` where objects are tracked by default.
    """
    settings.add_argument(
        "-c", "--config", type=Path, metavar="FILE.yaml",
        help="changes to configs/file.yaml; if there is no such file, one of the package is used:"
        " live, configs/live.yaml or profile",
    )  # fmt: skip
    settings.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="set any configuration key, for example --set video.crf=18; repeatable",
    )  # fmt: skip
    settings.add_argument("--event", action="append", default=[], metavar="CONDITION", help=event)
    settings.add_argument(
        "--track", action=argparse.BooleanOptionalAction,
        help=f"track objects: lasting numbers, steady boxes (default: {tracked})",
    )  # fmt: skip
    short = {"threshold": "-t", "frames": "-n"}
    for name, (_, metavar, text) in shortcuts.items():
        flags = [short[name]] if name in short else []
        settings.add_argument(*flags, f"--{name}", metavar=metavar, help=text)


def read_settings(arguments: argparse.Namespace) -> list[Setting]:
    """Return what these options set, as (how it was written, configuration key, value)."""
    from squeezedrive.engines.settings import parse_setting
    from squeezedrive.pipeline.config import parse_number

    settings = [parse_setting(text) for text in arguments.set]
    for name, (key, _, _) in SHORTCUTS.items():
        text = vars(arguments).get(name.replace("-", "_"))
        if text is not None:
            names = [part.strip() for part in text.split(",") if part.strip()]
            value = names if name == "classes" else parse_number(text)
            settings.append((f"--{name}", key, value))
    if arguments.event:
        settings.append(("--event", "record.events", arguments.event))
    if arguments.track is not None:
        written = "--track" if arguments.track else "--no-track"
        settings.append((written, "track.enabled", arguments.track))
    return settings


class _LineFormatter(logging.Formatter):
    """Formats a message as one line; a traceback follows in its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        from squeezedrive.engines.program import printable

        return printable(super().formatMessage(record))


def log_to_stderr(level: str) -> None:
    """Log messages of the severity `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("{levelname}: {message}", style="{"))
    names = ((logging.INFO, "info"), (logging.WARNING, "warning"), (logging.ERROR, "error"))
    for number, name in names:
        logging.addLevelName(number, name)
    log = logging.getLogger("squeezedrive")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())
