"""`python -m engines inspect`: show the TensorRT engines in the cache, or their layers."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.cli.engine_cache import check_machine, mib, open_cache
from squeezedrive.engines.errors import UserError

if TYPE_CHECKING:
    from squeezedrive.engines.backends.tensorrt.cache import Entry

DESCRIPTION = "Show the TensorRT engines in the cache, or the layers of one of them."
EXAMPLES = """\
examples:
  python -m engines inspect                              # what is in the cache
  python -m engines inspect fp16-1248x384                # the layers of an engine
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's option."""
    parser.add_argument(
        "engine", nargs="?", metavar="ENGINE", help="(start of) an engine's name: show its layers"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the engines in the cache, or the layers of one."""
    cache = open_cache()
    entries = cache.entries()
    if arguments.engine is not None:
        print(_layers(_choose(arguments.engine, entries)))
        return
    for entry in entries:
        print(_describe(entry))
    total = sum(entry.size for entry in entries)
    size = f"{mib(total)} of at most {mib(cache.limit)}"
    print(f"engines in {cache.folder}: {len(entries)}, {size}")


def _choose(start: str, entries: list[Entry]) -> Entry:
    chosen = [entry for entry in entries if entry.path.name.startswith(start)]
    if len(chosen) != 1:
        names = ", ".join(entry.path.name for entry in chosen or entries) or "none"
        raise UserError(
            f"expected the start of one engine's name, got {start!r}; there are: {names}"
        )
    return chosen[0]


def _describe(entry: Entry) -> str:
    fields = "".join(f"\n  {name:<19} {value}" for name, value in entry.fields.items())
    return (
        f"{entry.path}\n  {mib(entry.size)}, last used {_age(entry.idle)} ago"
        f"{fields or chr(10) + '  its key cannot be read; it is not used'}"
    )


def _layers(entry: Entry) -> str:
    """Load an engine and describe its layers with TensorRT's inspector."""
    check_machine()
    from squeezedrive.engines.backends.tensorrt.cache import EngineKey
    from squeezedrive.engines.backends.tensorrt.executor import TensorRTExecutor

    trt = import_module("tensorrt")
    try:
        plan = open_cache().load(EngineKey(**entry.fields))
    except TypeError:
        plan = None
    if plan is None:
        raise UserError(f"{entry.path}: is damaged; python -m engines clear-cache removes it")
    with closing(TensorRTExecutor(trt, plan, entry.fields["precision"])) as executor:
        return describe_layers(executor.layers())


def describe_layers(text: str) -> str:
    """Return a line for each layer in the inspector's JSON: kind, name, input and output formats.

    Parameters
    ----------
    text : str
        {"Layers": [...]} as TensorRT writes it, with "Format/Datatype" of each tensor in version
        10, and with "Datatype" and "Format" later. If an engine was built without details, a layer
        is only a name.
    """

    def formats(tensors: list[dict[str, Any]]) -> str:
        kinds = [
            tensor.get("Format/Datatype") or f"{tensor.get('Datatype')} {tensor.get('Format', '')}"
            for tensor in tensors
        ]
        return ", ".join(kind.strip().rstrip(".") for kind in kinds) or "nothing"

    lines = []
    for layer in json.loads(text)["Layers"]:
        if isinstance(layer, str):
            lines.append(layer)
            continue
        ends = " -> ".join(formats(layer.get(end, [])) for end in ("Inputs", "Outputs"))
        lines.append(f"{layer.get('LayerType', '?'):<16} {layer['Name']}: {ends}")
    return "\n".join(lines)


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
