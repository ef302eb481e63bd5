"""The figures of a finished run, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from squeezedrive.engines.files import readable
from squeezedrive.pipeline.app.session import Session
from squeezedrive.pipeline.app.status import by_name
from squeezedrive.pipeline.core.timing import percentiles
from squeezedrive.pipeline.stages.feed import Feed
from squeezedrive.pipeline.stages.pipeline import Pipeline

BUSY = 0.9  # from this share of its time on, a processor or a stage counts as the limit


def summarise(session: Session, cpu_seconds: float, cores: int, ended: str) -> dict[str, Any]:
    """Collect the figures of a finished run, ready for JSON.

    `cpu_seconds` is the processor time of all threads during the run, `cores` how many the process
    may use, and `ended` is "complete" or what stopped the run. Times are in seconds or, where the
    name says so, milliseconds.
    """
    pipeline = session.pipeline
    seconds = max(pipeline.seconds, 1e-9)
    stages = {
        stage.name: {
            "frames": stage.timing.busy.count,
            "busy_s": stage.timing.busy.total,
            "workers": stage.workers,
            "busy_share": stage.timing.busy.total / seconds / stage.workers,
            "wait_in_s": stage.timing.wait_in,
            "wait_out_s": stage.timing.wait_out,
            "thread_cpu_s": stage.timing.cpu,
            "busy_ms": percentiles(stage.timing.busy),
        }
        for stage in pipeline.stages
    }
    return {
        "schema": 1,
        "source": session.name,
        "sources": [
            {
                "name": feed.source.info.name,
                **_counts([feed], session.class_names),
                "latency_ms": percentiles(feed.latency),
            }
            for feed in session.feeds
        ],
        "model": session.network.weights.profile.name,
        "backend": asdict(session.backend.info),
        "ended": ended,
        "seconds": pipeline.seconds,
        **_counts(session.feeds, session.class_names),
        "fps": {
            "pipeline": pipeline.processed / seconds,
            "inference_stage": _inference(pipeline),
        },
        "latency_ms": percentiles(pipeline.latency),
        "stages": stages,
        "queues": {
            name: {"depth": queue.depth, "mean": queue.mean_depth, "deepest": queue.deepest}
            for name, queue in pipeline.queues.items()
        },
        "cpu": {"cores": cores, "seconds": cpu_seconds, "share": cpu_seconds / seconds / cores},
        "limit": _limit(session, cpu_seconds / seconds / cores, cores),
        "outputs": [readable(name) for name in session.files],
        "warnings": [readable(line) for line in session.warnings],
    }


def format_summary(summary: dict[str, Any]) -> str:
    """Lay a summary out as text for a terminal."""
    fps = summary["fps"]
    found = [f"{count:,} {name}" for name, count in summary["detections"].items()]
    backend, latency = summary["backend"], summary["latency_ms"]
    lines = [
        f"frames      {frame_counts(summary['frames'])}",
        f"detections  {', '.join(found)}",
        f"speed       {fps['pipeline']:.1f} fps end to end in {summary['seconds']:.1f} s"
        f" (the inference stage {fps['inference_stage']:.1f} fps, sharing the cores)",
        f"latency     p50 {latency['p50']:.0f}, p95 {latency['p95']:.0f},"
        f" p99 {latency['p99']:.0f} ms from picture to outputs",
        f"model       {summary['model']}, {backend['name']} {backend['precision']},"
        f" {backend['runtime']}",
        "",
        "stage        busy   ms/frame    p50    p95    p99   queue before it (mean of depth)",
    ]
    for name, stage in summary["stages"].items():
        per_frame = stage["busy_s"] / stage["frames"] * 1e3 if stage["frames"] else 0.0
        ms = stage["busy_ms"]
        # Several sources have a queue each before the same stage.
        queues = [queue for key, queue in summary["queues"].items() if key.split()[0] == name]
        means = ", ".join(f"{queue['mean']:.1f}" for queue in queues)
        waiting = f"{means} of {queues[0]['depth']}" if queues else "-"
        lines.append(
            f"{name:<11} {stage['busy_share']:5.0%}  {per_frame:9.1f}"
            f" {ms['p50']:6.1f} {ms['p95']:6.1f} {ms['p99']:6.1f}   {waiting}"
        )
    if len(summary["sources"]) > 1:
        lines += ["", "source                          read  processed   lost   p50    p99 ms"]
        lines += [_source_line(source) for source in summary["sources"]]
    lines += ["", f"limit       {summary['limit']}"]
    lines += [f"wrote       {name}" for name in summary["outputs"]]
    return "\n".join(lines)


def frame_counts(frames: dict[str, Any]) -> str:
    """Return the frame counts of a summary as text."""
    counts = [f"{frames['read']:,} read", f"{frames['processed']:,} processed"]
    if frames["detected"] < frames["processed"]:
        counts[-1] += f" ({frames['detected']:,} by the network, between them by tracking)"
    lost = {**frames["dropped"], **frames["skipped"]}
    counts += [f"{count:,} {reason}" for reason, count in lost.items()]
    return ", ".join(counts)


def _counts(feeds: Sequence[Feed], class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the frame counts and the detections of one or all sources."""
    found: Counter[int] = sum((feed.found for feed in feeds), Counter())
    dropped: Counter[str] = sum((feed.dropped for feed in feeds), Counter())
    skipped: Counter[str] = sum((feed.source.report.skipped for feed in feeds), Counter())
    return {
        "frames": {
            "read": sum(feed.read for feed in feeds),
            "processed": sum(feed.processed for feed in feeds),
            "detected": sum(feed.detected for feed in feeds),
            "dropped": dict(dropped),
            "skipped": dict(skipped),
        },
        "detections": by_name(found, class_names),
    }


def _source_line(source: dict[str, Any]) -> str:
    frames, latency = source["frames"], source["latency_ms"]
    lost = sum(frames["dropped"].values()) + sum(frames["skipped"].values())
    return (
        f"{source['name'][-28:]:<28} {frames['read']:7,} {frames['processed']:10,} {lost:6,}"
        f" {latency['p50']:5.0f} {latency['p99']:6.0f}"
    )


def _inference(pipeline: Pipeline) -> float:
    stage = next(stage for stage in pipeline.stages if stage.name == "inference")
    busy = stage.timing.busy
    return busy.count / busy.total * stage.workers if busy.total else 0.0


def _limit(session: Session, cpu_share: float, cores: int) -> str:
    """Return what limited the speed of the run, as text."""
    seconds = max(session.pipeline.seconds, 1e-9)
    shares = {s.name: s.timing.busy.total / seconds / s.workers for s in session.pipeline.stages}
    busiest = max(shares, key=lambda name: shares[name])
    share = shares[busiest]
    if cpu_share >= BUSY:
        return f"the processor: all {cores} cores are busy, most of all for {busiest}"
    if session.live and share < BUSY:
        return f"the source: the busiest stage, {busiest}, works {share:.0%} of the time"
    return f"{busiest}: busy {share:.0%} of the time, cores {cpu_share:.0%}"
