"""The annotated video: a whole file, or segments and clips of events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config


def _check(path: Path) -> None:
    if path.suffix.lower() != ".mp4":
        raise SinkError(f"{path}: expected a name that ends in .mp4, the video is H.264 in MP4")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SinkError(f"{path}: expected a regular file, an MP4 is rewound while it is written")


def _wanted(config: Config) -> bool:
    return config.video.write or bool(config.record.events)


def _in_series(config: Config) -> bool:
    return config.record.segment is not None or not config.video.write  # clips alone


def _open(context: SinkContext) -> Sink:
    from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink

    video, split = context.config.video, context.split
    if split is not None and not video.write:
        split = replace(split, segments=None)
    whole = None if _in_series(context.config) else context.path
    return RecordingSink(context.source, video, whole, split)


SPEC = SinkSpec(
    option="output",
    short="-o",
    metavar="OUT.mp4",
    help="annotated video (default: NAME.detected.mp4 beside the source)",
    open=_open,
    turns_on=("video.write",),
    check=_check,
    in_series=_in_series,
    ending=".detected.mp4",
    wanted=_wanted,
)
