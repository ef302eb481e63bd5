"""Where results go: video, segments and clips, JSON lines, KITTI and MOT files, a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.outputs import STDOUT, Outputs
from squeezedrive.pipeline.config import Config, RecordConfig
from squeezedrive.pipeline.core.sink import Sink
from squeezedrive.pipeline.core.source import Source

# Each sink brings a library that only runs with it need, so they are imported where they are made.


def check_events(record: RecordConfig, class_names: Sequence[str]) -> None:
    """Refuse a recording that cannot be, before anything is opened.

    Raises
    ------
    ConfigError
        If an event cannot be read, or there is nothing that `record.keep` could delete.
    """
    if record.events:
        from squeezedrive.pipeline.sinks.recordings.events import parse_condition

        for text in record.events:
            parse_condition(text, class_names)
    elif record.keep is not None and record.segment is None:
        raise ConfigError(
            "record.keep: deletes segments and clips, and there are none; give --segment SECONDS"
        )


def open_sinks(
    outputs: Outputs,
    name: Path,
    source: Source,
    class_names: Sequence[str],
    config: Config,
    header: Callable[[], Mapping[str, Any]],
    share: float = 1.0,
) -> list[Sink]:
    """Return the sinks of one source; none of them writes before the first frame.

    Parameters
    ----------
    outputs : Outputs
        What the user asked for.
    name : Path
        What the annotated video is called, or would be if one were written.
    source : Source
        What they are fed with.
    class_names : sequence of str
        Names in the order of the class indices.
    config : Config
        How to write.
    header : callable
        Returns what heads the JSON lines.
    share : float
        Part of `record.keep` that this source may take.

    Raises
    ------
    ConfigError
        If segments are asked for and nothing is written that could be split.
    """
    record = config.record
    sinks: list[Sink] = []
    if record.segment is not None or record.events:
        sinks += _recording(outputs, name, source, class_names, config, header, share)
    elif config.video.write:
        from squeezedrive.pipeline.sinks.recordings.encoder import EncoderOptions
        from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink

        video = config.video
        options = EncoderOptions(video.preset, video.crf, video.threads)
        sinks.append(RecordingSink(source, options, whole=name))
    if outputs.jsonl is not None and (record.segment is None or outputs.jsonl == STDOUT):
        from squeezedrive.pipeline.sinks.files.jsonl import JsonlSink

        sinks.insert(0, JsonlSink(outputs.jsonl, header, class_names))
    if outputs.kitti is not None:
        from squeezedrive.pipeline.sinks.files.kitti import KittiSink

        sinks.append(KittiSink(outputs.kitti, class_names, source.stem))
    if outputs.mot is not None:
        from squeezedrive.pipeline.sinks.files.mot import MotSink

        sinks.append(MotSink(outputs.mot, class_names))
    return sinks


def _recording(
    outputs: Outputs,
    name: Path,
    source: Source,
    class_names: Sequence[str],
    config: Config,
    header: Callable[[], Mapping[str, Any]],
    share: float,
) -> list[Sink]:
    """Return what writes segments and clips, of which `record.keep` deletes the oldest."""
    from squeezedrive.pipeline.sinks.recordings.archive import Archive
    from squeezedrive.pipeline.sinks.recordings.encoder import EncoderOptions
    from squeezedrive.pipeline.sinks.recordings.events import EventDetector
    from squeezedrive.pipeline.sinks.recordings.parts import Split
    from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
    from squeezedrive.pipeline.sinks.recordings.segments import SegmentedJsonlSink, Segments

    record, video = config.record, config.video
    jsonl = None if outputs.jsonl == STDOUT else outputs.jsonl
    archive = Archive(name, jsonl, None if record.keep is None else record.keep * share)
    segments = None if record.segment is None else Segments(archive, record.segment)
    events = None
    if record.events:
        events = EventDetector(record.events, class_names, record.before, record.after)
    sinks: list[Sink] = []
    if segments is not None and jsonl is not None:
        sinks.append(SegmentedJsonlSink(archive, segments, header, class_names))
    if video.write or events is not None:
        recording = RecordingSink(
            source,
            EncoderOptions(video.preset, video.crf, video.threads),
            whole=name if video.write and segments is None else None,
            split=Split(archive, segments if video.write else None, events),
        )
        sinks.append(recording)
    if not sinks:
        raise ConfigError(
            "record.segment: splits video and JSONL, and neither is written; give --jsonl OUT.jsonl"
            " or leave out --no-video"
        )
    return sinks
