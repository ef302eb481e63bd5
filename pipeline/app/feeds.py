"""Build the feeds of a run: each source with its queue, its sinks and its tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Any

from squeezedrive.engines.backends.base import Backend
from squeezedrive.pipeline.app.network import NetworkDescription
from squeezedrive.pipeline.canvas import OverlayCanvas
from squeezedrive.pipeline.config import Config
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.drawing import Painter
from squeezedrive.pipeline.sinks.registry import open_sinks
from squeezedrive.pipeline.stages.feed import Draw, Feed
from squeezedrive.pipeline.tracking.tracker import Tracker

# The caller's own sinks: the same for every source, or a function that returns those of a source.
OwnSinks = Sequence[Sink] | Callable[[Source], Sequence[Sink]]


def build_feeds(
    sources: Sequence[Source],
    places: Sequence[Mapping[str, Path]],
    shown: Sequence[Sequence[Sink]],
    own: OwnSinks,
    draw: Draw | None,
    settings: Config,
    network: NetworkDescription,
    backend: Backend,
) -> list[Feed]:
    """Return one feed a source; none of the sinks writes before the first frame.

    The outputs of a source have the names in `places`, from `plan_outputs`. The sinks in `shown`
    come first, then those that write, then the caller's `own`. `draw` replaces `Painter`.

    Raises
    ------
    ConfigError
        As `open_sinks`.
    """
    changed = Condition()  # one for all: the network waits for every feed
    feeds = []
    for source, paths, first in zip(sources, places, shown, strict=True):
        config = settings.model_copy(update={"track": settings.track.of(source.info.kind)})
        header = partial(run_header, source, config, network, backend)
        written = open_sinks(
            paths, source, network.class_names, config, header, share=1 / len(sources)
        )
        sinks = [*first, *written, *(own(source) if callable(own) else own)]
        painted = draw
        if draw is None and any(sink.draws for sink in sinks):
            aspect = float(source.info.pixel_aspect)
            painter = Painter(network.class_names, config.draw.status, aspect)
            into_yuv = all(sink.takes_yuv for sink in sinks if sink.draws)
            painted = partial(_paint, painter, into_yuv)
        tracker = None
        if config.track.enabled and network.controls is not None:
            tracker = Tracker(network.controls)
        feeds.append(
            Feed(
                source,
                config.queue.new_queue(source.info, changed),
                sinks,
                painted,
                config.source.frames,
                tracker,
                config.track.every,
            )
        )
    return feeds


def _paint(painter: Painter, into_yuv: bool, result: FrameResult, status: str) -> None:
    frame = result.frame
    on_device = frame.on_device
    if into_yuv and on_device is not None:
        canvas = OverlayCanvas(on_device)
        painter.draw_on(canvas, result.detections, status, result.ids)
        frame.fetch(canvas.overlay)
        return
    yuv = frame.yuv if into_yuv else None
    picture = frame.image if yuv is None else yuv
    painter.draw(picture, result.detections, status, result.ids)


def run_header(
    source: Source, config: Config, network: NetworkDescription, backend: Backend
) -> dict[str, Any]:
    """Return the header of a source's results: model, configuration, source."""
    info, size = source.info, network.config.input
    return {
        "model": {
            "name": network.weights.profile.name,
            "classes": list(network.class_names),
            "input": [size.width, size.height],
            "backend": backend.info.name,
            "precision": backend.info.precision,
        },
        "config": config.model_dump(mode="json"),
        "source": {
            "name": info.name,
            "kind": info.kind,
            "width": info.width,
            "height": info.height,
            "fps": None if info.fps is None else float(info.fps),
            "origin": float(info.origin * info.time_base),
            "gps": info.gps or None,
        },
    }
