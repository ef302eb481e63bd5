"""Configuration files and command lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

import yaml
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutate import damaged
from tests.fuzz.targets.base import Target, seed_files
from tests.fuzz.targets.media import run_program, without_network
from tests.fuzz.values import json_bytes, odd_documents, odd_lines, odd_texts

VERBS = ("describe", "export", "check-data", "anchors", "import", "inspect", "evaluate")
# Keys that have no value in the package's configuration files.
FILLED = """
record: {segment: 2, keep: 1.5, events: ["car>=1"], before: 1.0, after: 1.0}
preview: {address: "127.0.0.1:0", token: "secret"}
detect: {class_thresholds: {car: 0.5}, classes: [car, pedestrian]}
source: {frames: 2, fps: 10.0, track_index: 0}
track: {enabled: true, every: 2}
"""


def configurations() -> st.SearchStrategy[Case]:
    """Return a strategy for runs with a damaged configuration."""
    from squeezedrive.engines.config_files import CONFIGS

    texts = [(CONFIGS / name).read_text() for name in ("file.yaml", "live.yaml", "profile.yaml")]
    texts.append(FILLED)
    contents = st.one_of(
        *[odd_documents(yaml.safe_load(text)).map(json_bytes) for text in texts],
        odd_documents(yaml.safe_load(FILLED)).map(json_bytes),
        *[odd_lines(text, ": ") for text in texts],
        *[damaged(text.encode()) for text in texts],
    )
    (picture,) = seed_files("alpha.png")
    outputs = (("-o", "out/o.mp4"), ("-o", "out/o.mp4", "--jsonl", "out/o.jsonl"))
    return st.builds(
        lambda content, output: Case(
            ("in/a.png", "-c", "in/c.yaml", "-y", *output), {"c.yaml": content, "a.png": picture}
        ),
        contents,
        st.sampled_from(outputs),
    )


def trainings() -> st.SearchStrategy[Case]:
    """Return a strategy for damaged training configurations."""
    from squeezedrive.engines.training.config import TRAIN_DEFAULTS

    folder = TRAIN_DEFAULTS.parent
    texts = [(folder / name).read_text() for name in ("default.yaml", "plus.yaml", "finetune.yaml")]
    contents = st.one_of(
        *[odd_documents(yaml.safe_load(text)).map(json_bytes) for text in texts],
        *[odd_lines(text, ": ") for text in texts],
        *[damaged(text.encode()) for text in texts],
    )
    verbs = (("describe", "--config", "in/c.yaml"), ("check-data", "in", "--config", "in/c.yaml"))
    return st.builds(
        lambda content, verb: Case(verb, {"c.yaml": content}), contents, st.sampled_from(verbs)
    )


def run_verb(case: Case) -> int:
    """Run a verb of `python -m engines` with the arguments of a case."""
    from squeezedrive.engines.__main__ import main

    return main(list(case.arguments))


def _argument(text: str) -> str:
    """Return the text as an argument: without NUL, and without "/", which may leave the folder."""
    return text.replace("\0", "").replace("/", "_")


arguments = odd_texts.map(_argument)
outputs = st.one_of(
    st.sampled_from(("out/o.mp4", "out/o.jsonl", "out/none/o", "out/d", "-", "in/none/o")),
    arguments.map(lambda text: f"out/x{text}"),
)


def command_lines() -> st.SearchStrategy[Case]:
    """Return a strategy for command lines of the program."""
    from squeezedrive.pipeline.app.arguments import SHORTCUTS
    from squeezedrive.pipeline.sinks.registry import sink_specs

    specs = sink_specs()
    switches = ["--no-video", "--track", "--no-progress", "-y", "--version", "--", "--shw"]
    named = [f"--{spec.option}" for spec in specs if spec.kind != "switch"]
    named += ["--summary", "--profile", "-o"]
    keys = [key for key, _, _ in SHORTCUTS.values()]
    sane = st.sampled_from(("0.5", "1", "2", "car", "auto", "cpu", "car>=1", "127.0.0.1:0", "band"))
    value = st.one_of(sane, arguments, arguments)
    option = st.one_of(
        st.sampled_from(switches).map(lambda name: (name,)),
        st.tuples(st.sampled_from(named), outputs),
        st.tuples(st.sampled_from([f"--{name}" for name in SHORTCUTS]), value),
        st.tuples(st.sampled_from(("--set", "--event", "--sweep", "--log-level", "-c")), value),
        st.builds(lambda key, text: ("--set", f"{key}={text}"), st.sampled_from(keys), value),
    )
    sources = st.one_of(
        st.sampled_from(("in/a.png", "in", "in/a.*", "demo:frames=2", "demo:loop,frames=1")),
        st.sampled_from(("in/a.png", "in/none.mp4", "@in/options", "rtsp://127.0.0.1:1/x", "0")),
        arguments.map(lambda text: f"in/{text}"),
        arguments.map(lambda text: f"demo:{text or 'x'}"),
    )
    (picture,) = seed_files("alpha.png")
    return st.builds(
        lambda many, options, text: Case(
            (*many, "-o", "out/o.mp4", *[word for one in options for word in one]),
            {"a.png": picture, "options": text.encode("utf-8", "surrogatepass")},
        ),
        st.lists(sources, min_size=1, max_size=2),
        st.lists(option, max_size=5),
        st.one_of(arguments, arguments.map("--no-video\n-n\n{}".format)),
    )


def _options(verb: str) -> list[st.SearchStrategy[tuple[str, ...]]]:
    """Return strategies for the options of a verb, each with an odd or a sensible value."""
    from squeezedrive.engines.__main__ import VERBS as modules

    parser = argparse.ArgumentParser()
    import_module(f"squeezedrive.engines.cli.{modules[verb][0]}").add_options(parser)
    found: list[st.SearchStrategy[tuple[str, ...]]] = []
    for action in parser._actions:
        name = action.option_strings[-1:]
        if action.nargs == 0:
            if name and name[0] != "--help":
                found.append(st.just(tuple(name)))
            continue
        values: Sequence[str] = [str(choice) for choice in action.choices or ()]
        # Verbs use "-" as a file name, outside out/.
        places = outputs.map(lambda text: text if text != "-" else "out/-")
        writes = action.dest in ("output", "out", "json", "csv", "kitti", "html", "markdown")
        value = places if writes else st.one_of(
            st.sampled_from([*values, "in", "in/a.png", "1", "0.5", "320x96", "car", "car=bus"]),
            arguments,
        )  # fmt: skip
        found.append(value.map(lambda text, name=name: (*name, text)))
    return found


def verbs() -> st.SearchStrategy[Case]:
    """Return a strategy for command lines of `python -m engines`."""
    (picture,) = seed_files("alpha.png")
    files = {"a.png": picture}
    lines = [
        st.lists(st.one_of(_options(verb)), max_size=5).map(
            lambda options, verb=verb: Case((verb, *[x for one in options for x in one]), files)
        )
        for verb in VERBS
    ]
    return st.one_of(*lines, st.lists(arguments, max_size=3).map(lambda x: Case(tuple(x), files)))


TARGETS = {
    "config": Target(configurations, run_program, 60, 40, without_network),
    "recipe": Target(trainings, run_verb, 45, 30),
    "options": Target(command_lines, run_program, 65, 40, without_network, connects=True),
    "verbs": Target(verbs, run_verb, 55, 30),
}
