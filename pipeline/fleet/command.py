"""The command `run_pipeline.py fleet SOURCES... --out URL`."""

from __future__ import annotations

import argparse
from importlib import import_module

from squeezedrive.engines.errors import ConfigError, PackageMissing
from squeezedrive.engines.program import exit_code, printable
from squeezedrive.pipeline.app.arguments import (
    SHORTCUTS,
    Parser,
    add_messages,
    add_settings,
    log_to_stderr,
    read_settings,
)
from squeezedrive.pipeline.config import SourceConfig, load_config

# Of cameras and of recordings in parts, which a fleet does not have.
NOT_HERE = {"policy", "segment", "keep", "preview"}
TRACK_INDEX = ("source.track_index", "N", "which video track, from 0")  # a row stands for one
NOTE = """\
Tables: OUT/detections, OUT/events and OUT/files, in Parquet, a part of each for every recording;
docs/fleet.md says what is in them. A run that is started again goes on where it was: what is done
with the same file, weights and settings is left out.

exit status: 0 done, 1 some recordings failed, 2 wrong input, 130 or 143 interrupted
A video file called fleet is ./fleet.
"""


def main(argv: list[str], program: str) -> int:
    """Run a fleet; return its exit code."""
    arguments = _parse(argv, program)
    log_to_stderr(arguments.log_level)
    return exit_code(lambda: _run(arguments))


def _parse(argv: list[str], program: str) -> argparse.Namespace:
    parser = Parser(
        prog=f"{program} fleet",
        description="Detects in thousands of recordings: one a task, on all processors, GPUs and"
        " machines that Ray has.",
        epilog=NOTE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        fromfile_prefix_chars="@",
    )
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="+",
        help="video file, folder or 'pattern*', also in s3://, gs:// and az://; a table, .csv or"
        " .parquet, with a column 'source'; @LIST.txt, one a line",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, metavar="URL", help="folder or bucket for the tables"
    )
    parser.add_argument("--video", action="store_true", help="write annotated videos: OUT/videos")
    parser.add_argument(
        "--split", type=_duration, metavar="LENGTH",
        help="divide recordings that are longer at key frames, 10m for ten minutes: workers share"
        " them, and each part has rows of its own; with --track, numbers of objects begin anew in"
        " each part",
    )  # fmt: skip
    workers = parser.add_argument_group("workers")
    workers.add_argument("--local", action="store_true", help="one process, without Ray")
    workers.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster (default: RAY_ADDRESS, or start one)",
    )
    workers.add_argument(
        "--cores", type=_count, metavar="N",
        help="cores of each worker (default: 4, or as many as the smallest machine has)",
    )  # fmt: skip
    workers.add_argument(
        "--workers", type=_count, metavar="N",
        help="how many (default: one a GPU, or one in so many cores)",
    )  # fmt: skip
    workers.add_argument(
        "--scratch", type=_gigabytes, default=_gigabytes("20"), metavar="GB",
        help="local disk that recordings from a store may take, for each worker (default: 20)",
    )  # fmt: skip
    settings = parser.add_argument_group("settings (defaults: configs/file.yaml)")
    shortcuts = {name: one for name, one in SHORTCUTS.items() if name not in NOT_HERE}
    add_settings(
        settings, shortcuts | {"track-index": TRACK_INDEX},
        "list moments like 'pedestrian>=1' in the table of events; repeatable", "no",
    )  # fmt: skip
    messages = add_messages(parser, "warning")
    messages.add_argument(
        "--metrics", type=_port, metavar="PORT", help="counters for Prometheus, on this machine"
    )
    return parser.read(argv)


def _count(text: str) -> int:
    return _whole(text, 10**6)


def _port(text: str) -> int:
    return _whole(text, 65535)


def _whole(text: str, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 to {most}, got {printable(text)}"
        )
    return value


def _duration(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e9:
        raise argparse.ArgumentTypeError(
            f"expected a length of at least a second, such as 10m, 1h or 90s, got {printable(text)}"
        )
    return value


def _gigabytes(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(
            f"expected a number of gigabytes above 0, got {printable(text)}"
        )
    return round(value * 1e9)


def _need(package: str) -> None:
    """Refuse to run without a package of the extra.

    Raises
    ------
    PackageMissing
        If it cannot be imported.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise PackageMissing(
            f"fleet: needs {package}: pip install 'squeezedrive[fleet]', or in a checkout"
            f" pip install -e '.[fleet]' ({error})"
        ) from None


def _check_split(split: float | None, video: bool, source: SourceConfig) -> None:
    """Refuse what only a whole recording has.

    Raises
    ------
    ConfigError
        If --split is used with it.
    """
    for name, is_set in (
        ("--video", video),
        ("source.start", source.start > 0),
        ("source.frames", source.frames is not None),
    ):
        if is_set and split is not None:
            raise ConfigError(f"--split: expected no {name}, which is for whole recordings")


def _run(arguments: argparse.Namespace) -> int:
    for package in ("pyarrow",) if arguments.local else ("pyarrow", "ray"):
        _need(package)
    from squeezedrive.pipeline.fleet.pool import LocalPool, Pool
    from squeezedrive.pipeline.fleet.run import run_fleet
    from squeezedrive.pipeline.fleet.sources import list_sources
    from squeezedrive.pipeline.fleet.worker import WorkerOptions

    config = load_config(arguments.config, read_settings(arguments))
    track = config.track
    if track.enabled == "auto":  # parts of a recording are to have the boxes of the whole
        track = track.model_copy(update={"enabled": track.every > 1})
        config = config.model_copy(update={"track": track})
    _check_split(arguments.split, arguments.video, config.source)
    listed = list_sources(arguments.sources)
    options = WorkerOptions(
        config, arguments.out, arguments.video, arguments.scratch, split=arguments.split
    )

    def open_pool() -> Pool:
        if arguments.local:
            return LocalPool(options)
        from squeezedrive.pipeline.fleet.ray_pool import RayPool

        return RayPool(options, arguments.address, arguments.cores, arguments.workers)

    return run_fleet(listed, options, open_pool, arguments.progress, arguments.metrics)
