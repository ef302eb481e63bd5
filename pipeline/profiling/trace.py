"""Write a part of the run as a timeline for https://ui.perfetto.dev or chrome://tracing.

The format is the Trace Event Format, JSON Object form: complete events ("X") for the work of a
thread, flow events ("s", "t", "f") that follow a frame from stage to stage, counter events ("C")
for queues and metadata ("M") for names. Times are in microseconds.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.profiling.recorder import Recorder, Step


def build_trace(recorder: Recorder, name: str) -> dict[str, Any]:
    """Return the trace of the first frames of the measurement.

    Each thread of a stage is a track. A frame has a slice in every stage it passed, joined by one
    flow; waiting for input and for room are slices of their own. `name` is that of the sources.
    """
    process = os.getpid()
    stages = list(recorder.stages)
    threads: dict[StageName, list[int]] = defaultdict(list)
    for thread, stage in recorder.owners.items():
        threads[stage].append(thread)
    events = [_meta(process, process, "process_name", name=f"SqueezeDrive {name}")]
    for stage, ids in threads.items():
        for number, thread in enumerate(sorted(ids), start=1):
            title = stage if len(ids) == 1 else f"{stage} {number}"
            events.append(_meta(process, thread, "thread_name", name=title))
            order = stages.index(stage)
            events.append(_meta(process, thread, "thread_sort_index", sort_index=order))
    by_frame: dict[int, list[Step]] = defaultdict(list)
    for step in recorder.steps:
        events += _slices(process, step)
        for number in step.frames:
            by_frame[number].append(step)
    for frame_id, steps in by_frame.items():
        events += _flow(process, frame_id, sorted(steps, key=lambda step: step.taken))
    for depth in recorder.depths:
        events.append(
            {
                "name": f"queue before {depth.queue}",
                "ph": "C",
                "ts": depth.at * 1e6,
                "pid": process,
                "args": {"waiting": depth.level},
            }
        )
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"frames": len(by_frame), "seconds_before": recorder.warmup_seconds},
    }


def _meta(process: int, thread: int, kind: str, **args: Any) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": args}


def _slices(process: int, step: Step) -> list[dict[str, Any]]:
    parts = [
        ("wait for input", "wait", step.start, step.taken, {}),
        (step.stage, "work", step.taken, step.done,
         {"frames": list(step.frames), "cpu_ms": step.cpu * 1e3}),
        ("wait for room", "wait", step.done, step.given, {}),
    ]  # fmt: skip
    return [
        {
            "name": name,
            "cat": category,
            "ph": "X",
            "ts": begin * 1e6,
            "dur": (end - begin) * 1e6,
            "pid": process,
            "tid": step.thread,
            "args": args,
        }
        for name, category, begin, end, args in parts
    ]


def _flow(process: int, frame_id: int, steps: list[Step]) -> list[dict[str, Any]]:
    """Return the arrows from each stage's slice to the next one's."""
    if len(steps) < 2:
        return []
    phases = ["s", *"t" * (len(steps) - 2), "f"]
    events = []
    for phase, step in zip(phases, steps, strict=True):
        event = {
            "name": "frame",
            "cat": "frame",
            "ph": phase,
            "id": frame_id,
            "ts": (step.taken + step.done) / 2 * 1e6,  # inside the slice that it belongs to
            "pid": process,
            "tid": step.thread,
        }
        if phase == "f":
            event["bp"] = "e"  # binds to the slice around it, not to the next one
        events.append(event)
    return events
