"""Where results go: video, JSON lines, KITTI files, a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.outputs import Outputs
from pipeline.sinks.base import Sink
from pipeline.sources.base import Source


def open_sinks(
    outputs: Outputs,
    video: Path | None,
    source: Source,
    class_names: Sequence[str],
    config: Config,
    header: Mapping[str, Any],
) -> list[Sink]:
    """Return the sinks of one source; none of them writes before the first frame.

    Parameters
    ----------
    outputs : Outputs
        What the user asked for.
    video : Path or None
        Where the annotated video goes, if one is written.
    source : Source
        What they are fed with.
    class_names : sequence of str
        Names in the order of the class indices.
    config : Config
        How to write.
    header : mapping
        What heads the JSON lines.
    """
    # Each sink brings a library that only runs with it need.
    sinks: list[Sink] = []
    if outputs.jsonl is not None:
        from pipeline.sinks.jsonl import JsonlSink

        sinks.append(JsonlSink(outputs.jsonl, header, class_names))
    if outputs.kitti is not None:
        from pipeline.sinks.kitti import KittiSink

        sinks.append(KittiSink(outputs.kitti, class_names, getattr(source, "stem", None)))
    if video is not None:
        from pipeline.sinks.video import VideoSink

        options = config.video
        sinks.append(VideoSink(video, source, options.preset, options.crf, options.threads))
    return sinks
