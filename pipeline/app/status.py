"""The state of a run while it goes on, for the live page."""

from __future__ import annotations

import time
from collections import Counter

from squeezedrive.pipeline.core.timing import percentiles
from squeezedrive.pipeline.preview.status import SourceStatus, State, Status
from squeezedrive.pipeline.stages.feed import Feed
from squeezedrive.pipeline.stages.pipeline import Pipeline


def status_of(pipeline: Pipeline, class_names: tuple[str, ...], model: str, backend: str) -> Status:
    """Return the state of a run; may be called from any thread at any time."""
    now = time.monotonic()
    sources = [
        _source(pipeline, feed, number, class_names, now)
        for number, feed in enumerate(pipeline.feeds)
    ]
    return Status(uptime_s=now - pipeline.began_at, model=model, backend=backend, sources=sources)


def _source(
    pipeline: Pipeline, feed: Feed, number: int, class_names: tuple[str, ...], now: float
) -> SourceStatus:
    state, since, reconnects = _state(pipeline, feed)
    return SourceStatus(
        id=number,
        name=feed.source.info.name,
        state=state,
        since_s=now - since,
        fps=feed.rate.at(now),
        read=feed.read,
        processed=feed.processed,
        dropped=dict(feed.dropped + Counter(feed.source.report.skipped)),
        latency_ms=percentiles(feed.latency),
        age_ms=None if feed.newest is None else (now - feed.newest) * 1e3,
        now=by_name(feed.now, class_names),
        total=by_name(feed.found, class_names),
        reconnects=reconnects,
    )


def _state(pipeline: Pipeline, feed: Feed) -> tuple[State, float, int]:
    """Return the state of a source, since when, and how often it was reconnected."""
    live = feed.source.state
    reconnects = 0 if live is None else live.reconnects
    if feed.broken:
        return "given up", feed.read_at, reconnects
    if live is not None and (feed.wanted or live.condition == "given up"):
        return live.condition, live.since, reconnects
    if feed.read and not pipeline.capturing(feed):
        return "ended", feed.read_at, reconnects
    return ("connected" if feed.read else "connecting"), pipeline.began_at, reconnects


def by_name(found: Counter[int], class_names: tuple[str, ...]) -> dict[str, int]:
    """Return the number of detections by class name, also where it is 0."""
    return {name: found[index] for index, name in enumerate(class_names)}
