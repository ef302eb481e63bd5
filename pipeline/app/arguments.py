"""Arguments that several commands share: lists of them in files, settings, the log."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.engines.backends.select import CHOICES

if TYPE_CHECKING:
    from squeezedrive.engines.settings import Setting

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


class Parser(argparse.ArgumentParser):
    """A parser for which the lists of files that people write are lists of arguments."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Return what a line of an @FILE stands for."""
        line = arg_line.removeprefix("\ufeff")  # editors of some systems begin files with it
        return [] if not line.strip() or line.startswith("#") else [line]

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Read the command line; exits with code 2 and a hint if it is wrong."""
        try:
            return self.parse_args(argv)
        except UnicodeDecodeError as error:
            self.error(f"expected @FILE to be a text in {error.encoding}: {error.reason}")


def add_messages(parser: argparse.ArgumentParser, level: str) -> argparse._ArgumentGroup:
    """Add the options on what is reported, messages of `level` and above by default."""
    messages = parser.add_argument_group("messages")
    messages.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True,
        help="report progress while running",
    )  # fmt: skip
    messages.add_argument(
        "--log-level", default=level, choices=["debug", "info", "warning", "error"],
        help=f"least severity of messages shown (default: {level})",
    )  # fmt: skip
    return messages


def add_settings(
    settings: argparse._ArgumentGroup, shortcuts: Mapping[str, tuple[str, str, str]], event: str
) -> None:
    """Add the options that change the configuration: `shortcuts` are some or all of `SHORTCUTS`.

    `event` is the help of --event, which says what is done with events.
    """
    settings.add_argument(
        "-c", "--config", type=Path, metavar="FILE.yaml",
        help="changes to configs/file.yaml; where there is no such file, one of the package: live,"
        " configs/live.yaml or profile",
    )  # fmt: skip
    settings.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="set any configuration key, for example --set video.crf=18; repeatable",
    )  # fmt: skip
    settings.add_argument("--event", action="append", default=[], metavar="CONDITION", help=event)
    settings.add_argument(
        "--track", action="store_true", help="follow objects: numbers that last, steady boxes"
    )
    short = {"threshold": "-t", "frames": "-n"}
    for name, (_, metavar, text) in shortcuts.items():
        flags = [short[name]] if name in short else []
        settings.add_argument(*flags, f"--{name}", metavar=metavar, help=text)


def read_settings(arguments: argparse.Namespace) -> list[Setting]:
    """List what these options set as (how it was written, configuration key, value)."""
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
    if arguments.track:
        settings.append(("--track", "track.enabled", True))
    return settings


class _LineFormatter(logging.Formatter):
    """Puts a message into one line; a traceback follows in its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        from squeezedrive.engines.program import printable

        return printable(super().formatMessage(record))


def log_to_stderr(level: str) -> None:
    """Show messages from a severity on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("{levelname}: {message}", style="{"))
    names = ((logging.INFO, "info"), (logging.WARNING, "warning"), (logging.ERROR, "error"))
    for number, name in names:
        logging.addLevelName(number, name)
    log = logging.getLogger("squeezedrive")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())
