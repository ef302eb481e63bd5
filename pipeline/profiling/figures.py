"""The figures of a profiled run, as data (see docs/profiling.md) and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from squeezedrive.pipeline.app.session import Session
from squeezedrive.pipeline.app.summary import frame_counts
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.core.timing import percentiles
from squeezedrive.pipeline.profiling.advice import advise, explain
from squeezedrive.pipeline.profiling.recorder import Recorder
from squeezedrive.pipeline.profiling.series import Estimate
from squeezedrive.pipeline.profiling.threads import ThreadUse, stage_of
from squeezedrive.pipeline.profiling.verdict import Load, StageLoad, judge

SCHEMA = "squeezedrive.profile"
VERSION = 1
COVERS = {
    "inference": "the network alone, nothing else running",
    "detection": "preprocess, network and postprocess, nothing else running",
    "pipeline": "everything from the source to the outputs",
}
_PERCENTS = (50, 90, 99)
_FRAMES_OF_A_RATE = 8  # frames, at least, on average in each point of the throughput over time
_RING: tuple[StageName, ...] = ("preprocess", "inference", "postprocess")
_COPIED = ("source", "model", "backend", "ended", "frames", "outputs", "warnings")


def collect_figures(
    session: Session, recorder: Recorder, alone: Mapping[str, float], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect the figures of a finished run, ready for JSON; see docs/profiling.md.

    `alone` is from `pipeline.profiling.alone.measure_alone`, empty if nothing was measured, and
    `run` from `pipeline.app.summary.summarise`.
    """
    seconds, frames = max(recorder.seconds, 1e-9), max(recorder.frames, 1)
    cores, info, config = run["cpu"]["cores"], session.source.info, session.config
    uses = recorder.threads.uses()
    loads = _loads(session, recorder, uses)
    device = sum(durations.total for durations in recorder.device.values())
    verdict = judge(
        Load(
            seconds=recorder.seconds,
            frames=recorder.frames,
            cores=cores,
            cpu=recorder.cpu,
            stages=tuple(loads),
            ring=_RING,
            slots=config.queue.slots,
            cores_busy=recorder.threads.busy,
            live=info.live,
            source_fps=_pace(session, run),
            device=device,
        )
    )
    throughput = {
        "pipeline": _estimate(recorder.finished.rate(recorder.seconds), 1.0),
        **{name: {"mean": rate, "error": None} for name, rate in alone.items()},
    }
    return {
        "schema": SCHEMA,
        "version": VERSION,
        **{key: run[key] for key in _COPIED},
        "config": config.model_dump(mode="json"),
        "warmup": {"frames": recorder.warmup_frames, "seconds": recorder.warmup_seconds},
        "measured": {"frames": recorder.frames, "seconds": recorder.seconds},
        "drained": {"frames": recorder.drained_frames},
        "fps": {
            name: {**throughput[name], "covers": COVERS[name]}
            for name in COVERS
            if name in throughput
        },
        "latency_ms": {
            **_estimate(recorder.late.mean(recorder.seconds), 1e3),
            **percentiles(recorder.latency, _PERCENTS),
        },
        "cpu": {
            "cores": cores,
            "share": recorder.cpu / seconds / cores,
            "share_with_other_programs": recorder.threads.busy,
            "ms_per_frame": _estimate(recorder.finished.mean(recorder.seconds), 1e3),
        },
        "stages": {load.name: _stage(recorder, load, seconds) for load in loads},
        "threads": [_thread(use, recorder.threads.seconds, seconds / frames) for use in uses],
        "queues": {
            name: {
                "depth": session.pipeline.queues[name].depth,
                "mean": gauge.average(seconds),
                "full_share": gauge.held.get(session.pipeline.queues[name].depth, 0.0) / seconds,
                "empty_share": gauge.held.get(0, 0.0) / seconds,
            }
            for name, gauge in recorder.queues.items()
        },
        "device_ms": {
            step: {"mean": d.total / d.count * 1e3, **percentiles(d, _PERCENTS)}
            for step, d in recorder.device.items()
        },
        "verdict": {
            "limit": verdict.limit,
            "stage": verdict.stage,
            "ceiling_fps": verdict.ceiling,
            "next": verdict.next,
            "text": explain(verdict, cores),
            "try": [
                asdict(advice)
                for advice in advise(verdict, config, info.kind, session.backend.info, cores)
            ],
        },
        "series": _series(recorder, seconds),
        "latency_histogram_ms": [[at * 1e3, n] for at, n in recorder.latency.histogram()],
    }


