"""Conversions of results, and comparisons of profiles."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from tests.fuzz.case import Case, Content
from tests.fuzz.mutate import damaged
from tests.fuzz.targets.base import Target
from tests.fuzz.targets.media import run_program
from tests.fuzz.values import json_bytes, odd_documents

HEADER = {
    "type": "header",
    "model": {"name": "m", "classes": ["car", "pedestrian", "cyclist"]},
    "source": {"name": "drive.mp4", "kind": "file"},
}
FRAMES = [
    {
        "frame": number, "pts": number / 25, "width": 64, "height": 48,
        "detections": [
            {"class": "car", "score": 0.87, "box": [7.25, 28.5, 17.75, 35.0]},
            {"class": "pedestrian", "score": 0.5, "box": [1, 2, 3, 4.5]},
        ][: number % 3],
    }
    for number in range(4)
]  # fmt: skip
FOLLOWED = [
    {
        **frame, "detected": True,
        "detections": [{"id": k + 1, **one} for k, one in enumerate(frame["detections"])],  # type: ignore[arg-type]
    }
    for frame in FRAMES
]  # fmt: skip
OUTPUTS = {
    "--csv": "out/o.csv",
    "--coco": "out/o.json",
    "--kitti": "out/kitti",
    "--mot": "out/mot.txt",
    "--jsonl": "out/o.jsonl",
    "--cvat": "out/o.xml",
    "--parquet": "out/o.parquet",
}


def _text(lines: list[object]) -> bytes:
    return b"\n".join(map(json_bytes, lines)) + b"\n"


def results() -> st.SearchStrategy[Case]:
    """Return a strategy for conversions of damaged results."""
    contents: list[st.SearchStrategy[Content]] = []
    for lines in ([HEADER, *FRAMES], [HEADER, *FOLLOWED], FOLLOWED):
        odd = odd_documents(lines, most=4).map(_text)
        contents += [odd, odd, damaged(_text(list(lines)))]
    outputs = st.lists(st.sampled_from(list(OUTPUTS)), min_size=1, max_size=4, unique=True)
    return st.builds(
        lambda content, options: Case(
            (
                "convert",
                "in/r.jsonl",
                *[x for option in options for x in (option, OUTPUTS[option])],
            ),
            {"r.jsonl": content},
        ),
        st.one_of(contents),
        outputs,
    )


def profiles() -> st.SearchStrategy[Case]:
    """Return a strategy for comparisons with a damaged profile."""
    from squeezedrive.pipeline.profiling.figures import SCHEMA, VERSION

    profile = {
        "schema": SCHEMA, "version": VERSION, "source": "drive.mp4", "model": "m",
        "backend": {"name": "cpu", "precision": "int8"},
        "config": {"backend": "auto", "video": {"preset": "veryfast", "write": True}},
        "fps": {"pipeline": {"mean": 40.0, "error": 0.5}},
        "cpu": {"ms_per_frame": {"mean": 45.0, "error": 0.1}},
        "latency_ms": {"mean": 150.0, "error": 2.0},
        "stages": {"sinks": {"busy_ms": {"mean": 15.0, "error": 0.1}}},
        "verdict": {"limit": "processor", "stage": "inference"},
    }  # fmt: skip
    whole = json.dumps(profile).encode()
    odd = odd_documents(profile).map(json_bytes)
    return st.one_of(odd, odd, damaged(whole)).map(
        lambda content: Case(
            ("compare", "in/a.json", "in/b.json"), {"a.json": whole, "b.json": content}
        )
    )


def run_profiling(case: Case) -> int:
    """Run `python -m pipeline.profiling` with the arguments of a case."""
    from squeezedrive.pipeline.profiling.__main__ import main

    return main(list(case.arguments))


TARGETS = {
    "jsonl": Target(results, run_program, 90, 40),
    "compare": Target(profiles, run_profiling, 40, 20),
}