def format_profile(figures: Mapping[str, Any]) -> str:
    """Lay the figures out as text for a terminal."""
    measured, warmup, cpu = figures["measured"], figures["warmup"], figures["cpu"]
    latency, backend, drained = figures["latency_ms"], figures["backend"], figures["drained"]
    lines = [
        f"frames      {frame_counts(figures['frames'])}",
        f"measured    {measured['frames']:,} frames in {measured['seconds']:.1f} s; left out:"
        f" {warmup['frames']:,} frames, {warmup['seconds']:.1f} s, of warm-up, and"
        f" {drained['frames']:,} after the end of the source",
        f"model       {figures['model']}, {backend['name']} {backend['precision']},"
        f" {backend['runtime']}",
    ]
    for name, rate in figures["fps"].items():
        spread = "" if rate["error"] is None else f" ± {rate['error']:.1f}"
        lines.append(f"{name:<11} {rate['mean']:6.1f}{spread} fps: {rate['covers']}")
    shared = cpu["share_with_other_programs"]
    lines += [
        f"latency     p50 {latency['p50']:.0f}, p90 {latency['p90']:.0f}, p99"
        f" {latency['p99']:.0f} ms from picture to outputs",
        f"processor   {cpu['ms_per_frame']['mean']:.1f} ms a frame, {cpu['share']:.0%} of"
        f" {cores(cpu['cores'])}"
        + ("" if shared is None else f"; all programs together {shared:.0%}"),
        "",
        "stage         busy  for input  for room      ms    p50    p90    p99   cpu ms  libraries",
    ]
    for name, stage in figures["stages"].items():
        busy = stage["busy_ms"]
        lines.append(
            f"{name:<12} {stage['busy_share']:5.0%} {stage['wait_in_share']:10.0%}"
            f" {stage['wait_out_share']:9.0%} {busy['mean']:7.1f} {busy['p50']:6.1f}"
            f" {busy['p90']:6.1f} {busy['p99']:6.1f} {stage['thread_cpu_ms']:8.1f}"
            f" {stage['library_cpu_ms']:10.1f}"
        )
    for step, times in figures["device_ms"].items():
        lines.append(f"accelerator: {step} {times['mean']:.2f} ms, p99 {times['p99']:.2f}")
    lines += ["", figures["verdict"]["text"]]
    for advice in figures["verdict"]["try"]:
        sweep = f": --sweep {advice['sweep']}" if advice["sweep"] else ""
        lines.append(f"  try {advice['text']}{sweep}")
    return "\n".join(lines)


def cores(count: int) -> str:
    """Return "1 core" or "2 cores"."""
    return f"{count} core{'s' * (count != 1)}"


def flat_settings(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run by dotted key."""
    flat = {}
    for group, values in figures["config"].items():
        if isinstance(values, Mapping):
            flat.update({f"{group}.{key}": value for key, value in values.items()})
        else:
            flat[group] = values
    return flat


def _pace(session: Session, run: Mapping[str, Any]) -> float | None:
    """Return the source's frames per second: as it states or, if it is live, as measured."""
    info, frames = session.source.info, run["frames"]
    if info.fps is not None:
        return float(info.fps)
    if not info.live:
        return None
    came = frames["read"] + sum(frames["skipped"].values())
    return came / run["seconds"] if run["seconds"] else None


def _loads(session: Session, recorder: Recorder, uses: list[ThreadUse]) -> list[StageLoad]:
    # Threads were watched for a little less time than frames were counted.
    scale = recorder.seconds / recorder.threads.seconds if recorder.threads.seconds else 0.0
    loads = []
    for worker in session.pipeline.stages:
        timing = recorder.stages[worker.stage].timing
        mine = [use for use in uses if stage_of(use.name) == worker.stage]
        delays = [use.delay for use in mine if use.delay is not None]
        delay_known = scale and mine and len(delays) == len(mine)
        loads.append(
            StageLoad(
                name=worker.stage,
                workers=worker.workers,
                frames=timing.busy.count,
                busy=timing.busy.total,
                cpu=timing.cpu,
                library_cpu=sum(use.cpu for use in mine if not use.own) * scale,
                delay=sum(delays) * scale if delay_known else None,
            )
        )
    return loads


def _stage(recorder: Recorder, load: StageLoad, seconds: float) -> dict[str, Any]:
    record = recorder.stages[load.name]
    timing, frames = record.timing, max(recorder.frames, 1)
    available = seconds * load.workers
    return {
        "workers": load.workers,
        "frames": load.frames,
        "busy_share": timing.busy.total / available,
        "wait_in_share": timing.wait_in / available,
        "wait_out_share": timing.wait_out / available,
        "busy_ms": {
            **_estimate(record.work.mean(recorder.seconds), 1e3),
            **percentiles(timing.busy, _PERCENTS),
        },
        "thread_cpu_ms": load.cpu / frames * 1e3,
        "library_cpu_ms": load.library_cpu / frames * 1e3,
        "run_queue_ms": None if load.delay is None else load.delay / frames * 1e3,
    }


def _thread(use: ThreadUse, watched: float, seconds_per_frame: float) -> dict[str, Any]:
    share = use.cpu / watched if watched else 0.0
    return {
        "name": use.name,
        "stage": stage_of(use.name),
        "own": use.own,
        "count": use.count,
        "cpu_share": share,
        "cpu_ms_per_frame": share * seconds_per_frame * 1e3,
    }


def _series(recorder: Recorder, seconds: float) -> dict[str, Any]:
    """Return throughput and queues over time. They ended together, so they share the buckets."""
    width = recorder.finished.width
    used = recorder.finished.used(recorder.seconds)
    counts = recorder.finished.counts
    # A rate of two or three frames is too uncertain.
    group = max(math.ceil(_FRAMES_OF_A_RATE / width / max(recorder.frames / seconds, 1e-9)), 1)
    return {
        "bucket_s": width,
        "fps_bucket_s": width * group,
        "fps": [
            sum(counts[i : i + group]) / group / width for i in range(0, used - group + 1, group)
        ],
        "queues": {
            name: [total / width for total in gauge.sums[:used]]
            for name, gauge in recorder.queues.items()
        },
    }


def _estimate(estimate: Estimate, scale: float) -> dict[str, float | None]:
    error = None if estimate.error is None else estimate.error * scale
    return {"mean": estimate.mean * scale, "error": error}
